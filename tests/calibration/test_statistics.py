"""Counts by bucket tell quality, histogram and power of a tensor nearly as its values do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlflow_aifsm.calibration.statistics import Grid
from tests.calibration.conftest import statistics_of

RNG = np.random.default_rng(0)
NORMAL = RNG.standard_normal((40, 2500)).astype(np.float32)
KINDS = {
    "normal": NORMAL,
    "rectified": np.maximum(NORMAL, 0),
    "negative": -np.abs(NORMAL),
    "saturated": np.clip(3 * NORMAL, 0, 6),
    "heavy": RNG.standard_t(3, NORMAL.shape).astype(np.float32),
}


def quantized(values: np.ndarray, low: float, high: float, grid: Grid) -> np.ndarray:
    """The values as an integer type with a whole zero point represents them."""
    if grid.symmetric:
        low, high = -max(-low, high), max(-low, high)
    scale = (high - low) / (grid.levels - 1)
    zero = round(-low / scale)
    return (np.clip(np.rint(values / scale) + zero, 0, grid.levels - 1) - zero) * scale


@pytest.mark.parametrize("grid", [Grid(), Grid(symmetric=True), Grid(16)], ids=str)
@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("kind", KINDS)
def test_quality_from_counts_is_that_of_the_values(kind: str, share: float, grid: Grid) -> None:
    values, statistics = KINDS[kind].astype(float), statistics_of(KINDS[kind])
    low, high = min(share * statistics.low, 0.0), max(share * statistics.high, 0.0)
    quality = statistics.quality(low, high, grid)
    error = values - quantized(values, low, high, grid)
    assert quality.sqnr_db == pytest.approx(10 * math.log10((values**2).sum() / (error**2).sum()), abs=0.1)
    assert quality.clip_fraction == pytest.approx(((values < low) | (values > high)).mean(), abs=1e-4)


def test_the_observed_range_clips_nothing() -> None:
    statistics = statistics_of(NORMAL)
    assert statistics.quality(statistics.low, statistics.high, Grid()).clip_fraction == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_histogram_holds_every_value_between_the_extremes(kind: str) -> None:
    statistics = statistics_of(KINDS[kind])
    edges, counts = statistics.histogram(64)
    assert (edges[0], edges[-1], len(counts)) == (statistics.low, statistics.high, 64)
    assert counts.sum() == statistics.elements == KINDS[kind].size
    plain = np.histogram(KINDS[kind], edges)[0]
    assert np.abs(counts - plain).sum() < 0.05 * plain.sum()


def test_a_constant_tensor_has_a_range_a_histogram_and_no_error() -> None:
    zero = statistics_of(np.zeros((3, 5), np.float32))
    assert zero.constant
    assert zero.histogram()[1].sum() == 15
    assert zero.quality(0.0, 0.0, Grid()).sqnr_db == math.inf
    assert statistics_of(np.full((3, 5), 2.5, np.float32)).histogram(3)[1].tolist() == [0, 15, 0]


def test_a_range_of_no_extent_loses_the_whole_signal() -> None:
    assert statistics_of(NORMAL).quality(0.0, 0.0, Grid()).sqnr_db == pytest.approx(0.0, abs=1e-6)


def test_every_finite_float32_falls_into_a_bucket_around_it() -> None:
    bits = RNG.integers(0, 2**32, 200_000, dtype=np.uint64).astype(np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    bins = statistics_of(values[None]).bins
    assert bins.counts.sum() == len(values)
    assert (bins.lower <= bins.upper).all()
    assert (np.diff(bins.lower) > 0).all()
    positive = values[values >= 2.0**-133].astype(float)
    found = np.searchsorted(bins.lower, positive, side="right") - 1
    assert (positive < bins.upper[found]).sum() >= len(positive) - 1, "all but the largest, where its bucket is cut off"
    normal = np.abs(bins.upper) >= 2.0**-126
    assert (bins.upper - bins.lower <= np.abs(bins.upper) / 64)[normal].all()
