"""Which models are best: none of the others is at least as good in everything, and better in something.

Edgeworth and Pareto's order. A model that was not measured in something is never called better in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 256
"""Points that are held against all others in one step, so that memory stays flat."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Point:
    """A model as it is ranked.

    Attributes:
        quality: The higher the better.
        size: Bytes, the fewer the better; NaN where nothing was delivered.
        time: Time of a run over that of the model that ``clock`` names, the less the better; NaN where it was not clocked.
        clock: What the time is relative to: times of other clocks say nothing of each other.
    """

    quality: float
    size: float = float("nan")
    time: float = float("nan")
    clock: str = ""


def best(points: Sequence[Point]) -> list[bool]:
    """For each point whether no other one dominates it; equal points are best together.

    A dominates B where A is at least as good in all that B was measured in, and better in something. Times of two clocks say
    nothing of each other, so of two models that were clocked apart neither dominates the other.
    """
    quality, size, time = (np.array([getattr(point, name) for point in points]) for name in ("quality", "size", "time"))
    codes = {name: code for code, name in enumerate(dict.fromkeys(point.clock for point in points))}
    clock = np.array([codes[point.clock] for point in points])
    found: list[bool] = []
    for start in range(0, len(points), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        both = ~np.isnan(time)[part, None] & ~np.isnan(time)[None, :]
        apart = both & (clock[part, None] != clock[None, :])
        (worse, better), (larger, smaller), (slower, faster) = (_held(cost, part) for cost in (-quality, size, time))
        dominating = ~worse & ~larger & ~slower & ~apart & (better | smaller | faster)
        found += (~np.any(dominating, axis=1)).tolist()
    return found


def _held(cost: NDArray[np.float64], part: slice) -> tuple[Flags, Flags]:
    """For each point of ``part`` and each other: whether that one is worse or was not measured, and whether it is better."""
    mine, others = cost[part, None], cost[None, :]
    return ~np.isnan(mine) & ~(others <= mine), others < mine
