"""Scatter plots of a comparison on paper: rows as numbered marks, fronts as steps, and the rows' names at the side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mlflow_aifsm.report.characters import visible
from mlflow_aifsm.report.comparison_scatter import NAMED, Dot, Scatter
from mlflow_aifsm.report.plot_canvas import DEEP, INK, LINE, MIDDLE, SOFT, axes, letter, paper
from mlflow_aifsm.report.plot_words import shortened, signed

PANEL = (0.72, 0.72, 4.35)
"""Inches from the left, from the top, and across of the panel."""
LOWEST = 3.1
"""Inches of the lowest panel."""
LINE_HEIGHT = 0.175
"""Inches from one name to the next."""
NAMES = (5.35, 34)
"""Inches from the left of the names, and their columns."""
SHAPES = ("o", "s", "^", "D", "v", "P")
"""Marks of groups, in turn."""
NEAR = 0.12
"""Inches within which marks share a label."""
LETTER, HEIGHT = 0.068, 0.13
"""Inches of a digit, and of a label's height."""
LISTED = 8
"""Numbers that a shared label lists."""
TICK = 5
"""Significant digits of a tick."""
FINE = 1_000
"""Marks beyond which they are drawn with dots, so that the picture stays small."""


@dataclass(frozen=True, slots=True)
class _Box:
    """A rectangle in inches: left, bottom, right, top."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: _Box) -> float:
        """Area that both cover."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(wide, 0.0) * max(high, 0.0)


def scatter(shown: Scatter) -> Figure:
    """The plot with its title, its axes and the names of its marks."""
    named = [dot for dot in shown.dots if dot.named]
    height = max(LOWEST, min(len(named), NAMED) * LINE_HEIGHT)
    figure = paper(shown.title, "Up and to the left is better", PANEL[1] + height + 0.55)
    panel = axes(figure, *PANEL, height)
    _scales(panel, shown)
    _lines(panel, shown)
    _marks(panel, shown.dots)
    _labels(panel, shown.dots, height)
    _names(figure, named)
    return figure


def _scales(panel: Axes, shown: Scatter) -> None:
    across = [*(dot.x for dot in shown.dots), *([shown.line[0]] if shown.line else [])]
    for axis, values in (("x", across), ("y", [dot.y for dot in shown.dots])):
        low, high = min(values), max(values)
        room = 0.09 * (high - low) or 0.05 * abs(high) or 1.0
        panel.set(**{f"{axis}lim": (low - room, high + room)})
    for side in (panel.xaxis, panel.yaxis):
        side.set_major_locator(MaxNLocator(6))
        side.set_major_formatter(FuncFormatter(lambda number, _: signed(number, TICK)))
    panel.set_xlabel(shown.across, labelpad=4)
    panel.set_ylabel(shown.upward, labelpad=4)
    panel.grid(color=LINE, linewidth=0.5)


def _lines(panel: Axes, shown: Scatter) -> None:
    for front in shown.fronts:
        across, up = [dot.x for dot in front], [dot.y for dot in front]
        panel.step(across, up, where="post", color=MIDDLE, linewidth=1.4, zorder=2)
    if shown.line:
        place, words = shown.line
        panel.axvline(place, color=SOFT, linewidth=0.8, linestyle=(0, (3, 3)), zorder=1)
        ends = panel.get_xaxis_transform()
        panel.text(place, 1.01, words, transform=ends, color=SOFT, size=7.5, ha="center", va="bottom")


def _marks(panel: Axes, dots: Sequence[Dot]) -> None:
    for group in sorted({dot.group for dot in dots}):
        for best in (False, True):
            found = [dot for dot in dots if (dot.group, dot.best) == (group, best)]
            line = Line2D([dot.x for dot in found], [dot.y for dot in found], linestyle="none", zorder=4 if best else 3)
            line.set(marker=SHAPES[(group - 1) % len(SHAPES)] if group else "x", markersize=7 if best else 5.5)
            line.set(markerfacecolor=DEEP if best else "white", markeredgecolor=DEEP if group else SOFT, markeredgewidth=1.0)
            line.set_rasterized(len(dots) > FINE)
            panel.add_line(line)


def _labels(panel: Axes, dots: Sequence[Dot], height: float) -> None:
    """A number at each named mark; marks that touch share a label, and no label stands on another where there is room."""
    wide = PANEL[2]
    (left, right), (low, high) = panel.get_xlim(), panel.get_ylim()
    places = {dot.number: ((dot.x - left) / (right - left) * wide, (dot.y - low) / (high - low) * height) for dot in dots}
    taken = [_around(places[dot.number], 0.05, 0.05) for dot in dots if dot.named]
    for members in _clusters([dot for dot in dots if dot.named], places):
        words = _words(members)
        at = places[members[0].number]
        box = min(_candidates(at, words), key=lambda one: _cost(one, taken, wide, height))
        taken.append(box)
        middle = ((box.left + box.right) / 2 / wide, (box.bottom + box.top) / 2 / height)
        bold = "bold" if any(dot.best for dot in members) else "normal"
        panel.text(
            *middle, words, transform=panel.transAxes, size=7.5, ha="center", va="center", color=INK, weight=bold, zorder=5
        )


def _clusters(dots: Sequence[Dot], places: dict[int, tuple[float, float]]) -> list[list[Dot]]:
    found: list[list[Dot]] = []
    for dot in dots:
        x, y = places[dot.number]
        for members in found:
            other = places[members[0].number]
            if abs(other[0] - x) < NEAR and abs(other[1] - y) < NEAR:
                members.append(dot)
                break
        else:
            found.append([dot])
    return found


def _words(members: Sequence[Dot]) -> str:
    more = [f"+{len(members) - LISTED}"] if len(members) > LISTED else []
    return ", ".join([*(str(dot.number) for dot in members[:LISTED]), *more])


def _candidates(at: tuple[float, float], words: str) -> Iterator[_Box]:
    """Places of a label around a mark, the nearest and the ones above and at the right first."""
    half = (len(words) * LETTER + 0.04) / 2
    for away in (0.06, 0.16, 0.28):
        for across, up in ((0, 1), (1, 1), (-1, 1), (1, 0), (-1, 0), (0, -1), (1, -1), (-1, -1)):
            middle = (at[0] + across * (half + away), at[1] + up * (HEIGHT / 2 + away))
            yield _around(middle, half, HEIGHT / 2)


def _around(middle: tuple[float, float], across: float, up: float) -> _Box:
    return _Box(middle[0] - across, middle[1] - up, middle[0] + across, middle[1] + up)


def _cost(box: _Box, taken: Sequence[_Box], wide: float, height: float) -> float:
    """Area that is covered already or lies outside the panel."""
    area = (box.right - box.left) * (box.top - box.bottom)
    outside = area - box.overlap(_Box(0.0, 0.0, wide, height))
    return round(sum(box.overlap(other) for other in taken) + outside, 6)


def _names(figure: Figure, named: Sequence[Dot]) -> None:
    """The names of the marks by number, at the right."""
    left, columns = NAMES
    for at, (dot, name) in enumerate(zip(named, shortened([visible(dot.name) for dot in named], columns), strict=True)):
        down = PANEL[1] + 0.1 + at * LINE_HEIGHT
        letter(figure, left, down, str(dot.number), size=8, side="right", color=SOFT)
        letter(figure, left + 0.08, down, name, size=8, weight="bold" if dot.best else "normal")
