"""The range of least mean squared quantization error."""

from __future__ import annotations

import numpy as np

from mlflow_aifsm.calibration.statistics import Bins, Floats, Grid, TensorStatistics

_COARSE = np.linspace(0.02, 1.0, 50)
_FINE = np.linspace(-0.02, 0.02, 17)
"""Shares of the observed range that are tried, and those around the best of them."""


def least_squared_error(statistics: TensorStatistics, grid: Grid) -> tuple[float, float]:
    """The range whose rounding and clipping errors have the least mean square over the calibration values.

    Both ends are searched: first together, as shares of the observed range, then each alone, then finely around the best. A
    symmetric grid and a tensor on one side of 0 have only one end to search. The observed range is among the candidates.
    """
    bins, ends = statistics.bins, np.array([min(statistics.low, 0.0), max(statistics.high, 0.0)])
    together = np.ones(2)
    share = _best(bins, ends, grid, _COARSE[:, None] * together)
    if grid.symmetric or not ends.all():
        share = _best(bins, ends, grid, _near(share, together))
    else:
        for side in np.eye(2):
            share = _best(bins, ends, grid, np.concatenate([share[None], share * (1 - side) + _COARSE[:, None] * side]))
        for side in np.eye(2):
            share = _best(bins, ends, grid, _near(share, side))
    low, high = (ends * share + 0.0).tolist()
    return low, high


def _near(share: Floats, sides: Floats) -> Floats:
    near: Floats = np.clip(share + _FINE[:, None] * sides, _COARSE[0] / 4, 1.0)
    return near


def _best(bins: Bins, ends: Floats, grid: Grid, shares: Floats) -> Floats:
    """The one of ``shares`` (``[n, 2]``) with the least error; the widest of equals."""
    low, high = (ends * shares).T
    errors = bins.squared_errors(low, high, grid)
    best: Floats = shares[np.lexsort((-shares.sum(1), errors))[0]]
    return best
