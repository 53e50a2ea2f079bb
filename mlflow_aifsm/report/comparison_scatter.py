"""What the plots of a comparison show: quality against size and against time, each with the front of its two axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from mlflow_aifsm.report.comparison import Comparison, Row
from mlflow_aifsm.report.plot_words import listed, signed
from mlflow_aifsm.report.plots import Plot
from mlflow_aifsm.report.words import spaced

NAMED = 30
"""Rows whose names fit beside a plot."""
SCALES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes"))
"""Units of a size, the largest first."""
FLOAT = 1.0
"""Time of the model that a clocked one was made from, over itself."""


@dataclass(frozen=True, slots=True)
class Dot:
    """One row in a plot: its number and name, where it stands, and how it is marked."""

    number: int
    name: str
    x: float
    y: float
    group: int
    best: bool
    named: bool


@dataclass(frozen=True, slots=True)
class Scatter:
    """A plot of rows.

    Attributes:
        title: What it shows.
        across: What stands on the horizontal axis, of which less is better.
        upward: What stands on the vertical axis, of which more is better.
        dots: The rows that have both numbers.
        fronts: For each group the dots that no other one of it beats on both axes, from left to right.
        line: Where a vertical line stands, and what it says; None for none.
    """

    title: str
    across: str
    upward: str
    dots: tuple[Dot, ...]
    fronts: tuple[tuple[Dot, ...], ...]
    line: tuple[float, str] | None = None

    @property
    def alt(self) -> str:
        """The plot in words."""
        fronts = (listed([f"{dot.name} ({signed(dot.x)}, {signed(dot.y)})" for dot in front[:NAMED]]) for front in self.fronts)
        count = f"{len(self.dots)} logs by {self.across} and {self.upward}."
        return " ".join((count, *(f"Front, from left to right: {front}." for front in fronts)))

    @property
    def caption(self) -> str:
        """How to read it."""
        return (
            f"{self.title}. The line joins the models that no other one of their group beats in both; a filled mark is best in "
            "all that ranks models, a cross is not ranked. Numbers are those of the rows."
        )


def scatters(made: Comparison) -> dict[str, Scatter]:
    """The plots that the comparison gives something for, by file name: two rows at least have both numbers."""
    if not made.quality:
        return {}
    quality = spaced(made.quality)
    scale, unit = _scale(row.numbers.get("size", 0.0) for row in made.rows)
    size = _dots(made, lambda row: row.numbers["size"] / scale if "size" in row.numbers else None)
    time = _dots(made, lambda row: row.time)
    clocks = {row.number: (row.group, row.seconds_of) for row in made.rows}
    upward, took = f"{quality}", "time of a run, over that of the model it was made from"
    found = {
        "size": Scatter(f"{quality.capitalize()} against size", f"size in {unit}", upward, size, _fronts(size, clocks=None)),
        "time": Scatter(
            f"{quality.capitalize()} against latency", took, upward, time, _fronts(time, clocks), (FLOAT, "equally fast")
        ),
    }
    return {f"{made.quality}-{name}.svg": scatter for name, scatter in found.items() if len(scatter.dots) > 1}


def plotted(made: Comparison) -> dict[str, Plot]:
    """The plots as pictures; see `scatters`."""
    return {name: _plot(scatter) for name, scatter in scatters(made).items()}


def _plot(scatter: Scatter) -> Plot:
    # matplotlib is imported only where there is something to draw
    from mlflow_aifsm.report import comparison_drawing, plot_canvas

    paint = partial(comparison_drawing.scatter, scatter)
    return Plot(plot_canvas.drawn(scatter.title, paint), scatter.alt, scatter.caption, partial(plot_canvas.rastered, paint))


def _dots(made: Comparison, across: Callable[[Row], float | None]) -> tuple[Dot, ...]:
    named = _named(made)
    places = ((at, row, across(row)) for at, row in enumerate(made.rows) if made.quality in row.numbers)
    return tuple(
        Dot(row.number, " ".join(row.name.split()), x, row.numbers[made.quality], row.group, row.best, at in named)
        for at, row, x in places
        if x is not None and math.isfinite(x)
    )


def _named(made: Comparison) -> set[int]:
    """Places of the rows that are named: all, or where these are too many the baseline and best ones."""
    order = sorted(range(len(made.rows)), key=lambda at: (at != made.baseline, not made.rows[at].best, at))
    wanted = order if len(order) <= NAMED else [at for at in order if at == made.baseline or made.rows[at].best]
    return set(wanted[:NAMED])


def _fronts(dots: Sequence[Dot], clocks: Mapping[int, object] | None) -> tuple[tuple[Dot, ...], ...]:
    groups: dict[object, list[Dot]] = {}
    for dot in dots:
        if dot.group:
            groups.setdefault(clocks[dot.number] if clocks else dot.group, []).append(dot)
    return tuple(tuple(_front(group)) for group in groups.values() if len(group) > 1)


def _front(dots: Iterable[Dot]) -> Iterator[Dot]:
    highest = float("-inf")
    for dot in sorted(dots, key=lambda dot: (dot.x, -dot.y, dot.number)):
        if dot.y > highest:
            highest = dot.y
            yield dot


def _scale(sizes: Iterable[float]) -> tuple[float, str]:
    largest = max(sizes, default=0.0)
    return next((scale for scale in SCALES if largest >= scale[0]), SCALES[-1])
