"""``compare``: logs side by side, what differs first, the best ones marked."""

from __future__ import annotations

import sys

import click

FORMAT = click.option(
    "--format", "format_", metavar="FORMAT", help="terminal, md, html, csv or json. [default: that of -o, else terminal]"
)
OUTPUT = click.option("-o", "--output", metavar="FILE", help="File to write; - for standard output.")
EXPERIMENT = click.option("--experiment", metavar="NAME", help="All logs of the experiment of this name.")
BASELINE = click.option(
    "--baseline", metavar="TARGET", help="The log that differences are taken from. [default: the float model's conversion]"
)
ENDINGS = {".md": "md", ".html": "html", ".htm": "html", ".csv": "csv", ".json": "json"}


@click.command("compare", short_help="Show logs side by side, the best ones marked.")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@EXPERIMENT
@BASELINE
@FORMAT
@OUTPUT
def compare_command(
    targets: tuple[str, ...], experiment: str | None, baseline: str | None, format_: str | None, output: str | None
) -> None:
    """Show logs side by side: what differs, the numbers with their differences from a baseline, and which are the best.

    A TARGET is what the other commands take; models:/NAME is all versions of a registered model, and a run with two logs is
    two rows. A star marks a model where no other one is at least as good in accuracy, size and time, and better in one.
    Models are ranked only where verification data, runtime and the model they began with are the same; what keeps them apart
    is said in words.

    \b
    Examples:
      mlflow-aifsm compare 0a1b2c3d… 4e5f6a7b…
      mlflow-aifsm compare models:/digits-int8                          all its versions
      mlflow-aifsm compare models:/digits-int8/1 models:/digits-int8/2 --baseline models:/digits-frozen/1
      mlflow-aifsm compare --experiment digits -o digits.html           with plots
      mlflow-aifsm compare --experiment digits --format csv -o -
    """
    if bool(targets) == (experiment is not None):
        raise click.UsageError("Name TARGETs, or --experiment NAME.")
    form = _format(format_, output)
    from mlflow_aifsm.comparison.comparing import side_by_side

    compared = side_by_side(targets, experiment, baseline)
    if form == "terminal":
        from mlflow_aifsm.report.comparison_terminal import printed

        printed(compared.comparison)
        return
    from mlflow_aifsm.comparison.writing import saved, written

    if output in (None, "-"):
        sys.stdout.buffer.write(written(compared, form))
        return
    for path in saved(compared, form, str(output)):
        click.echo(path)


def _format(wanted: str | None, output: str | None) -> str:
    """The format that is asked for, else that of the file's name; said to be unknown before anything is read."""
    from pathlib import Path

    named = ENDINGS.get(Path(output or "").suffix.lower(), "")
    form = wanted or named or "terminal"
    if form == "terminal":
        if output not in (None, "-"):
            raise click.UsageError(f"Name the format of {output} with --format.")
        return form
    from mlflow_aifsm.comparison.writing import checked

    return checked(form)
