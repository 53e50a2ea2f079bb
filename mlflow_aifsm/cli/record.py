"""``record``: a file that something else made, logged afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlflow_aifsm.cli.options import FILE, JUDGED, RESULT, WHERE, done, given, options


@click.command("record", short_help="Log a file that another tool made.")
@click.argument("run_id")
@click.argument("file", type=FILE)
@click.option("--kind", type=click.Choice(["conversion", "optimization"]), help="Which log. [default: what FILE looks like]")
@click.option("--against", metavar="FLOAT", callback=given, help="The float ONNX model it was made from, as path or URI.")
@options(*JUDGED, *WHERE, *RESULT)
def record_command(
    run_id: str, file: Path, kind: str | None, against: str | None, output: str | None, as_json: bool, **asked: Any
) -> None:
    """Log a FILE that another tool made, or an earlier session, into the run RUN_ID, finished or not.

    Whatever the file tells is measured. What only its making knew, tool, arguments and host, is not recorded; the log says what
    fills it. FILE is an optimization where it is quantized or --against is given, else a conversion.

    \b
    Examples:
      mlflow-aifsm record 0a1b2c3d… detector.onnx --verified-model detector_4 --responsible 'A. Ito'
      mlflow-aifsm record 0a1b2c3d… int8.onnx --against detector.onnx --verify held-out.npz
    """
    from mlflow_aifsm.operations.from_files import Asked
    from mlflow_aifsm.operations.record_file import record

    done(lambda: record(file, kind, against, Asked(run_id=run_id, **asked)), output, as_json=as_json)
