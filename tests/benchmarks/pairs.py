"""Two ways that ran in turn, as ratios: median and range, by the clock and by the processors."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

Seconds = tuple[float, float]
"""Seconds of one run: of the clock, of the processors."""


def show(turns: Sequence[tuple[Seconds, Seconds]]) -> None:
    """Prints a line for the clock and one for the processors; each turn is our run, then the bare one."""
    for at, what in enumerate(("clock", "processors")):
        ratios = sorted(ours[at] / bare[at] for ours, bare in turns)
        sides = (statistics.median(side[at] for side in pair) for pair in zip(*turns, strict=True))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
        print(f"{what:10} {spread}   {' / '.join(f'{seconds:.2f} s' for seconds in sides)}")
