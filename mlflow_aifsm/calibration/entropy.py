"""The range that loses least information: Kullback-Leibler divergence between the values and their quantized form."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlflow_aifsm.calibration.statistics import Floats, Grid, TensorStatistics

BINS = 2048
"""Even bins from 0 to the largest magnitude, as in Migacz 2017."""

Indices = npt.NDArray[np.int64]


def entropy(statistics: TensorStatistics, grid: Grid) -> tuple[float, float]:
    """The range of least Kullback-Leibler divergence, after Migacz, 8-bit Inference with TensorRT, GTC 2017.

    Candidates are all thresholds t on the magnitude, in steps of 1/2048 of the largest: the range is what [−t, t] leaves of
    the observed one. The reference is the histogram with the clipped values in its last bins, the candidate is the unclipped
    histogram merged into the grid's levels and spread again over the bins that hold values. Unlike the original: the two bins
    around 0 are left out, since the spike a ReLU leaves there, which every range represents exactly, would outweigh all else;
    and there are as many levels as the grid really has in the range, where 128 are too few for a tensor without negative
    values. A grid of more levels than bins leaves nothing to weigh: the range is the observed one then.
    """
    left, right = _candidates(statistics, grid)
    if not len(left):
        return statistics.low, statistics.high
    divergence = _divergences(_histogram(statistics), left, right, grid.levels)
    best = len(left) - 1 - int(np.argmin(divergence[::-1]))  # the widest of equals
    width = statistics.reach / BINS
    low, high = -float(left[best]) * width, float(right[best]) * width
    return max(low, statistics.low), min(high, statistics.high)


def _candidates(statistics: TensorStatistics, grid: Grid) -> tuple[Indices, Indices]:
    """Bins below and above 0 of each candidate, ascending; only those with a bin for every level."""
    most = np.arange(1, BINS + 1, dtype=np.int64)
    if grid.symmetric:
        return most[2 * most >= grid.levels], most[2 * most >= grid.levels]
    ends = [int(np.ceil(max(end, 0.0) / statistics.reach * BINS)) if statistics.reach else 0 for end in _ends(statistics)]
    left, right = (np.minimum(most, end) for end in ends)
    enough = left + right >= grid.levels
    return left[enough], right[enough]


def _ends(statistics: TensorStatistics) -> tuple[float, float]:
    return -statistics.low, statistics.high


def _histogram(statistics: TensorStatistics) -> Floats:
    edges = np.arange(-BINS, BINS + 1, dtype=np.float64) * (statistics.reach / BINS)
    counts = statistics.bins.between(edges)
    counts[BINS - 1 : BINS + 1] = 0
    return counts


def _divergences(counts: Floats, left: Indices, right: Indices, levels: int) -> Floats:
    """Divergence of each candidate, from running sums alone: a level is a difference of two of them."""
    first, last = BINS - left, BINS + right
    edges = first[:, None] + np.arange(levels + 1) * (left + right)[:, None] // levels
    sums, held, self_information = (_running(part) for part in (counts, counts > 0, _xlogx(counts)))
    total, kept = sums[-1], sums[last] - sums[first]
    clipped = np.stack([sums[first], total - sums[last]], 1)
    ends = np.stack([counts[first], counts[last - 1]], 1)
    merged, places = np.diff(sums[edges]), np.diff(held[edges])
    places[:, [0, -1]] += (ends == 0) & (clipped > 0)
    reference = merged.copy()
    reference[:, [0, -1]] += clipped
    own = self_information[last] - self_information[first] + (_xlogx(ends + clipped) - _xlogx(ends)).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.where(reference > 0, reference * np.log(merged / places), 0.0).sum(1)
        divergence: Floats = (own - spread) / total - np.log(total) + np.log(kept)
    return np.where(kept > 0, divergence, np.inf)


def _running(values: npt.NDArray[np.generic]) -> Floats:
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _xlogx(values: Floats) -> Floats:
    product: Floats = values * np.log(np.where(values > 0, values, 1.0))
    return product
