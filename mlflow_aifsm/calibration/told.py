"""Ranges that another tool calibrated, judged on the values that it calibrated with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlflow_aifsm.calibration.estimators import Estimate, Range
from mlflow_aifsm.calibration.statistics import Grid, TensorStatistics

_EQUAL = 1e-5
"""Part of a range that counts as none: two runs of a graph sum in another order, and it is a 400th of a step of 8 bits."""


@dataclass(frozen=True, slots=True)
class Told:
    """The range of a tensor as a tool's calibration gave it to the tool's quantizer.

    Attributes:
        low: Lower end, at most 0.
        high: Upper end, at least 0.
        symmetric: Whether codes are as many below 0 as above.
    """

    low: float
    high: float
    symmetric: bool = False

    @staticmethod
    def of(low: float, high: float, *, symmetric: bool) -> Told:
        """The range made to contain 0, and on a symmetric quantizer as long to both sides, as a tool does before it rounds."""
        low, high = min(low, 0.0) + 0.0, max(high, 0.0) + 0.0  # adding 0.0 makes 0.0 of −0.0
        reach = max(-low, high)
        return Told(-reach, reach, symmetric=True) if symmetric else Told(low, high)


def judged(
    tensors: Mapping[str, TensorStatistics], told: Mapping[str, Told], levels: Mapping[str, int], method: str
) -> dict[str, Estimate]:
    """What each range of ``told`` does to the values that were counted, by tensor.

    Args:
        tensors: Statistics of the values, by tensor; a range without any is left out.
        told: The ranges, by tensor.
        levels: Codes of the tensor's quantizer; a tensor without one is left out.
        method: The tool's method in one word.
    """
    return {
        name: _judged(statistics, told[name], levels[name], method)
        for name, statistics in tensors.items()
        if name in told and name in levels
    }


def _judged(statistics: TensorStatistics, told: Told, levels: int, method: str) -> Estimate:
    quality = statistics.quality(*_snapped(told, statistics), Grid(levels, told.symmetric))
    ends = (told.low, told.high, statistics.low, statistics.high)
    return Estimate(statistics.name, method, *ends, quality.clip_fraction, quality.sqnr_db)


def _snapped(told: Told, statistics: TensorStatistics) -> Range:
    near = _EQUAL * (told.high - told.low)
    low = statistics.low if 0 < told.low - statistics.low <= near else told.low
    return low, statistics.high if 0 < statistics.high - told.high <= near else told.high
