"""One range of a tensor by each method, every one containing 0, and what it does to the values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from mlflow_aifsm.calibration.entropy import entropy
from mlflow_aifsm.calibration.observer import Observation
from mlflow_aifsm.calibration.squared_error import least_squared_error
from mlflow_aifsm.calibration.statistics import Grid, Quality, TensorStatistics
from mlflow_aifsm.errors import InputError

Range = tuple[float, float]
Estimator = Callable[[TensorStatistics, Grid, float], Range]

LOST_DB: Mapping[str, float] = MappingProxyType({"entropy": 10.0, "mean_min_max": 20.0})
"""How much less SQNR than at its observed range a range by these methods may leave a tensor; 10 dB is ten times the error.

Both cut off large values by design, so some dB are lost. Divergence does not weigh how far off a clipped value lies. On a
MobileNetV2 the outputs' SQNR was 15 dB with a limit of 3 dB for entropy and about 17 dB, without a clear best, from 8 to 20 dB;
its decisions did not tell these limits apart. A limit is needed all the same: tensors of few values are destroyed without one.

The mean of each sample's extremes leaves out what few samples have, as long as a sample has many values: none of that
network's tensors loses more than 17.1 dB, to better decisions. Of few values a sample, the largest is no outlier: between
layers of 16 to 64 neurons 24.5 to 32.1 dB were lost, with up to 5 of 100 values outside.
"""
PERCENTILE = 99.99
_MIRRORED = Grid(symmetric=True)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The range of one tensor.

    Attributes:
        tensor: Its name.
        method: The estimator that was really used.
        low: Lower end, at most 0.
        high: Upper end, at least 0.
        observed_low: Smallest calibration value.
        observed_high: Largest calibration value.
        clip_fraction: Share of the calibration values outside the range, 0 to 1.
        sqnr_db: Signal to quantization noise on the grid, from the calibration values, in dB.
        note: Why another method than the asked one was used; else empty.
    """

    tensor: str
    method: str
    low: float
    high: float
    observed_low: float
    observed_high: float
    clip_fraction: float
    sqnr_db: float
    note: str = ""


def min_max(statistics: TensorStatistics, grid: Grid, _: float = PERCENTILE) -> Range:
    """From the smallest to the largest value."""
    return _on(grid, statistics, statistics.low, statistics.high)


def max_abs(statistics: TensorStatistics, _grid: Grid, _: float = PERCENTILE) -> Range:
    """From −m to m, the largest magnitude (Wu et al. 2020, arXiv 2004.09602, section 3.4).

    A tensor without negative values has [0, m]: a range below 0 would represent values that the ReLU before it removed, and
    where a quantizer takes the ReLU out because the range does its work, they would come back.
    """
    return _on(_MIRRORED, statistics, statistics.low, statistics.high)


def mean_min_max(statistics: TensorStatistics, grid: Grid, _: float = PERCENTILE) -> Range:
    """From the mean over samples of each sample's minimum to that of its maximum, as NNCF's ``MEAN_MINMAX``."""
    return _on(grid, statistics, statistics.mean_low, statistics.mean_high)


def percentile(statistics: TensorStatistics, grid: Grid, percentage: float = PERCENTILE) -> Range:
    """What [−q, q] leaves of the observed range; q is a percentile of the magnitudes, zeros among them.

    Wu et al. 2020, arXiv 2004.09602, section 3.4: the percentage is what is kept. Where one side reaches less far than q, the
    range ends where the values do, so that none of its levels is lost.
    """
    bins = statistics.bins
    lower = np.where(bins.upper > 0, bins.lower, -bins.upper)
    upper = np.where(bins.upper > 0, bins.upper, -bins.lower)
    order = np.argsort(lower, kind="stable")
    kept = np.cumsum(bins.counts[order])
    wanted = kept[-1] * (percentage / 100)
    at = min(int(np.searchsorted(kept, wanted)), len(kept) - 1)
    share = 1 - (kept[at] - wanted) / bins.counts[order][at]
    reach = float(lower[order][at] + share * (upper[order][at] - lower[order][at]))
    return _on(grid, statistics, max(statistics.low, -reach), min(statistics.high, reach))


def _entropy(statistics: TensorStatistics, grid: Grid, _: float = PERCENTILE) -> Range:
    return _on(grid, statistics, *entropy(statistics, grid))


def _mse(statistics: TensorStatistics, grid: Grid, _: float = PERCENTILE) -> Range:
    return _on(grid, statistics, *least_squared_error(statistics, grid))


ESTIMATORS: Mapping[str, Estimator] = MappingProxyType(
    {
        "max_abs": max_abs,
        "min_max": min_max,
        "mean_min_max": mean_min_max,
        "percentile": percentile,
        "entropy": _entropy,
        "mse": _mse,
    }
)
"""Estimators by the word of the log."""


def estimate(observation: Observation, method: str, grid: Grid, percentile: float = PERCENTILE) -> dict[str, Estimate]:
    """The range of every observed tensor by ``method``, by tensor.

    The graph's inputs keep their observed range: what a sensor gives is bounded already, and a clipped input is lost to every
    layer. Entropy and the mean over samples also leave every tensor at its observed range that their own would destroy.

    Args:
        observation: What ``observe`` saw.
        method: A word of ``ESTIMATORS``.
        grid: What ranges are divided into.
        percentile: Percentage of the magnitudes that the method of that name keeps, above 0, at most 100.

    Raises:
        InputError: If the method is unknown or the percentage impossible.
    """
    if method not in ESTIMATORS:
        raise InputError("unknown range estimator", got=method, expected=", ".join(ESTIMATORS))
    if not 0 < percentile <= 100:  # noqa: PLR2004
        raise InputError("percentile", got=percentile, expected="a percentage above 0, at most 100")
    return {
        name: _estimate(statistics, method, grid, percentile, name in observation.inputs)
        for name, statistics in observation.tensors.items()
    }


def _estimate(statistics: TensorStatistics, method: str, grid: Grid, percentage: float, fed: bool) -> Estimate:
    found = ESTIMATORS[method](statistics, grid, percentage)
    quality = statistics.quality(*found, grid)
    note = _objection(statistics, method, grid, found, quality, fed)
    if note:
        method, found = "min_max", min_max(statistics, grid)
        quality = statistics.quality(*found, grid)
    ends = (*found, statistics.low, statistics.high, quality.clip_fraction, quality.sqnr_db)
    return Estimate(statistics.name, method, *ends, note)


def _objection(statistics: TensorStatistics, method: str, grid: Grid, found: Range, quality: Quality, fed: bool) -> str:
    """Why ``found`` must not be used; empty if it may."""
    if found == (0.0, 0.0) and statistics.reach:
        return f"{method} leaves no range: min_max used instead"
    if fed and quality.clip_fraction:
        return "an input of the graph: min_max used instead"
    if method not in LOST_DB:
        return ""
    usual = statistics.quality(*min_max(statistics, grid), grid)
    if quality.sqnr_db < usual.sqnr_db - LOST_DB[method]:
        clipped = f"{method} clipped {quality.clip_fraction:.2%} at {quality.sqnr_db:.1f} dB"
        return f"{clipped} ({usual.sqnr_db:.1f} dB at min_max): min_max used instead"
    return ""


def _on(grid: Grid, statistics: TensorStatistics, low: float, high: float) -> Range:
    """The range made to contain 0, and on a symmetric grid as long to both sides; below 0 only where values are."""
    low, high = min(low, 0.0) + 0.0, max(high, 0.0) + 0.0  # adding 0.0 makes 0.0 of −0.0
    if not grid.symmetric or statistics.non_negative:
        return low, high
    reach = max(-low, high)
    return -reach, reach
