"""The optimization log of a module that was quantized in memory and exported: what is delivered is the file, and measured."""

from __future__ import annotations

from pathlib import Path

from mlflow_aifsm.autologging import in_memory
from mlflow_aifsm.autologging.in_memory import Changed
from mlflow_aifsm.backends.quantized import Quantized
from mlflow_aifsm.capture.onnx_graph import file_set, opened
from mlflow_aifsm.facts import captured
from mlflow_aifsm.hooks.context import record_optimization
from mlflow_aifsm.hooks.external import ExternalRecording
from mlflow_aifsm.lineage import named
from mlflow_aifsm.operations import found, rows
from mlflow_aifsm.operations.outcome import Outcome
from mlflow_aifsm.record import Supersedes
from mlflow_aifsm.result import Result

FACTS = (
    "input.id",
    "input.digest",
    "asked.precision",
    "asked.technique",
    "quantization.framework",
    "quantization.packages",
    "quantization.call",
    "calibration.method",
    "recovery.bias_correction",
    *rows.TRAINING,
)
"""Facts of a quantization in memory that hold for the file as well."""


def deliver(conversion: Result, made: Changed) -> None:
    """Logs the quantization that ``made`` tells of once more, now that there is a file; the first log is superseded.

    Args:
        conversion: The export, with its log.
        made: The quantization in memory.
    """
    if conversion.path is None:
        return
    with record_optimization(verified_model=named(made.uri)) as log:
        log.supersedes = Supersedes(made.record.run_id, made.record.sha256)
        log.input((), made.record.input_sha256)
        log.add(*made.facts)
        for used in made.data:
            log.data(used.name, used.sha256, used.context)
        _measure(log, conversion.path, made)
        text = f"{made.function} quantized a module in memory, log {made.record.log_id}; the file of this log is its export, "
        log.note(f"{text}Model Conversion Log {conversion.log_id}.")


def _measure(log: ExternalRecording, path: Path, made: Changed) -> None:
    before = in_memory.float_file(made.record.input_sha256)
    log.output(path, against=before)
    done = Outcome(Quantized(path, made.function, {}, {}), log.facts.by_name["quantization.framework"].value.text, (), ())
    log.add(*found.looked_up(log.facts, opened(path), done, log.table("quantizers")), *rows.not_pruned(log.facts))
    if before is None:
        log.note("No file of the float model was exported before, so the file is not compared with one.")
        return
    sizes = [sum(file.size for file in file_set(one)) for one in (before, path)]
    log.add(
        captured("size.ratio", f"{sizes[1] / sizes[0]:.2f} of {sizes[0]:,} bytes", sizes[1] / sizes[0], source="both files")
    )
