"""Rows of the Model Optimization Log that no step of an optimization fills: what did not happen, and what happened earlier."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow_aifsm.facts import Fact, Facts, State, captured, not_applicable
from mlflow_aifsm.record import Record

PRUNING = ("pruning.framework", "pruning.packages", "pruning.criteria", "pruning.call", "pruning.recovery")
QUANTIZATION = ("quantization.framework", "quantization.packages", "quantization.call", "calibration.method")
TRAINING = {
    "recovery.qat": "no step with fake quantizers ran in this operation: the model was quantized after training",
    "recovery.learned": "no scale was trained in this operation",
}


def not_pruned(facts: Facts) -> list[Fact]:
    """Pruning's rows where no step pruned, with the count of zeros that shows it."""
    zeros = facts.get("zeros.ratio")
    seen = zeros.value.text if zeros and zeros.state in (State.MEASURED, State.CAPTURED) else "zeros were not counted"
    return [not_applicable(name, f"no pruning step ran; {seen}", source="this operation") for name in PRUNING]


def not_quantized(facts: Facts) -> list[Fact]:
    """The rows of calibration, quantization and its recovery where no step quantized, with the measurement that shows it."""
    precision = facts.get("quantizers.precision")
    seen = precision.reason if precision and precision.state is State.NOT_APPLICABLE else "quantizers were not counted"
    names = (*QUANTIZATION, *TRAINING, "recovery.partial")
    return [not_applicable(name, f"no quantization step ran; {seen}", source="this operation") for name in names]


def not_trained(function: str) -> list[Fact]:
    """The rows of training where the model was quantized after it by a call of ``function``."""
    return [not_applicable(name, reason, source=f"call of {function}") for name, reason in TRAINING.items()]


def earlier(parent: Record, facts: Iterable[str] = PRUNING) -> list[Fact]:
    """What an earlier optimization of the input has on record, as seen in its log; rows that did not apply there are left out.

    Args:
        parent: Its record.
        facts: The facts to take.
    """
    entries = {name: parent.entry_of(name) for name in facts}
    source = f"log {parent.log_id} of run {parent.run_id}"
    return [
        captured(
            name, f"{entry.value.text} (earlier, log {parent.log_id})", entry.value.data, source=source, short=entry.value.brief
        )
        for name, entry in entries.items()
        if entry is not None and entry.state in (State.CAPTURED, State.MEASURED, State.DECLARED)
    ]
