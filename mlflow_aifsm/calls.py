"""The fact that holds a call: the function, its resolved arguments, and the script that made it."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow_aifsm.capture.source_code import SourceCode
from mlflow_aifsm.facts import Fact, Finding, Json, captured


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
    rest = (
        ""
        if shown is None
        else f"; all {'other ' if printed else ''}arguments are the function's defaults, which record.json holds"
    )
    text = f"{what}{': ' if what else ''}{function}({printed}){rest}. Called from {made_by.text}"
    data = {"function": function, "arguments": dict(arguments), "source": _source_data(made_by), "config": config}
    return captured(fact, text, data, source=f"call of {function}", short=function)


def script_fact(
    made_by: SourceCode,
    fact: str,
    line: str,
    files: Mapping[str, str],
    settings: Json,
    settings_file: str,
    exit_code: int | None,
) -> Fact:
    """A script or command that ran elsewhere, beside the script that tells of it.

    Args:
        made_by: The script or notebook.
        fact: The fact that holds it.
        line: The command, or the name of the script.
        files: SHA-256 by name of the script and of the file with its settings, as far as they are files; both are stored.
        settings: Its settings as JSON; None where they are in a file, or were not told.
        settings_file: Name of the file with its settings; empty if there is none.
        exit_code: How it ended; None where that was not told.
    """
    scripts = {name: digest for name, digest in files.items() if name != settings_file}
    stored = "".join(f" ({'' if name == line else f'{name}, '}sha256 {digest[:12]}…)" for name, digest in scripts.items())
    shown = ", ".join(f"{name}={value!r}" for name, value in settings.items()) if isinstance(settings, Mapping) else ""
    where = f"{settings_file} (sha256 {files[settings_file][:12]}…)" if settings_file else shown
    parts = [f"{line}{stored}", f"configuration: {where or 'not told'}"]
    parts.append("exit code not told" if exit_code is None else f"exit code {exit_code}")
    data = {"command": line, "files": dict(files), "config": settings, "exit_code": exit_code, "source": _source_data(made_by)}
    findings = []
    if exit_code:
        effect = "the tool says that it failed; what it left may be incomplete"
        findings.append(Finding("tool_failed", asked="exit code 0", measured=f"exit code {exit_code}", effect=effect))
    text = f"{'; '.join(parts)}. Told by {made_by.text}"
    return captured(fact, text, data, source="the caller", short=line[:100], findings=findings)


def _source_data(source: SourceCode) -> dict[str, Json]:
    names = ("name", "sha256", "commit", "branch", "remote", "dirty", "notes")
    return {"kind": str(source.kind), **{name: getattr(source, name) for name in names}}
