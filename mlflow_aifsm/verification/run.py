"""Runs a delivered model against its reference: one pass over the data yields all numbers, the result and its facts.

A verification that cannot run has failed. It is a result like any other, because a log that breaks off would hide it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mlflow_aifsm.errors import AifsmError, InputError
from mlflow_aifsm.facts import Fact
from mlflow_aifsm.record import VerificationResult
from mlflow_aifsm.samples import Batch, Samples
from mlflow_aifsm.sources import Array
from mlflow_aifsm.verification.criterion import NO_REFERENCE, Criterion, Verification, criterion_of
from mlflow_aifsm.verification.decisions import Decisions, decide
from mlflow_aifsm.verification.distance import Distance
from mlflow_aifsm.verification.invariance import NOT_PROBED, invariance
from mlflow_aifsm.verification.outcome import Measurement, could_not_run, outcome
from mlflow_aifsm.verification.outputs import DeviceOutputs, Outputs, reference_run
from mlflow_aifsm.verification.session import Session
from mlflow_aifsm.verification.sessions import session_of

TARGET = "target device"
"""Where outputs come from that were brought here."""
REUSED = "samples_seen_before"
"""Number of different verification samples that trained or calibrated the model too, equal in every byte as given.

Raw samples and the same samples preprocessed differ in their bytes, so 0 does not say that the two sets are apart.
"""

Reference = Callable[[Batch], Outputs] | Path | None
Progress = Callable[[int, int | None], None]
"""Called after each batch with the samples done and their number, None where that is not known."""


def verify(
    candidate: Path,
    reference: Reference,
    verification: Verification,
    default: Criterion,
    progress: Progress | None = None,
    seen: frozenset[str] = frozenset(),
) -> tuple[VerificationResult, list[Fact]]:
    """Runs ``candidate`` and ``reference`` on the same samples and judges what differs.

    The candidate runs as its file is written: an ONNX file in ONNX Runtime with the graph optimizer off. Memory does not grow
    with the number of samples but for a digest, a decision and a label each.

    Args:
        candidate: The delivered file.
        reference: The float model's file, or a function that runs the framework's model on arrays by input name and returns its
            outputs by name, or in the order of the candidate's. None where there is no such model: the candidate's own outputs
            are judged then, or, where the verification brings outputs of the target device, those against the candidate's.
        verification: The data, and what the caller asks.
        default: The criterion where the caller sets none: ``CONVERSION`` or ``OPTIMIZATION``.
        progress: Called after each batch.
        seen: Digests of samples that trained or calibrated the candidate, none of which may verify it; empty where unknown.

    Returns:
        The result, and the facts that were measured. Whatever goes wrong in data, runtime or a caller's function is a failed
        result that says why; nothing is raised but what ends the process.
    """
    compared = candidate if reference is None and verification.outputs is not None else reference
    criterion = criterion_of(verification, default if compared is not None else NO_REFERENCE)
    try:
        session = session_of(candidate)
        criterion = criterion.for_outputs(session.output_types)
        return outcome(_measured(session, compared, verification, progress, seen), criterion)
    except Exception as error:  # noqa: BLE001 -- runtimes and callers' functions raise anything, and each of it is a failure
        return could_not_run(criterion, verification.described, _reason(error))


def _measured(
    session: Session,
    reference: Reference,
    verification: Verification,
    progress: Progress | None,
    seen: frozenset[str],
) -> Measurement:
    samples = Samples.of(verification.described)
    tally = _Tally(session, reference, verification)
    names = [spec.name for spec in session.inputs]
    for batch, labels in samples.batches(verification.batch_size, names, session.ranks):
        tally.add(session.fit(batch), labels)
        if progress is not None:
            progress(tally.done, samples.expected)
    reused = {REUSED: len(seen & samples.sample_digests)} if seen else {}
    numbers, failures = {**tally.close(), **reused}, tally.failures
    return Measurement(samples, tally.runtime, numbers, failures, tally.decisions.recalls, tally.target)


class _Tally:
    """All numbers of one pass, added up batch by batch."""

    def __init__(self, session: Session, reference: Reference, verification: Verification) -> None:
        self._session, self._verification = session, verification
        self._reference = None if reference is None else reference_run(reference, session)
        given = verification.outputs
        self._device = None if given is None else DeviceOutputs(given, session.outputs)
        self._distance, self.decisions = Distance(), Decisions()
        self._invariance: dict[str, float | str] = {}
        if given is not None:
            self._invariance = {NOT_PROBED: "repeat, batch invariance: outputs came from the target device"}

    @property
    def target(self) -> str:
        return "this host" if self._device is None else TARGET

    @property
    def runtime(self) -> str:
        """What ran the delivered model: not this host's runtime where outputs were brought here."""
        if self._device is None:
            return self._session.description
        return f"{TARGET}, {self._verification.runtime or 'runtime not recorded'}"

    @property
    def done(self) -> int:
        return self._distance.samples

    def add(self, batch: Batch, labels: Array | None) -> None:
        count = len(next(iter(batch.values())))
        after = self._session.run(batch) if self._device is None else self._device.take(count)
        if self._device is None and not self.done:
            self._invariance = invariance(self._session, batch, after)
        chosen = self._verification.decision
        # without a reference the candidate stands for it; what only compares the two is left out of the numbers
        before = after if self._reference is None else self._reference(batch)
        decided = decide(after, chosen)
        self.decisions.add(decided if before is after else decide(before, chosen), decided, labels, count)
        self._distance.add(_zeros(after) if before is after else before, after, count)

    def close(self) -> dict[str, float | str]:
        """All numbers by name.

        Raises:
            InputError: If no sample was run, outputs of the device are left, labels do not fit the decisions where no metric of
                the caller judges them, or a metric has nothing to be computed from.
        """
        if not self.done:
            raise InputError("the data hold no sample", expected="at least one")
        if self._device is not None:
            self._device.check_used_up()
        if not self._verification.metrics:
            self.decisions.check_labels()
        numbers = {**self._distance.numbers, **self._probes(), **self.decisions.numbers, **self._metrics()}
        return numbers if self._reference is not None else _of_one_model(numbers)

    @property
    def failures(self) -> tuple[str, ...]:
        """Why the outputs cannot be judged at all, whatever the limits."""
        return tuple(
            reason
            for failed, reason in (
                (
                    self._distance.broken,
                    f"{self._distance.broken} output values are NaN or infinite"
                    + ("" if self._reference is None else ", without infinities that both models share"),
                ),
                (self._invariance.get("repeat_diff"), "two runs of the same batch differ"),
            )
            if failed
        )

    def _probes(self) -> dict[str, float | str]:
        if not self.decisions.unused_labels:
            return self._invariance
        labels = "accuracy: there are labels, but the outputs decide nothing without decision="
        return {**self._invariance, NOT_PROBED: "; ".join(filter(None, (str(self._invariance.get(NOT_PROBED, "")), labels)))}

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


def _zeros(outputs: Batch) -> Batch:
    return {name: np.zeros_like(array) for name, array in outputs.items()}


def _of_one_model(numbers: dict[str, float | str]) -> dict[str, float | str]:
    """The numbers that speak of the candidate alone."""
    alone = ("repeat_diff", "batch_invariance", "non_finite", "worst_class", NOT_PROBED)
    return {name: value for name, value in numbers.items() if name in alone or name.endswith("_after")}


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, AifsmError) else " ".join(f"{type(error).__name__}: {error}".split())
