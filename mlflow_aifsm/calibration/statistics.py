"""What calibration keeps of a tensor: counts of its values by bfloat16 bucket, and its exact extremes.

The bucket of a value is the upper half of its float32 pattern: sign, exponent, seven bits of mantissa. No range has to be known
beforehand and none grows, so counts do not depend on the order or the batches in which samples come, 512 KiB hold them for any
number of samples, and a bucket is at most 1/128 of its value wide. Inside a bucket values are taken as evenly spread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mlflow_aifsm.sources import Array

Floats = npt.NDArray[np.float64]

BUCKETS = 65_536
_INFINITY, _NEGATIVE = 0x7F80, 0x8000
"""Patterns of bfloat16: plus infinity, minus zero."""
_NARROW = 1e-3
"""Buckets narrower than this many quantization steps count as a point: the difference is below 1e-7 squared steps."""


def _magnitudes() -> Floats:
    """Edges of the buckets of magnitudes, ascending; the last is 2^128, which float32 writes as infinity."""
    edges = (np.arange(1, _INFINITY + 1, dtype=np.uint32) << 16).view(np.float32).astype(np.float64)
    edges[-1] = 2.0**128
    return edges


_EDGES: Final = _magnitudes()
_LOWER: Final = np.concatenate([-_EDGES[:0:-1], [0.0], _EDGES[:-1]])
_UPPER: Final = np.concatenate([-_EDGES[-2::-1], [0.0], _EDGES[1:]])


@dataclass(frozen=True, slots=True)
class Grid:
    """What a range is divided into.

    Attributes:
        levels: Number of codes of the integer type, 256 for 8 bits.
        symmetric: Whether the range is [−m, m], also for a tensor without negative values: half of it is then unused, as in
            ONNX Runtime's ``ActivationSymmetric``.
    """

    levels: int = 256
    symmetric: bool = False

    def codes(self, low: Floats, high: Floats) -> tuple[Floats, Floats, Floats]:
        """Step, first and last code of ranges that contain 0, code 0 standing for 0.0 exactly.

        Zero is moved to the nearest code, as a zero point is a whole number. A range of no extent has step 1 and code 0 alone.
        """
        if self.symmetric:
            high = np.maximum(-low, high)
            low = -high
        extent = high - low
        step = np.where(extent > 0, extent / (self.levels - 1), 1.0)
        first = -np.rint(-low / step)
        return step, first, np.where(extent > 0, first + self.levels - 1, 0.0)


@dataclass(frozen=True, slots=True)
class Quality:
    """What a range does to the calibration values.

    Attributes:
        clip_fraction: Share of the values outside the range, 0 to 1.
        sqnr_db: Signal power over the power of the quantization error, clipping included, in dB; infinite without error.
    """

    clip_fraction: float
    sqnr_db: float


@dataclass(frozen=True, slots=True, eq=False)
class Bins:
    """The buckets that hold values, ascending: edges (float64, of width 0 for a single value) and counts, all ``[n]``."""

    lower: Floats
    upper: Floats
    counts: Floats

    @property
    def power(self) -> float:
        """Sum of the squared values."""
        squares = (self.lower**2 + self.lower * self.upper + self.upper**2) / 3
        return float(self.counts @ squares)

    def below(self, points: Floats) -> Floats:
        """Number of values up to each of ``points`` (any shape)."""
        edges = np.stack([self.lower, self.upper], 1).ravel()
        after = np.cumsum(self.counts)
        numbers = np.stack([after - self.counts, after], 1).ravel()
        return np.interp(points, edges, numbers, left=0.0)

    def between(self, edges: Floats) -> Floats:
        """Number of values in each interval of ``edges`` (ascending, ``[n + 1]``), which span all values; shape ``[n]``."""
        numbers = self.below(edges)
        numbers[0], numbers[-1] = 0.0, self.counts.sum()
        return np.diff(numbers)

    def squared_errors(self, low: Floats, high: Floats, grid: Grid) -> Floats:
        """Sum of the squared quantization errors of each range, shape ``[n]`` as ``low`` and ``high``.

        The error of x is f·step with f = x/step − code. Its square is integrated over each bucket: an antiderivative of f² is
        code/12 + f³/3, continuous where the code changes.
        """
        step, first, last = (part[:, None] for part in grid.codes(low, high))
        begin, end = self.lower / step, self.upper / step
        width = end - begin
        middle = (begin + end) / 2
        point = (middle - np.clip(np.rint(middle), first, last)) ** 2
        wide = width > _NARROW
        areas = [code / 12 + (x - code) ** 3 / 3 for x in (begin, end) for code in [np.clip(np.rint(x), first, last)]]
        mean = np.where(wide, (areas[1] - areas[0]) / np.where(wide, width, 1.0), point)
        errors: Floats = (mean @ self.counts) * step[:, 0] ** 2
        return errors


@dataclass(frozen=True, slots=True, eq=False)
class TensorStatistics:
    """One float tensor over all calibration samples.

    Attributes:
        name: Its name in the graph.
        counts: Elements by bfloat16 bucket, int64 ``[65536]``: the index is the upper half of the float32 pattern.
        low: Smallest value, exact.
        high: Largest value, exact.
        mean_low: Mean over samples of each sample's smallest value, summed exactly.
        mean_high: Mean over samples of each sample's largest value, summed exactly.
        samples: Number of samples.
    """

    name: str
    counts: Array
    low: float
    high: float
    mean_low: float
    mean_high: float
    samples: int

    @property
    def elements(self) -> int:
        """Number of values counted."""
        return int(self.counts.sum())

    @property
    def non_negative(self) -> bool:
        """Whether no value is below 0."""
        return self.low >= 0

    @property
    def constant(self) -> bool:
        """Whether all values are one and the same."""
        return self.low == self.high

    @property
    def reach(self) -> float:
        """The largest magnitude."""
        return max(-self.low, self.high)

    @property
    def bins(self) -> Bins:
        """The buckets that hold values; magnitudes below 2^−133 count as 0, and so does −0."""
        zero = self.counts[:1] + self.counts[_NEGATIVE]
        negative = self.counts[_NEGATIVE + _INFINITY - 1 : _NEGATIVE : -1]
        ascending = np.concatenate([negative, zero, self.counts[1:_INFINITY]])
        held = ascending > 0
        lower, upper = (np.clip(edges[held], self.low, self.high) for edges in (_LOWER, _UPPER))
        return Bins(lower, upper, ascending[held].astype(np.float64))

    def histogram(self, bins: int = 64) -> tuple[Floats, Array]:
        """``bins`` even intervals from the smallest to the largest value: edges ``[bins + 1]``, whole counts ``[bins]``.

        A constant tensor has its value in the middle of an interval of length 1.
        """
        ends = (self.low - 0.5, self.high + 0.5) if self.constant else (self.low, self.high)
        edges = np.linspace(*ends, bins + 1)
        ascending = np.rint(np.cumsum(self.bins.between(edges)))
        return edges, np.diff(ascending, prepend=0.0).astype(np.int64)

    def quality(self, low: float, high: float, grid: Grid) -> Quality:
        """What the range ``[low, high]`` on ``grid`` does to these values, from their counts alone."""
        bins = self.bins
        error = float(bins.squared_errors(np.array([low]), np.array([high]), grid)[0])
        sqnr = 10 * math.log10(bins.power / error) if error > 0 and bins.power > 0 else math.inf
        return Quality(self._outside(bins, low, high), sqnr)

    def _outside(self, bins: Bins, low: float, high: float) -> float:
        # a value on the edge is inside, so what lies below is counted from the mirrored end
        above = bins.counts.sum() - bins.below(np.array([high]))[0] if high < self.high else 0.0
        under = bins.below(np.array([np.nextafter(low, -math.inf)]))[0] if low > self.low else 0.0
        return float((above + under) / bins.counts.sum())
