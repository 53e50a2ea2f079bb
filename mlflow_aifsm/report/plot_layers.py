"""What the plots by layer show: SQNR of each layer, share of zeros of each weight."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mlflow_aifsm.report.plot_words import Values, decibels, listed, name, percent, shortened, value

ALL_NAMED = 60
"""Rows up to which every one bears its name; as many lines as a page holds."""
SOME_NAMED = 40
"""Rows that bear their name where there are more."""
WORST = 5
"""Rows at most that are marked."""
NOTABLE = 0.05
"""Share of zeros from which a plot of them says something: below it, zeros come from rounding."""
NAME = 40
"""Columns of a name at the left of its row."""


@dataclass(frozen=True, slots=True)
class Point:
    """One row of a plot by layer.

    Attributes:
        name: The layer's name, shortened.
        value: What is drawn, in the axis's unit; infinite where the layer differs in nothing.
        told: The value as it stands beside the name.
        named: Whether name and value are written.
        worst: Whether it is marked.
        before: The value in the float model, where that is marked.
    """

    name: str
    value: float
    told: str
    named: bool = True
    worst: bool = False
    before: float | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """A plot by layer: one row each, in the order of the table.

    Attributes:
        title: Its title.
        about: The line under the title.
        axis: What the axis shows, with its unit.
        points: The rows.
        alt: The plot in words.
        caption: How to read it.
        bars: Bars from zero where True, else dots.
    """

    title: str
    about: str
    axis: str
    points: tuple[Point, ...]
    alt: str
    caption: str
    bars: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """What an SQNR in a table means: title, line under it, what a row is, how to read it."""

    title: str
    about: str
    noun: str
    caption: str


def sqnr(tables: Mapping[str, Sequence[Values]]) -> Chart | None:
    """SQNR by layer from table ``layers``, else by tensor from table ``calibration``; None where neither has one."""
    for table, source in SQNR.items():
        rows = tables.get(table, ())
        if points := _sqnr_points(rows):
            return _sqnr_chart(source, points, len(rows) - len(points))
    return None


def _sqnr_chart(source: Source, points: Sequence[Point], missing: int) -> Chart:
    dots = _short(_marked(points, lambda point: point.value))
    words = f"Dot plot of the signal to quantization noise ratio of {_counted(points, source.noun)}. {_sqnr_words(dots)}"
    caption = f"{source.caption} {_marks(dots)}{_missing(missing, source.noun, 'SQNR')}"
    return Chart(source.title, source.about, "SQNR (dB), more is better", dots, words, caption.rstrip())


def _sqnr_points(rows: Iterable[Values]) -> list[Point]:
    ratios = ((row, math.inf if row.get("sqnr_db") in ("inf", math.inf) else value(row, "sqnr_db")) for row in rows)
    return [
        Point(name(row, "tensor", "layer"), ratio, decibels(ratio) if math.isfinite(ratio) else "equal")
        for row, ratio in ratios
        if ratio is not None
    ]


def _short(points: Iterable[Point]) -> tuple[Point, ...]:
    """Those that bear their names with names that fit; what is drawn without one keeps it whole."""
    given = tuple(points)
    names = iter(shortened([point.name for point in given if point.named], NAME))
    return tuple(replace(point, name=next(names)) if point.named else point for point in given)


def _sqnr_words(points: Sequence[Point]) -> str:
    finite = sorted((point for point in points if math.isfinite(point.value)), key=lambda point: point.value)
    equal = len(points) - len(finite)
    without = f"{equal} without any difference." if equal else ""
    if not finite:
        return without
    spread = f"From {finite[0].told} to {finite[-1].told} decibels, median {_median(finite)}"
    lowest = listed([f"{point.name} {point.told}" for point in finite[:WORST]])
    return " ".join(filter(None, (f"{spread}; lowest: {lowest}.", without)))


def _median(points: Sequence[Point]) -> str:
    return decibels(statistics.median(point.value for point in points))


def _marked(points: Sequence[Point], weight: Callable[[Point], float]) -> Iterable[Point]:
    """The lowest marked, at most one in four; names for all, or, in a long list, for the lowest."""
    order = sorted(range(len(points)), key=lambda place: weight(points[place]))
    named = {*order[: len(order) if len(order) <= ALL_NAMED else SOME_NAMED]}
    worst = {*order[: min(WORST, len(order) // 4)]}
    for place, point in enumerate(points):
        lowest = place in worst and math.isfinite(point.value)
        yield replace(point, named=place in named, worst=lowest)


def _marks(points: Sequence[Point]) -> str:
    count = sum(point.worst for point in points)
    marked = {0: "", 1: "A diamond marks the lowest. "}.get(count, f"Diamonds mark the {count} lowest. ")
    equal = any(math.isinf(point.value) for point in points)
    circles = "An open circle at the right end stands for a difference of nothing at all. " if equal else ""
    return f"{marked}{circles}{_named(points, 'lowest')}"


def _named(points: Sequence[Point], which: str) -> str:
    named = sum(point.named for point in points)
    return "" if named == len(points) else f"Only the {named} {which} of {len(points)} bear their names. "


def _missing(count: int, noun: str, what: str) -> str:
    whose = f"One more {noun} has" if count == 1 else f"{count} more {noun}s have"
    return f"{whose} no {what} in the table." if count else ""


def _counted(points: Sequence[Point], noun: str) -> str:
    return f"one {noun}" if len(points) == 1 else f"{len(points)} {noun}s in the order of the graph"


def sparsity(tables: Mapping[str, Sequence[Values]]) -> Chart | None:
    """Share of zeros by weight from table ``sparsity``; None where no share is above `NOTABLE`."""
    rows = tables.get("sparsity", ())
    shares = [(row, share) for row in rows if (share := value(row, "ratio")) is not None]
    if not any(share > NOTABLE for _, share in shares):
        return None
    points = [
        Point(name(row, "tensor", "layer"), 100 * share, f"{percent(share)} %", before=_before(row)) for row, share in shares
    ]
    if not any((point.before or 0) > 100 * NOTABLE for point in points):
        points = [replace(point, before=None) for point in points]
    bars = _short(replace(point, worst=False) for point in _marked(points, lambda point: -point.value))
    words = f"Bar chart of the share of zeros in {_counted(points, 'weight')}. {_shares(bars)}{_shares_before(bars)}"
    about = "Elements of each weight that are zero in the delivered file, in percent."
    marked = (
        "A line across a bar marks the share in the float model. " if any(point.before is not None for point in bars) else ""
    )
    caption = f"{about} {marked}{_named(bars, 'highest')}{_missing(len(rows) - len(points), 'weight', 'share')}".rstrip()
    line = "Share of elements that are zero, in the order of the graph"
    return Chart("Zeros by weight", line, "Zeros (% of elements)", bars, words, caption, bars=True)


def _before(row: Values) -> float | None:
    """The share of zeros in the float model, in percent."""
    zeros, size = value(row, "zeros_before"), value(row, "size")
    return 100 * zeros / size if zeros is not None and size else None


def _shares_before(points: Sequence[Point]) -> str:
    known = [point.before for point in points if point.before is not None]
    ends = [percent(share / 100) for share in (min(known), max(known))] if known else []
    return f" In the float model from {ends[0]} to {ends[1]} percent." if ends else ""


def _shares(points: Sequence[Point]) -> str:
    order = sorted(points, key=lambda point: -point.value)
    highest = listed([f"{point.name} {point.told.replace('%', 'percent')}" for point in order[:WORST]])
    ends = (order[-1].told, order[0].told)
    return f"From {ends[0].removesuffix(' %')} to {ends[1].replace('%', 'percent')}; highest: {highest}."


SQNR: Mapping[str, Source] = {
    "layers": Source(
        title="SQNR by layer",
        about="Quantized model against float model at each quantized tensor, in the order of the graph",
        noun="tensor",
        caption="How far the quantized model stays with the float model along the graph; what is lost in one layer is carried "
        "into those that follow.",
    ),
    "calibration": Source(
        title="SQNR by tensor",
        about="Each tensor quantized alone over its calibrated range, in the order of the graph",
        noun="tensor",
        caption="What each tensor loses by its own quantization, reckoned from the values seen in calibration; what earlier "
        "layers lose is not in it.",
    ),
}
"""Tables that hold an SQNR, the better one first."""
