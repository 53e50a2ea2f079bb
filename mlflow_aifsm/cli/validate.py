"""``validate-tool``: the tool's own validation record."""

from __future__ import annotations

import sys
from pathlib import Path

import click

FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command("validate-tool", short_help="Inject faults, and say which the tool finds.")
@click.option("-o", "--output", type=FOLDER, help="Folder for validation.html and validation.json.")
@click.option("--list", "only_list", is_flag=True, help="Say which faults are injected, and stop.")
def validate_tool_command(output: Path | None, only_list: bool) -> None:
    """Inject faults into models trained on the spot, and say whether this tool finds each, and accuses no good model.

    It takes about two minutes, uses a database of its own in a temporary folder, and leaves the record where later logs of the
    same environment look for it; each log names it. It supports what IEC 61508-3 7.4.4.7 asks of a tool's validation.

    \b
    Exit codes: 0 every fault caught, no good model accused · 4 otherwise

    \b
    Examples:
      mlflow-aifsm validate-tool
      mlflow-aifsm validate-tool -o validation/
      mlflow-aifsm validate-tool --list
    """
    from mlflow_aifsm.progress import progress
    from mlflow_aifsm.validation import runner, terminal

    if only_list:
        terminal.listed(runner.trials({**runner.FAULTS, **runner.GOOD}))
        return
    with progress("validating") as shown:
        record = runner.validate(shown)
    terminal.told(record)
    for path in runner.kept(record, output):
        click.echo(path)
    click.echo(record.summary)
    sys.exit(0 if record.passed else 4)
