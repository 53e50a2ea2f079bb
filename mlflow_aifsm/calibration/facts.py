"""What the log says of a calibration: the method with its data, the largest loss, tables of ranges and distributions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from mlflow_aifsm.calibration.estimators import Estimate
from mlflow_aifsm.calibration.reading import Seen
from mlflow_aifsm.calibration.statistics import Grid, TensorStatistics
from mlflow_aifsm.facts import Fact, Finding, Json, captured
from mlflow_aifsm.samples import Samples

WORDS: Mapping[str, str] = MappingProxyType(
    {
        "max_abs": "Maximum absolute value seen during calibration",
        "min_max": "Minimum and maximum value seen during calibration",
        "mean_min_max": "Mean over samples of each sample's minimum and maximum",
        "percentile": "Percentile {percentile:g} of the distribution of absolute values",
        "entropy": "Entropy (KL divergence), {levels:,} levels",
        "mse": "Least mean squared quantization error, {levels:,} levels",
    }
)
"""The methods of ``estimators.ESTIMATORS`` as the log says them."""
CLIPPED, POOR_DB = 0.01, 12.0
"""Share of a tensor's values outside its range, and SQNR in dB, at which the range is said to clip; both must be passed.

Neither tells alone: on a MobileNetV2 the usual methods cut off up to 8 % of a tensor at 28 dB, and left others 7 dB with 0.3 %
outside; percentile 99, which is known to fail there, cut off 1 % at 5 dB. On small networks they stayed above 16 dB.
"""
SOURCE = "the calibration of this operation, and the samples it read"


def words(method: str, grid: Grid, percentile: float) -> str:
    """A method of ``estimators.ESTIMATORS`` in the words of the log, with its parameter."""
    return WORDS[method].format(levels=grid.levels, percentile=percentile)


def method_fact(
    phrase: str,
    short: str,
    seen: Seen,
    samples: Samples,
    asked: int,
    *,
    preprocess: str,
    estimates: Mapping[str, Estimate] | None = None,
    parameters: Mapping[str, Json] | None = None,
    source: str = SOURCE,
) -> Fact:
    """How ranges of activations were set, on which data: fact ``calibration.method``.

    Args:
        phrase: The method in words, with its parameters.
        short: The method in one word.
        seen: What was read of the data.
        samples: The data.
        asked: Number of samples that were asked for.
        preprocess: Name of the preprocessing function that this tool called; empty for none.
        estimates: The ranges by tensor, where this tool found them.
        parameters: Parameters of the method.
        source: Where this is known from.
    """
    data = {
        "method": short,
        "parameters": dict(parameters or {}),
        "asked": asked,
        "consumed": seen.consumed,
        "data": samples.name,
        "version": samples.version,
        "sha256": samples.digest,
        "classes": seen.classes,
        "preprocess": preprocess,
    }
    parts = [phrase, f"ranges from {seen.consumed:,} of {asked:,} samples asked", f"data: {samples.describe()}"]
    parts += [f"preprocessing: {preprocess or 'none by this tool'}", _classes(seen)]
    parts += [f"one value everywhere in input {', '.join(seen.constant)}"] if seen.constant and not seen.alike else []
    if estimates:
        worst = _most_clipped(estimates)
        data |= {"clip_fraction": worst.clip_fraction, "replaced": {one.tensor: one.note for one in _replaced(estimates)}}
        parts += [*_replacements(estimates), f"largest clip fraction {_clipped(worst)}"]
    text = "; ".join(filter(None, parts))
    findings = [*_findings(seen, samples, asked), *_clips(estimates or {})]
    return captured("calibration.method", text, data, source=source, short=short, findings=findings)


def clip_fact(estimates: Mapping[str, Estimate], source: str = SOURCE) -> Fact:
    """Largest share of a tensor's calibration values outside its range: fact ``calibration.clip_fraction``."""
    worst = _most_clipped(estimates)
    return captured("calibration.clip_fraction", _clipped(worst), worst.clip_fraction, source=source)


def table(estimates: Mapping[str, Estimate]) -> list[dict[str, Json]]:
    """Rows of table ``calibration``, one a tensor; an infinite SQNR, of a tensor without quantization error, is None."""
    return [
        {
            "tensor": one.tensor,
            "method": one.method,
            "calibrated_min": one.low,
            "calibrated_max": one.high,
            "observed_min": one.observed_low,
            "observed_max": one.observed_high,
            "clip_fraction": one.clip_fraction,
            "sqnr_db": one.sqnr_db if math.isfinite(one.sqnr_db) else None,
            "note": one.note,
        }
        for one in estimates.values()
    ]


def distributions(
    tensors: Mapping[str, TensorStatistics], estimates: Mapping[str, Estimate], worst: int = 6
) -> list[dict[str, Json]]:
    """Rows of table ``distributions``: 64 bins of each of the ``worst`` tensors by SQNR, with the range that was chosen."""
    chosen = sorted(estimates.values(), key=lambda one: (one.sqnr_db, one.tensor))[:worst]
    return [row for one in chosen for row in _bins(tensors[one.tensor], one)]


def _bins(statistics: TensorStatistics, one: Estimate) -> Iterator[dict[str, Json]]:
    edges, counts = statistics.histogram()
    for low, high, count in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True):
        bins = {"tensor": one.tensor, "bin_low": low, "bin_high": high, "count": count}
        yield {**bins, "calibrated_min": one.low, "calibrated_max": one.high}


def _classes(seen: Seen) -> str:
    if seen.other_labels:
        return "classes not known: the labels are no classes, but several values a sample or numbers that are not whole"
    if seen.classes is None:
        return "classes not known: the data have no class labels"
    return f"{seen.classes:,} class{'' if seen.classes == 1 else 'es'} covered"


def _most_clipped(estimates: Mapping[str, Estimate]) -> Estimate:
    return max(estimates.values(), key=lambda one: one.clip_fraction)


def _clipped(one: Estimate) -> str:
    return f"{100 * one.clip_fraction:.2g} % in {one.tensor}" if one.clip_fraction else "0 %"


def _replaced(estimates: Mapping[str, Estimate]) -> list[Estimate]:
    return [one for one in estimates.values() if one.note]


def _replacements(estimates: Mapping[str, Estimate]) -> list[str]:
    replaced = _replaced(estimates)
    return [f"{replaced[0].method} instead in {len(replaced)} of {len(estimates)} tensors"] if replaced else []


def _clips(estimates: Mapping[str, Estimate]) -> Iterator[Finding]:
    cut = [one for one in estimates.values() if one.clip_fraction >= CLIPPED and one.sqnr_db < POOR_DB]
    if cut:
        worst = min(cut, key=lambda one: (one.sqnr_db, one.tensor))
        asked = f"ranges with less than {CLIPPED:.0%} of a tensor's values outside, or with {POOR_DB:g} dB"
        measured = f"{len(cut)} of {len(estimates)} ranges clip; the worst {_clipped(worst)} at {worst.sqnr_db:.1f} dB"
        effect = "large activations all become the end of their range, whether or not the verification data show it"
        yield Finding("calibration_clips", asked=asked, measured=measured, effect=effect)


def _findings(seen: Seen, samples: Samples, asked: int) -> Iterator[Finding]:
    read = f"{seen.consumed:,} sample{'' if seen.consumed == 1 else 's'}"
    if seen.consumed < asked:
        effect = "ranges rest on less data than was asked for"
        yield Finding("fewer_calibration_samples", asked=f"{asked:,} samples", measured=read, effect=effect)
    if seen.classes == 1:
        effect = "ranges know one class only; activations of all others may be clipped"
        measured = f"1 class in {read}"
        yield Finding("one_class_calibration", asked="samples of several classes", measured=measured, effect=effect)
    if seen.alike or len(samples.sample_digests) == 1:
        constant = f"input {', '.join(seen.constant)} has one value everywhere" if seen.alike else "1 distinct sample"
        effect = "ranges do not show what the model meets in operation"
        measured = f"{constant} in {read}"
        yield Finding("constant_calibration_data", asked="samples that differ", measured=measured, effect=effect)
