"""From numbers to the result of a verification and its facts."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlflow_aifsm.facts import Fact, Finding, Json, captured, jsonable
from mlflow_aifsm.record import VerificationResult
from mlflow_aifsm.samples import Data, Samples
from mlflow_aifsm.verification.criterion import DEFAULT_CLASS_DROP, Criterion
from mlflow_aifsm.verification.decisions import CONFIDENCE, Recall, lost_classes
from mlflow_aifsm.verification.slices import Slice

_BEFORE = ", {accuracy_before:.4f} before"
_NO_WORSE = ", {worst_class_recall_before:.4f} before; no class lost more"
WORST_CLASS = "verification.worst_class_recall"
"""The fact that carries what classes lost."""
FACTS: Mapping[str, tuple[str, str]] = {
    "verification.max_diff": ("max_diff", "{max_diff:.3g}"),
    "verification.p99_diff": ("p99_diff", "{p99_diff:.3g}"),
    "verification.sqnr_db": ("sqnr_db", "{sqnr_db:.1f} dB"),
    "verification.flips": (
        "flips",
        "{flips} of {samples} decisions changed; rate at most {flip_upper_95:.2g} with 95 % confidence",
    ),
    "verification.agreement": ("agreement", "{agreement:.4f} of the decisions are the float model's"),
    "verification.accuracy": ("accuracy_after", "{accuracy_after:.4f}" + _BEFORE),
    "verification.accuracy_drop": ("accuracy_drop", "{accuracy_drop:.4f}"),
    "verification.worst_class_drop": ("worst_class_drop", "{worst_class_drop:.4f}, class {worst_class}"),
    WORST_CLASS: (
        "worst_class_recall",
        "class {worst_class}: {worst_class_recall:.4f} of {worst_class_samples} samples" + _NO_WORSE,
    ),
}
"""Facts that are one number: which one, and its text."""
NAMED = 5
"""Classes that a finding names."""
_LOW_MARGIN = (
    "{flips} of the {samples} samples that the float model decided by the smallest margins (at most {margin:.3g}) changed "
    "their decision, {other_flips} of the other {others}"
)
_SLICE = ("samples", "flips", "before", "after", "drop")


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one pass over the data yielded.

    Attributes:
        samples: The data, read through.
        runtime: Runtime of record.
        numbers: All numbers by name.
        failures: Why the outputs cannot be judged, whatever the criterion.
        recalls: Recall by class, where there are labels.
        target: Where the delivered model's outputs came from.
        slices: The slices of the data, where there are some.
        facts: Facts that were measured beside the pass.
    """

    samples: Samples
    runtime: str
    numbers: Mapping[str, Json]
    failures: tuple[str, ...]
    recalls: tuple[Recall, ...]
    target: str
    slices: tuple[Slice, ...] = ()
    facts: tuple[Fact, ...] = ()

    @property
    def source(self) -> str:
        """Runtime, place and data, each named once."""
        return f"{_placed(self.runtime, self.target)}, on {self.samples.describe()}"


def outcome(measurement: Measurement, default: Criterion) -> tuple[VerificationResult, list[Fact]]:
    """The result of ``measurement`` under the criterion, and all facts that were measured."""
    criterion = default.applied_to(measurement.numbers)
    failures = (*measurement.failures, *_batch_failure(measurement, criterion))
    misses = criterion.misses(measurement.numbers)
    samples = measurement.samples
    result = VerificationResult(
        **_asked(criterion),
        passed=not failures and not misses,
        samples=samples.count,
        data=_titled(samples.name, samples.version),
        data_sha256=samples.digest,
        runtime=measurement.runtime,
        numbers=jsonable(measurement.numbers),
        failure="; ".join(failures),
        target=measurement.target,
    )
    fact = _fact(result, criterion, (*failures, *misses), measurement.recalls)
    return result, [fact, *_number_facts(measurement, criterion), *_part_facts(measurement), *measurement.facts]


def could_not_run(criterion: Criterion, data: Data, reason: str) -> tuple[VerificationResult, list[Fact]]:
    """The failed result of a verification that broke off, and the one fact there is."""
    result = VerificationResult(**_asked(criterion), passed=False, data=_titled(data.name, data.version), failure=reason)
    return result, [_fact(result, criterion, (f"it could not run: {reason}",), ())]


def _asked(criterion: Criterion) -> dict[str, Json]:
    metric = criterion.metric or "none: only finite, repeatable outputs are asked for"
    reason = criterion.justification if criterion.declared else ""
    return {"criterion": criterion.text, "metric": metric, "epsilon": criterion.epsilon, "reason": reason}


def _batch_failure(measurement: Measurement, criterion: Criterion) -> tuple[str, ...]:
    """Without epsilon only NaN fails: dynamic quantization takes its ranges from the batch, and rightly depends on it."""
    difference = float(measurement.numbers.get("batch_invariance", 0.0))
    tolerance = sys.float_info.max if criterion.batch_tolerance is None else criterion.batch_tolerance
    if difference <= tolerance:
        return ()
    return (f"outputs depend on the other samples of the batch: alone and together they differ by {difference:.3g}",)


def _fact(result: VerificationResult, criterion: Criterion, failed: tuple[str, ...], recalls: tuple[Recall, ...]) -> Fact:
    verdict = "failed" if not result.passed else "passed" if result.judged else "no criterion"
    head = f"Verification {verdict}" if result.judged or not result.passed else result.verdict.capitalize()
    why = f": {'; '.join(failed)}" if failed else ""
    limits = f", {criterion.limits_text}" if criterion.epsilon is not None else ""
    reason = f" ({criterion.justification})" if criterion.bounds else ""
    ran = f" {result.samples} samples of {result.data}, {_placed(result.runtime, result.target)}." if result.samples else ""
    text = f"{head}{why}. Criterion: {criterion.text}{limits}{reason}.{ran}"
    content = {"passed": result.passed, "criterion": criterion.text, "limits": criterion.bounds, "reason": result.reason}
    measured = {"samples": result.samples, "data_sha256": result.data_sha256, "numbers": result.numbers, "failed": failed}
    classes = {recall.label: {"samples": recall.samples, "before": recall.before, "after": recall.after} for recall in recalls}
    findings = [_finding(criterion, failed)] if failed else []
    data = {**content, **measured, "recall": classes}
    source = result.runtime or "verification on this host"
    return captured("verification.result", text, data, source=source, short=verdict, findings=findings)


def _finding(criterion: Criterion, failed: tuple[str, ...]) -> Finding:
    effect = "the delivered model does not do what its source model does, as far as was asked"
    return Finding("criterion_missed", asked=criterion.limits_text or criterion.text, measured="; ".join(failed), effect=effect)


def _lost(recalls: tuple[Recall, ...], criterion: Criterion) -> tuple[Finding, ...]:
    """Classes that lost more than chance explains, which accuracy over all hides; none where the criterion judges them."""
    lost = () if criterion.judges_classes else lost_classes(recalls, DEFAULT_CLASS_DROP)
    if not lost:
        return ()
    told = [f"class {one.label}: {one.before:.4f} before, {one.after:.4f} after, of {one.samples} samples" for one in lost]
    more = [f"{len(told) - NAMED} more classes"] if len(told) > NAMED else []
    asked = f"a drop of recall of at most {DEFAULT_CLASS_DROP:g} in each class (tool default), with {CONFIDENCE:.0%} confidence"
    effect = "these classes are recognised less often, which the accuracy over all classes does not show"
    return (Finding("worst_class_lost", asked=asked, measured="; ".join([*told[:NAMED], *more]), effect=effect),)


def _number_facts(measurement: Measurement, criterion: Criterion) -> list[Fact]:
    known = {**measurement.numbers, "samples": measurement.samples.count}
    findings = {WORST_CLASS: _lost(measurement.recalls, criterion)}
    return [
        captured(name, _text(text, known), known[number], source=measurement.source, findings=findings.get(name, ()))
        for name, (number, text) in FACTS.items()
        if number in known
    ]


def _part_facts(measurement: Measurement) -> Iterator[Fact]:
    """What changed in parts of the data: the narrowly decided samples, and the slices."""
    known, count = measurement.numbers, measurement.samples.count
    if "low_margin" in known:
        names = {"samples": "low_margin_samples", "margin": "low_margin", "flips": "low_margin_flips"}
        data = {**{name: known[number] for name, number in names.items()}, "other_flips": known["other_flips"]}
        text = _LOW_MARGIN.format(**data, others=count - data["samples"])
        yield captured("verification.low_margin", text, data, source=measurement.source)
    if measurement.slices:
        slices = {part.name: {key: getattr(part, key) for key in _SLICE} for part in measurement.slices}
        text = "; ".join(map(_slice_text, measurement.slices))
        yield captured("verification.slices", text, slices, source=measurement.source)


def _slice_text(part: Slice) -> str:
    before = "" if part.before is None else f", {part.before:.4f} before"
    accuracy = "" if part.after is None else f", accuracy {part.after:.4f}{before}"
    flips = "" if part.flips is None else f", changed decisions: {part.flips}"
    return f"{part.name}: {part.samples} samples{accuracy}{flips}"


def _text(form: str, known: Mapping[str, object]) -> str:
    """``form`` filled; without a reference there is nothing to say of before."""
    return (form if "accuracy_before" in known else form.removesuffix(_BEFORE)).format(**known)


def _placed(runtime: str, target: str) -> str:
    """Runtime and place; that of a target device names its place itself."""
    return runtime if runtime.startswith(target) else f"{runtime}, {target}"


def _titled(name: str, version: str) -> str:
    return f"{name} version {version}" if version else name
