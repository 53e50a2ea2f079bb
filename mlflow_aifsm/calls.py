"""The fact that holds a call: the function, its resolved arguments, and the script that made it."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow_aifsm.capture.source_code import SourceCode
from mlflow_aifsm.facts import Fact, Json, captured


def call_fact(
    made_by: SourceCode,
    fact: str,
    function: str,
    arguments: Mapping[str, Json],
    shown: Mapping[str, Json] | None = None,
    config: Json = None,
    what: str = "",
) -> Fact:
    """A call with resolved arguments, beside the script that made it.

    Args:
        made_by: The script or notebook.
        fact: The fact that holds it.
        function: The function, with its module.
        arguments: All arguments with resolved defaults.
        shown: Those that the cell prints; all of them if None.
        config: What replays the call, or None where that is not known.
        what: What was asked for, where that is another thing than the arguments.
    """
    printed = ", ".join(f"{name}={value!r}" for name, value in (arguments if shown is None else shown).items())
    rest = "" if shown is None else "; all other arguments are the function's defaults, which record.json holds"
    text = f"{what}{': ' if what else ''}{function}({printed}){rest}. Called from {made_by.text}"
    data = {"function": function, "arguments": dict(arguments), "source": _source_data(made_by), "config": config}
    return captured(fact, text, data, source=f"call of {function}", short=function)


def _source_data(source: SourceCode) -> dict[str, Json]:
    names = ("name", "sha256", "commit", "branch", "remote", "dirty", "notes")
    return {"kind": str(source.kind), **{name: getattr(source, name) for name in names}}
