"""``inspect``: what a file is, without run and without MLflow."""

from __future__ import annotations

from pathlib import Path

import click

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("inspect", short_help="Say what an ONNX file is, without a run.")
@click.argument("file", type=FILE)
@click.option("--against", type=FILE, help="The float model it was made from: finds activation functions that were lost.")
@click.option("--json", "as_json", is_flag=True, help="All measured facts as JSON.")
def inspect_command(file: Path, against: Path | None, as_json: bool) -> None:
    """Say what an ONNX FILE is: precision, scheme, granularity, what runs in integers, what training left behind.

    \b
    Examples:
      mlflow-aifsm inspect model_int8.onnx
      mlflow-aifsm inspect model_int8.onnx --against model.onnx
      mlflow-aifsm inspect model_int8.onnx --json | jq .facts
    """
    from mlflow_aifsm.measurement import measure
    from mlflow_aifsm.report.inspection import inspection, inspection_data
    from mlflow_aifsm.report.json import as_text

    found = measure(file, against)
    if as_json:
        click.echo(as_text(inspection_data(found.facts, file.name, found.sha256, found.files, found.tables)))
    else:
        click.echo(inspection(found.facts, file.name, found.sha256))
