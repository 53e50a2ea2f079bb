"""Options that several commands have. An empty value is none: an entry point of ``MLproject`` cannot leave an option out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlflow_aifsm.errors import AifsmError

if TYPE_CHECKING:
    from mlflow_aifsm.result import Result

Command = Callable[..., Any]
ARGUMENTS = {"example_inputs": "--example FILE", "data": "--data FILE"}
"""Arguments of the verbs that their remedies ask for, and the options that give them."""


class _File(click.Path):
    """A file that exists, or none where its name is empty."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "" else super().convert(value, param, ctx)


FILE = _File(exists=True, dir_okay=False, path_type=Path)
MODEL = click.argument("model")


def given(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """The value of an option; None where it is empty."""
    return value or None


def _limits(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    """Limits by name; several may stand in one value, with commas between them."""
    found: dict[str, float] = {}
    for part in (part.strip() for value in values for part in value.split(",")):
        name, separator, number = part.partition("=")
        try:
            found |= {name.strip(): float(number)} if part else {}
        except ValueError as error:
            what = "has no value" if not separator else f"is no number: '{number}'"
            raise click.BadParameter(f"'{name}' {what}; write NAME=VALUE, as in accuracy_drop=0.01") from error
    return found


WHERE = (
    click.option("--verified-model", metavar="ID", callback=given, help="The verified learning model: URI, or <id>_<version>."),
    click.option("--responsible", metavar="NAME", callback=given, help="The person who stands for the log."),
    click.option("--log-id", metavar="ID", callback=given, help="Id of the log; a log of the same id is superseded."),
    click.option("--register", metavar="NAME", callback=given, help="Register what is delivered under this name."),
)
RUN = click.option("--run-id", metavar="ID", callback=given, help="Run to write to, finished or not. [default: a new one]")
EXAMPLE = click.option(
    "--example", type=FILE, help="Samples that a PyTorch model takes: an npz or npy. [default: the logged input example]"
)
JUDGED = (
    click.option("--verify", type=FILE, help="Held-out samples: an npz with arrays by input name, and labels."),
    click.option(
        "--limit",
        "limits",
        metavar="NAME=VALUE",
        multiple=True,
        callback=_limits,
        help="What the model must keep, as accuracy_drop=0.01; repeatable.",
    ),
    click.option("--reason", metavar="TEXT", callback=given, help="Why these limits."),
)
RESULT = (
    click.option(
        "-o", "--output", metavar="FILE", callback=given, help="Copy the delivered file here, its external data beside it."
    ),
    click.option("--json", "as_json", is_flag=True, help="The outcome as JSON on standard output, all else on standard error."),
)


def options(*listed: Command) -> Callable[[Command], Command]:
    """A decorator that gives a command the ``listed`` options, in this order."""

    def decorated(command: Command) -> Command:
        for option in reversed(listed):
            command = option(command)
        return command

    return decorated


@contextmanager
def _quiet(*, as_json: bool) -> Iterator[None]:
    """Standard output left to the JSON: what a verb or a framework prints goes to standard error."""
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        yield


@contextmanager
def _in_options() -> Iterator[None]:
    """Remedies that name an argument of a Python call name the option that stands for it."""
    try:
        yield
    except AifsmError as error:
        remedy = error.remedy
        for argument, option in ARGUMENTS.items():
            remedy = remedy.replace(f"pass {argument}=", f"add {option}")
        if remedy == error.remedy:
            raise
        raise type(error)(error.what, got=error.got, expected=error.expected, remedy=remedy) from error


def done(work: Callable[[], Result], output: str | None, *, as_json: bool) -> None:
    """Does ``work``, and hands its outcome over: a copy of the file, JSON; the verb itself prints its summary."""
    from mlflow_aifsm.operations import handing_over
    from mlflow_aifsm.report.json import as_text

    if output:
        handing_over.prepared(output)
    with _in_options(), _quiet(as_json=as_json):
        result = work()
    copy = handing_over.copied(result, output) if output else None
    if as_json:
        click.echo(as_text(handing_over.outcome(result, copy)))
    elif copy:
        click.echo(copy)
