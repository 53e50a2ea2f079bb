"""Paper, colours and letters of every plot: matplotlib's objects alone, and the same bytes for the same content.

This file and the one that draws are the only ones that import matplotlib; whoever needs a plot imports them then.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from io import BytesIO
from threading import Lock

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 7.5
"""Inches: 720 pixels of CSS, the measure of a column of text."""
EDGE = 0.02
"""Inches left free at both sides."""
DOTS = 200
"""Dots an inch where a picture has dots: letters of 8 points stay sharp on paper."""
POINT = 1 / 72
"""Inches of a typographic point."""

INK, SOFT, LINE, DEEP = "#17202a", "#566270", "#d5dbe1", "#1d3a57"
TINT, MIDDLE, ALARM = "#e5eef8", "#6f9bc8", "#9d1c1c"
"""The report's palette; light, middle and dark differ in grey print and for every eye, and shapes tell them apart too."""

MEASURED = "DejaVu Sans"
"""The font that comes with matplotlib: what is laid out by it is the same on every host, and no other one is wider."""
FAMILY = "'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', 'Liberation Sans', Arial, sans-serif"
"""The report's fonts, which the reader's browser draws with."""
LETTERS = re.compile(rf"(<text style=\"[^\">]*font-family: )'{MEASURED}'")
"""A text's own style; no name can look like it, as its ``<`` is escaped."""

STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mlflow-aifsm",
    "text.parse_math": False,
    "font.family": [MEASURED],
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.6,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 8.5,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
}

# rcParams belong to the process: of two threads that draw at once, one would put back what the other had set
_alone = Lock()


def drawn(title: str, paint: Callable[[], Figure]) -> str:
    """The figure that ``paint`` makes, as SVG: no date, no version, nothing of the user's own style, text as text."""
    content = _saved(paint, "svg", {"Title": title, "Date": None, "Creator": None, "Format": None, "Type": None})
    return LETTERS.sub(lambda found: found[1] + FAMILY, content.decode("utf-8"))


def rastered(paint: Callable[[], Figure]) -> bytes:
    """The same figure as PNG, for readers that draw no SVG."""
    return _saved(paint, "png", {"Software": None})


def _saved(paint: Callable[[], Figure], form: str, metadata: dict[str, str | None]) -> bytes:
    content = BytesIO()
    with _alone, warnings.catch_warnings(), mpl.rc_context():
        # letters that the measuring font lacks are drawn by the reader's
        warnings.filterwarnings("ignore", message="Glyph")
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)  # type: ignore[arg-type]
        paint().savefig(content, format=form, metadata=metadata, dpi=DOTS)
    return content.getvalue()


def paper(title: str, about: str, height: float) -> Figure:
    """A sheet ``height`` inches high with its title and the line under it."""
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    letter(figure, EDGE, 0.24, title, size=11, weight="bold", color=DEEP)
    letter(figure, EDGE, 0.45, about, color=SOFT)
    return figure


def letter(
    figure: Figure,
    left: float,
    top: float,
    text: str,
    *,
    size: float = 8.5,
    side: str = "left",
    color: str = INK,
    weight: str = "normal",
) -> None:
    """Text on a sheet, its baseline ``top`` inches below the upper edge.

    A baseline is a line; the middle of a text would hang on the letters in it.
    """
    place = (left / figure.get_figwidth(), 1 - top / figure.get_figheight())
    figure.text(*place, text, size=size, ha=side, va="baseline", color=color, weight=weight)


def axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches from the upper left, open at the right and at the top."""
    wide, high = figure.get_figwidth(), figure.get_figheight()
    made = figure.add_axes((left / wide, 1 - (top + height) / high, width / wide, height / high))
    made.spines[["top", "right"]].set_visible(False)
    made.set_axisbelow(True)
    return made
