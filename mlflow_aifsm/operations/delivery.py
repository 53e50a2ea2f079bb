"""The end of an optimization: the delivered file is measured, looked up against what was asked, and verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow_aifsm.capture.onnx_graph import file_set
from mlflow_aifsm.facts import Fact, captured
from mlflow_aifsm.measurement import measure
from mlflow_aifsm.operations import pruned_facts, quantize_step, rows, steps
from mlflow_aifsm.operations.outcome import Outcome
from mlflow_aifsm.operations.pruned import Pruned, looked_up
from mlflow_aifsm.operations.start import Start
from mlflow_aifsm.operations.steps import Step
from mlflow_aifsm.recording import Recording
from mlflow_aifsm.samples import Samples
from mlflow_aifsm.verification.criterion import OPTIMIZATION, Verification
from mlflow_aifsm.verification.layerwise import layer_facts, layer_sqnr

ONE = 2
"""Rows of an optimization of one step: what went in, and the step."""


@dataclass(frozen=True, slots=True)
class Made:
    """The end of the steps.

    Attributes:
        quantized: What a quantization made; None where nothing was quantized.
        float_path: The float file: what was quantized, or what is delivered.
    """

    quantized: Outcome | None
    float_path: Path

    @property
    def path(self) -> Path:
        """The file to deliver."""
        return self.quantized.quantized.path if self.quantized else self.float_path


def take(log: Recording, start: Start) -> None:
    """Tells the log what goes in, and, where that was optimized before, by which log."""
    log.source_uri = start.source_uri or log.source_uri
    log.input(start.files, start.sha256, start.model_id)
    if start.frozen is not None and (parent := start.frozen.parent) is not None:
        words = f"log {parent.log_id} of run {parent.run_id}, record sha256 {parent.sha256}"
        log.note(f"The input is the outcome of an earlier optimization: {words}.")


def deliver(log: Recording, start: Start, made: Made, dense: Path, pruned: Sequence[Pruned], done: Sequence[Step]) -> None:
    """Measures the file and adds what the log says of the steps.

    Args:
        log: The log.
        start: What the steps started from.
        made: What they made.
        dense: The float file as it was before the first step.
        pruned: The calls that pruned.
        done: All steps; what went in is the first.
    """
    parent = start.frozen.parent if start.frozen else None
    earlier = rows.earlier(parent) if parent is not None and not pruned else []
    known = bool(pruned or earlier)
    measured = log.output(made.path, against=made.float_path if made.quantized else dense, pruning_logged=known)
    given = start.files if dense == start.path else file_set(dense)
    before, after = (sum(file.size for file in files) for files in (given, measured.files))
    log.add(captured("size.ratio", f"{after / before:.2f} of {before:,} bytes", after / before, source="both files"))
    if pruned and made.quantized:
        log.add(*_workload(made.path, dense))
    log.add(*(_pruning(log, made.float_path, dense, pruned, done) if pruned else earlier or rows.not_pruned(log.facts)))
    log.add(*(_quantization(log, made.quantized) if made.quantized else rows.not_quantized(log.facts)))
    log.add(*steps.calls(done))
    if len(done) > ONE or parent is not None:
        log.tables({steps.TABLE: steps.rows(done)})


def verify(log: Recording, dense: Path, verification: Verification, made: Made) -> None:
    """Verifies the delivered file beside the one before the first step.

    Args:
        log: The log.
        dense: The float file before the first step.
        verification: Data and limits.
        made: What the steps made; a quantized file is compared tensor by tensor with the float one that was quantized.
    """
    log.verify(dense, verification, OPTIMIZATION)
    if made.quantized:
        _compare_layers(log, made.float_path, verification)


def _pruning(log: Recording, path: Path, dense: Path, pruned: Sequence[Pruned], done: Sequence[Step]) -> list[Fact]:
    found = [looked_up(path, dense, one, pruned[:number], pruned[number + 1 :]) for number, one in enumerate(pruned)]
    log.note(*(note for one in found for note in one.notes))
    return [*pruned_facts.pruning_facts(pruned, done, found), *pruned_facts.with_findings(log.facts, found)]


def _workload(path: Path, dense: Path) -> list[Fact]:
    """What the file costs beside the one before the first step, and not beside the pruned one that was quantized."""
    return [fact for fact in measure(path, dense, pruning_logged=True).facts if fact.name.startswith("workload.")]


def _quantization(log: Recording, done: Outcome) -> list[Fact]:
    return [*quantize_step.found(log, done), *rows.not_trained(done.quantized.function)]


def _compare_layers(log: Recording, before: Path, verification: Verification) -> None:
    """SQNR at each quantized tensor; what cannot be compared costs a table, not the log."""
    if log.delivered is None or log.verification is None or not log.verification.samples:
        return
    try:
        compared = layer_sqnr(log.delivered, before, Samples.of(verification.described))
    except Exception as error:  # noqa: BLE001 -- runtimes raise anything
        log.note(f"Layers were not compared: {type(error).__name__}: {' '.join(str(error).split())}.")
        return
    if compared:
        log.tables({"layers": compared})
        log.add(layer_facts(compared))
