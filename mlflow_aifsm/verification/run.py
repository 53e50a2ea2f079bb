"""Runs a delivered model against its reference: one pass over the data yields all numbers, the result and its facts.

A verification that cannot run has failed. It is a result like any other, because a log that breaks off would hide it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mlflow_aifsm.errors import AifsmError
from mlflow_aifsm.facts import Fact
from mlflow_aifsm.record import VerificationResult
from mlflow_aifsm.samples import Batch, Samples
from mlflow_aifsm.verification.criterion import NO_REFERENCE, Criterion, Verification, criterion_of
from mlflow_aifsm.verification.latency import speedup
from mlflow_aifsm.verification.outcome import Measurement, could_not_run, outcome
from mlflow_aifsm.verification.outputs import Outputs, reference_run
from mlflow_aifsm.verification.session import Session
from mlflow_aifsm.verification.sessions import session_of
from mlflow_aifsm.verification.tally import Tally

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
    with the number of samples but for a digest, a decision, a label and a margin each.

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
        measurement = _measured(session, compared, verification, progress, seen)
        if verification.latency:
            clock = speedup(candidate, compared, verification)
            measurement = replace(measurement, numbers={**measurement.numbers, **clock.numbers}, facts=(clock.fact,))
        return outcome(measurement, criterion)
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
    tally = Tally(session, None if reference is None else reference_run(reference, session), verification)
    names = [spec.name for spec in session.inputs]
    for batch, labels in samples.batches(verification.batch_size, names, session.ranks):
        tally.add(session.fit(batch), labels)
        if progress is not None:
            progress(tally.done, samples.expected)
    reused = {REUSED: len(seen & samples.sample_digests)} if seen else {}
    numbers, failures = {**tally.close(), **reused}, tally.failures
    return Measurement(samples, tally.runtime, numbers, failures, tally.decisions.recalls, tally.target, tally.slices)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, AifsmError) else " ".join(f"{type(error).__name__}: {error}".split())
