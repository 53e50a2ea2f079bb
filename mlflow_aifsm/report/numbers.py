"""The numbers of a verification in words: what each is called, its unit, and how it stands to its limit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from mlflow_aifsm.facts import Json
from mlflow_aifsm.record import VerificationResult
from mlflow_aifsm.report.words import brief, readable

LIMIT = re.compile(r"(\w+) ([≤≥]) (\S+)")
"""One limit as a criterion writes it: ``accuracy_drop ≤ 0.01``."""

OPPOSITE: Mapping[str, str] = {"≤": ">", "≥": "<"}

DIFFERENCES = ("max", "p999", "p99", "mean")
"""Limits whose number is called ``<limit>_diff``."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What a number is called in the report, and how its value is written; ``samples`` is the number of samples."""

    words: str
    written: Callable[[float, int], str] = lambda value, _: brief(value)


def _percent(value: float, _: int) -> str:
    return f"{100 * value:.4g} %"


def _repeated(value: float, _: int) -> str:
    return brief(value) if value else "0 (bit-equal: yes)"


MEASURES: Mapping[str, Mapping[str, Measure]] = {
    "Difference of the outputs": {
        "max_diff": Measure("Largest absolute difference of outputs (output units)"),
        "p999_diff": Measure("99.9th percentile of absolute differences (output units)"),
        "p99_diff": Measure("99th percentile of absolute differences (output units)"),
        "mean_diff": Measure("Mean absolute difference (output units)"),
        "sqnr_db": Measure("Signal to quantization noise ratio, SQNR (dB)"),
        "worst_sample": Measure("Sample with the largest difference", lambda value, _: f"number {value:,.0f}, counted from 0"),
        "non_finite": Measure("Values that are NaN, or infinite without an equal infinity in the reference"),
        "infinite_in_both": Measure("Values that are the same infinity in both models, left out of the differences"),
        "samples_seen_before": Measure("Samples seen in training or calibration, compared byte for byte as given"),
    },
    "Decisions": {
        "flips": Measure("Decisions changed", lambda value, samples: f"{value:,.0f} of {samples:,}"),
        "flip_upper_95": Measure("Rate of changed decisions, upper 95 % bound (Clopper-Pearson)", _percent),
        "agreement": Measure("Decisions that agree", _percent),
    },
    "Repeatability": {
        "repeat_diff": Measure("Largest difference of two runs of the same batch (output units)", _repeated),
        "batch_invariance": Measure("Largest difference of a batch of one against a batch of many (output units)"),
        "not_probed": Measure("Not probed, and why"),
    },
}
"""Numbers by group, in the order of the report; a number that is not listed is printed under its own name."""

STEMS: Mapping[str, str] = {"worst_class_recall": "Recall of the class that lost most", "accuracy": "Accuracy"}
"""Numbers that were taken of the reference (``<stem>_before``) and of the delivered model (``<stem>_after``)."""

SHORT: Mapping[str, str] = {
    "max_diff": "largest difference",
    "p999_diff": "99.9th percentile of differences",
    "p99_diff": "99th percentile of differences",
    "mean_diff": "mean difference",
    "sqnr_db": "SQNR (dB)",
    "flips": "decisions changed",
    "flip_upper_95": "upper 95 % bound of the rate of changed decisions",
    "agreement": "share of decisions that agree",
    "worst_class_drop": "drop of recall in the class that lost most",
}
"""What a limited number is called in a line."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit and the number it limits; ``value`` is None where that was not measured."""

    number: str
    sign: str
    bound: str
    value: Json

    @property
    def words(self) -> str:
        """``accuracy drop ≤ 0.01``."""
        return f"{named(self.number)} {self.sign} {self.bound}"

    @property
    def outcome(self) -> str:
        """``largest difference 2.9e-06 ≤ 0.0001``, or with ``>`` where it does not hold."""
        if not isinstance(self.value, int | float):
            return f"{named(self.number)} not measured, limit {self.sign} {self.bound}"
        bound = float(self.bound)
        held = self.value <= bound if self.sign == "≤" else self.value >= bound
        return f"{named(self.number)} {_apart(self.value, bound)} {self.sign if held else OPPOSITE[self.sign]} {self.bound}"


def named(number: str) -> str:
    """The words for a number in the middle of a line."""
    return SHORT.get(number, number.replace("_", " "))


def limits(result: VerificationResult) -> tuple[Limit, ...]:
    """The limits a verification was judged by, epsilon among them."""
    if result.epsilon is not None:
        return (Limit("max_diff", "≤", f"{result.epsilon:g}", result.numbers.get("max_diff")),)
    found = (LIMIT.fullmatch(part) for part in (result.criterion.split(", ") if result.judged else ()))
    return tuple(_limit(match, result.numbers) for match in found if match and _is_number(match[3]))


def set_by(result: VerificationResult) -> str:
    """Whose the limits are, and why."""
    return result.reason or "tool default, not justified"


def decisive(result: VerificationResult) -> str:
    """The numbers that decided, each beside its limit: ``accuracy 0.9815 → 0.9796, drop 0.0019 ≤ 0.01``."""
    return "; ".join(_told(limit, result.numbers) for limit in limits(result))


def singles(result: VerificationResult) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
    """Groups of numbers that stand alone: title, and each number's words and value; those without a name last."""
    numbers, paired = result.numbers, {name for stem in stems(result) for name in _parts(stem)}
    for title, measures in MEASURES.items():
        rows = tuple(
            (measure.words, _written(measure, numbers[name], result.samples))
            for name, measure in measures.items()
            if name in numbers
        )
        if rows:
            yield title, rows
    known = {name for measures in MEASURES.values() for name in measures} | paired | {"worst_class"}
    if rest := tuple((name.replace("_", " "), readable(value)) for name, value in sorted(numbers.items()) if name not in known):
        yield "Further numbers", rest


def stems(result: VerificationResult) -> tuple[str, ...]:
    """What was measured before and after: ``accuracy``, the recall of the worst class, the caller's own metrics."""
    found = (name.removesuffix("_before") for name in sorted(result.numbers) if name.endswith("_before"))
    return tuple(stem for stem in found if f"{stem}_after" in result.numbers)


def pairs(result: VerificationResult) -> Iterator[tuple[str, str, str, str]]:
    """Each measure that was taken twice: its words, before, after, and before minus after."""
    for stem in stems(result):
        words = STEMS.get(stem, stem.replace("_", " "))
        if stem == "worst_class_recall" and "worst_class" in result.numbers:
            words += f" (class {readable(result.numbers['worst_class'])})"
        before, after, drop = (result.numbers.get(name) for name in _parts(stem))
        yield words, brief(before), brief(after), "" if drop is None else brief(drop)


def _apart(value: float, bound: float) -> str:
    """``value`` with two significant digits, with all of them where fewer would put it on its limit."""
    short = f"{value:.2g}"
    apart = float(short) != bound and (float(short) < bound) == (value < bound)
    return short if apart or value == bound else repr(value)


def _parts(stem: str) -> tuple[str, str, str]:
    drop = "worst_class_drop" if stem == "worst_class_recall" else f"{stem}_drop"
    return f"{stem}_before", f"{stem}_after", drop


def _written(measure: Measure, value: Json, samples: int) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return readable(value)
    return measure.written(value, samples)


def _limit(match: re.Match[str], numbers: Mapping[str, Json]) -> Limit:
    name, sign, bound = match[1], match[2], match[3]
    number = f"{name}_diff" if name in DIFFERENCES else name
    return Limit(number, sign, bound, numbers.get(number))


def _told(limit: Limit, numbers: Mapping[str, Json]) -> str:
    stem = limit.number.removesuffix("_drop")
    before, after = (numbers.get(f"{stem}_{when}") for when in ("before", "after"))
    if stem == limit.number or not _numbers((before, after)):
        return limit.outcome
    return f"{stem.replace('_', ' ')} {before:.4f} → {after:.4f}, {limit.outcome.removeprefix(f'{named(stem)} ')}"


def _numbers(values: Iterable[Json]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
