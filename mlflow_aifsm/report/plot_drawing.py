"""Histograms and charts on paper; what they show is decided by the files that make them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from mlflow_aifsm.report.plot_canvas import ALARM, DEEP, EDGE, INK, LINE, MIDDLE, POINT, SOFT, TINT, WIDTH, axes, letter, paper
from mlflow_aifsm.report.plot_layers import ALL_NAMED, Chart, Point
from mlflow_aifsm.report.plot_ranges import TITLE, Histogram
from mlflow_aifsm.report.plot_words import columns, signed

PANEL = (2.95, 1.3)
"""Inches of one histogram."""
PITCH = (3.65, 2.2)
"""Inches from one histogram to the next, sideways and downwards."""
FLOOR = 0.6
"""Foot of a logarithmic axis of counts: a single value still has a height."""
DECADES = 4
"""Ticks at most on such an axis."""
TICK = 6
"""Significant digits of a tick: neighbours in a narrow range must differ."""

ROW = 0.21
"""Inches of one row of a chart."""
TALLEST = 8.0
"""Inches of the longest chart, so that it stands whole on a page."""

FINE = 1_000
"""Rows beyond which a chart is drawn with dots: lines of them would be finer than a printer's."""
THIN = 0.4
"""Points of such a line."""

DOTS = {"usual": ("o", MIDDLE, DEEP, LINE), "equal": ("o", "white", DEEP, LINE), "worst": ("D", ALARM, ALARM, ALARM)}
"""Rows of a dot plot by kind: shape, colour of the dot, of its edge, of the line that leads to it."""


def histograms(shown: Sequence[Histogram]) -> Figure:
    """Small multiples, two in a row."""
    lines = math.ceil(len(shown) / 2)
    figure = paper(TITLE, "Tensors with the lowest SQNR, the lowest first", 0.92 + lines * PITCH[1])
    _legend(figure)
    for place, histogram in enumerate(shown):
        down, across = divmod(place, 2)
        _histogram(figure, 0.68 + across * PITCH[0], 1.35 + down * PITCH[1], histogram)
    return figure


def _legend(figure: Figure) -> None:
    band = Patch(facecolor=TINT, edgecolor=DEEP, linewidth=0.8)
    handles = (band, Patch(color=MIDDLE), Patch(color=ALARM))
    words = ("calibrated range [β, α]", "values inside", "values clipped")
    place = (EDGE / WIDTH, 1 - 0.78 / figure.get_figheight())
    figure.legend(
        handles,
        words,
        loc="lower left",
        bbox_to_anchor=place,
        ncols=3,
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        fontsize=8.5,
    )


def _histogram(figure: Figure, left: float, top: float, shown: Histogram) -> None:
    letter(figure, left, top - 0.27, shown.name, size=8.5, weight="bold")
    letter(figure, left, top - 0.1, shown.numbers, size=8, color=SOFT)
    panel = axes(figure, left, top, *PANEL)
    heights = [max(count, FLOOR / 2) for count in shown.counts]
    edges = list(shown.edges)
    panel.set_yscale("log")
    outside = panel.stairs(heights, edges, baseline=FLOOR / 2, fill=True, color=ALARM)
    if shown.low is not None and shown.high is not None:
        _range(panel, shown.low, shown.high)
        inside = panel.stairs(heights, edges, baseline=FLOOR / 2, fill=True, color=MIDDLE)
        clip = Rectangle((shown.low, FLOOR), shown.high - shown.low, max(heights), transform=panel.transData)
        inside.set_clip_path(clip)
    else:
        outside.set_color(MIDDLE)
    _scales(panel, shown)


def _range(panel: Axes, low: float, high: float) -> None:
    panel.axvspan(low, high, facecolor=TINT, linewidth=0, zorder=0)
    for end in (low, high):
        panel.axvline(end, color=DEEP, linewidth=1.1, zorder=3)


def _scales(panel: Axes, shown: Histogram) -> None:
    ends = [end for end in (*shown.edges, shown.low, shown.high) if end is not None]
    room = 0.04 * (max(ends) - min(ends)) or 1.0
    panel.set_xlim(min(ends) - room, max(ends) + room)
    panel.set_ylim(FLOOR, max(shown.counts) * 2)
    panel.xaxis.set_major_locator(MaxNLocator(5))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda number, _: signed(number, TICK)))
    top = max(1, math.floor(math.log10(max(shown.counts) * 2)))
    panel.yaxis.set_major_locator(FixedLocator([10.0**power for power in range(0, top + 1, math.ceil((top + 1) / DECADES))]))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda count, _: _power(count)))
    panel.set_xlabel("value (units of the tensor)", labelpad=2)
    panel.set_ylabel("count per bin", labelpad=4)


def _power(count: float) -> str:
    power = round(math.log10(count))
    return f"{count:.0f}" if power < 2 else f"10{str(power).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}"  # noqa: PLR2004


def chart(shown: Chart) -> Figure:
    """Rows from top to bottom, each with its name and value at the left where it has them."""
    count = len(shown.points)
    high = min(TALLEST, max(count, 3) * ROW)
    size = min(8.5, high / max(count, 3) / POINT * 0.74) if all(point.named for point in shown.points) else 7.5
    figure = paper(shown.title, shown.about, high + 1.12)
    names = max(columns(point.name) for point in shown.points if point.named) * size * 0.64 * POINT
    values = max(len(point.told) for point in shown.points if point.named) * size * 0.64 * POINT
    left = EDGE + names + values + 0.42
    rows = axes(figure, left, 0.68, WIDTH - left - 0.2, high)
    rows.set_ylim(count - 0.5, -0.5)
    rows.yaxis.set_major_locator(NullLocator())
    rows.set_xlabel(shown.axis, labelpad=4)
    _names(figure, shown.points, (left, high, size, values))
    (_bars if shown.bars else _dots)(rows, shown.points)
    rows.xaxis.set_major_formatter(FuncFormatter(lambda number, _: signed(number, TICK)))
    rows.grid(axis="x", color=LINE, linewidth=0.5)
    return figure


def _names(figure: Figure, points: Sequence[Point], measures: tuple[float, float, float, float]) -> None:
    """Names and values, each at the height of its row, or as near to it as letters can stand."""
    left, high, size, values = measures
    named = [(place, point) for place, point in enumerate(points) if point.named]
    wanted = [(place + 0.5) / len(points) * high for place, _ in named]
    places = spread(wanted, min(1.3 * size * POINT, high / len(named)), high)
    for (_, point), row, place in zip(named, wanted, places, strict=True):
        color, weight = (ALARM, "bold") if point.worst else (INK, "normal")
        line = 0.68 + place + 0.36 * size * POINT
        letter(figure, left - values - 0.28, line, point.name, size=size, side="right", color=color, weight=weight)
        letter(figure, left - 0.2, line, point.told, size=size, side="right", color=color, weight=weight)
        _leader(figure, left, 0.68 + place, 0.68 + row)


def _leader(figure: Figure, left: float, name: float, row: float) -> None:
    high = figure.get_figheight()
    across = [(left - part) / WIDTH for part in (0.16, 0.13, 0.04, 0.0)]
    down = [1 - part / high for part in (name, name, row, row)]
    figure.add_artist(Line2D(across, down, color=LINE, linewidth=0.6))


def spread(wanted: Sequence[float], gap: float, end: float) -> list[float]:
    """Places in [0, end], ``gap`` apart, as near to the ascending ``wanted`` ones as can be (least squares, by pooling)."""
    groups: list[list[float]] = []
    for place, want in enumerate(wanted):
        groups.append([want - (place + 0.5) * gap])
        while len(groups) > 1 and _mean(groups[-2]) > _mean(groups[-1]):
            last = groups.pop()
            groups[-1] += last
    room = end - len(wanted) * gap
    flat = [min(max(_mean(group), 0.0), room) for group in groups for _ in group]
    return [place + (number + 0.5) * gap for number, place in enumerate(flat)]


def _mean(numbers: Sequence[float]) -> float:
    return math.fsum(numbers) / len(numbers)


def _dots(rows: Axes, points: Sequence[Point]) -> None:
    finite = [point.value for point in points if math.isfinite(point.value)]
    low, high = min([0.0, *finite]), max([1.0, *finite])
    edge = high + 0.06 * (high - low)
    rows.set_xlim(1.03 * low, 1.02 * edge)
    for kind, (shape, face, line, stem) in DOTS.items():
        found = [(place, point) for place, point in enumerate(points) if _kind(point) == kind]
        stems = [(place, min(point.value, edge)) for place, point in found if point.named]
        rows.hlines([place for place, _ in stems], low, [end for _, end in stems], color=stem, linewidth=0.8, zorder=1)
        dots = Line2D([min(point.value, edge) for _, point in found], [place for place, _ in found], clip_on=False, zorder=3)
        dots.set(linestyle="none", marker=shape, markersize=5.0 if len(points) <= ALL_NAMED else 3.5, markeredgewidth=0.7)
        dots.set(markerfacecolor=face, markeredgecolor=line)
        dots.set_rasterized(len(points) > FINE)
        rows.add_line(dots)


def _kind(point: Point) -> str:
    return "worst" if point.worst else "usual" if math.isfinite(point.value) else "equal"


def _bars(rows: Axes, points: Sequence[Point]) -> None:
    rows.set_xlim(0, 100)
    values = [point.value for point in points]
    if len(points) > FINE:
        # rows are finer than a line is drawn, and thousands of them make a picture of megabytes
        rows.hlines(range(len(points)), 0, values, color=MIDDLE, linewidth=THIN, rasterized=True)
    else:
        rows.barh(range(len(points)), values, height=0.72, color=MIDDLE, linewidth=0)
    marks = [(place, point.before) for place, point in enumerate(points) if point.before is not None]
    rows.vlines(
        [before for _, before in marks],
        [place - 0.45 for place, _ in marks],
        [place + 0.45 for place, _ in marks],
        color=INK,
        linewidth=1.2,
    )
