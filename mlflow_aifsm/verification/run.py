"""Runs a delivered model against its reference: one pass over the data yields all numbers, the result and its facts.

A verification that cannot run has failed. It is a result like any other, because a log that breaks off would hide it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlflow_aifsm.errors import AifsmError, InputError
from mlflow_aifsm.facts import Fact
from mlflow_aifsm.record import VerificationResult
from mlflow_aifsm.samples import Batch, Samples
from mlflow_aifsm.sources import Array
from mlflow_aifsm.verification.criterion import Criterion, Verification, criterion_of
from mlflow_aifsm.verification.decisions import Decisions, decide
from mlflow_aifsm.verification.distance import Distance
from mlflow_aifsm.verification.invariance import invariance
from mlflow_aifsm.verification.outcome import Measurement, could_not_run, outcome
from mlflow_aifsm.verification.outputs import DeviceOutputs, Outputs, reference_run
from mlflow_aifsm.verification.session import OnnxSession

Reference = Callable[[Batch], Outputs] | Path
Progress = Callable[[int, int | None], None]
"""Called after each batch with the samples done and their number, None where that is not known."""


def verify(
    candidate: Path, reference: Reference, verification: Verification, default: Criterion, progress: Progress | None = None
) -> tuple[VerificationResult, list[Fact]]:
    """Runs ``candidate`` and ``reference`` on the same samples and judges what differs.

    The candidate runs in ONNX Runtime with its graph optimizer off. Memory does not grow with the number of samples but for a
    digest, a decision and a label each.

    Args:
        candidate: The delivered ONNX file.
        reference: The float model's ONNX file, or a function that runs the framework's model on arrays by input name and
            returns its outputs by name, or in the order of the candidate's.
        verification: The data, and what the caller asks.
        default: The criterion where the caller sets none: ``CONVERSION`` or ``OPTIMIZATION``.
        progress: Called after each batch.

    Returns:
        The result, and the facts that were measured. Whatever goes wrong in data, runtime or a caller's function is a failed
        result that says why; nothing is raised but what ends the process.
    """
    criterion = criterion_of(verification, default)
    try:
        return outcome(_measured(candidate, reference, verification, progress), criterion)
    except Exception as error:  # noqa: BLE001 -- runtimes and callers' functions raise anything, and each of it is a failure
        return could_not_run(criterion, verification.described, _reason(error))


def _measured(candidate: Path, reference: Reference, verification: Verification, progress: Progress | None) -> Measurement:
    session, samples = OnnxSession(candidate), Samples.of(verification.described)
    tally = _Tally(session, reference, verification)
    names = [spec.name for spec in session.inputs]
    for batch, labels in samples.batches(verification.batch_size, names, session.ranks):
        tally.add(session.fit(batch), labels)
        if progress is not None:
            progress(tally.done, samples.expected)
    numbers, failures = tally.close(), tally.failures
    return Measurement(samples, session.description, numbers, failures, tally.decisions.recalls, tally.target)


class _Tally:
    """All numbers of one pass, added up batch by batch."""

    def __init__(self, session: OnnxSession, reference: Reference, verification: Verification) -> None:
        self._session, self._verification = session, verification
        self._reference = reference_run(reference, session)
        given = verification.outputs
        self._device = None if given is None else DeviceOutputs(given, session.outputs)
        self._distance, self.decisions = Distance(), Decisions()
        self._invariance: dict[str, float] = {}

    @property
    def target(self) -> str:
        return "this host" if self._device is None else "target device"

    @property
    def done(self) -> int:
        return self._distance.samples

    def add(self, batch: Batch, labels: Array | None) -> None:
        count = len(next(iter(batch.values())))
        after = self._session.run(batch) if self._device is None else self._device.take(count)
        if self._device is None and not self.done:
            self._invariance = invariance(self._session, batch, after)
        before = self._reference(batch)
        chosen = self._verification.decision
        self.decisions.add(decide(before, chosen), decide(after, chosen), labels, count)
        self._distance.add(before, after, count)

    def close(self) -> dict[str, float | str]:
        """All numbers by name.

        Raises:
            InputError: If no sample was run, outputs of the device are left, or a metric has nothing to be computed from.
        """
        if not self.done:
            raise InputError("the data hold no sample", expected="at least one")
        if self._device is not None:
            self._device.check_used_up()
        return {**self._distance.numbers, **self._invariance, **self.decisions.numbers, **self._metrics()}

    @property
    def failures(self) -> tuple[str, ...]:
        """Why the outputs cannot be judged at all, whatever the limits."""
        return tuple(
            reason
            for failed, reason in (
                (
                    self._distance.broken,
                    f"{self._distance.broken} output values are NaN or infinite in one of the two models only",
                ),
                (self._invariance.get("repeat_diff"), "two runs of the same batch differ"),
            )
            if failed
        )

    def _metrics(self) -> dict[str, float | str]:
        found: dict[str, float | str] = {}
        for name, metric in (self._verification.metrics or {}).items():
            labels, before, after = self.decisions.labels, self.decisions.before, self.decisions.after
            if not len(labels) or not len(before):
                missing, remedy = ("labels", "labels=") if not len(labels) else ("decisions", "decision=")
                raise InputError(f"metric '{name}' has no {missing}", remedy=f"pass {remedy} to Verification")
            was, became = float(metric(labels, before)), float(metric(labels, after))
            found |= {f"{name}_before": was, f"{name}_after": became, f"{name}_drop": was - became}
        return found


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, AifsmError) else " ".join(f"{type(error).__name__}: {error}".split())
