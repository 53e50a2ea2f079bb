"""Plots from the tables beside a record, each with its words; the same tables give the same bytes.

matplotlib is imported only where there is something to draw.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

from mlflow_aifsm.report import plot_layers, plot_ranges
from mlflow_aifsm.report.plot_layers import Chart
from mlflow_aifsm.report.plot_ranges import Histogram
from mlflow_aifsm.report.plot_words import Values

_logger = logging.getLogger(__name__)

FOLDER = "plots/"
"""Where the plots lie beside the record."""

Tables = Mapping[str, Sequence[Values]]
"""Rows of the tables beside a record, by name."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture and its words.

    Attributes:
        svg: The picture as SVG: nothing in it is fetched, text stays text.
        alt: What it shows in full words, numbers among them.
        caption: How to read it.
        png: Draws it with dots, for what shows no SVG.
    """

    svg: str
    alt: str
    caption: str
    png: Callable[[], bytes] = field(compare=False, repr=False)


def plots(tables: Tables) -> dict[str, Plot]:
    """The plots that ``tables`` give something for, by file name; a plot that fails is told in a warning and left out.

    Args:
        tables: Rows by table name. ``distributions`` with ``calibration`` gives ``ranges.svg``; ``layers``, else
            ``calibration``, gives ``sqnr.svg``; ``sparsity`` gives ``sparsity.svg`` where a share is above five percent.
    """
    made = {name: _made(name, make, tables) for name, make in MAKERS.items()}
    return {name: plot for name, plot in made.items() if plot is not None}


def _made(name: str, make: Callable[[Tables], Plot | None], tables: Tables) -> Plot | None:
    try:
        return make(tables)
    except Exception as error:  # noqa: BLE001
        # the tables are the evidence, a plot is a view of them
        _logger.warning("plot %s cannot be drawn: %s: %s", name, type(error).__name__, error)
        return None


def _ranges(tables: Tables) -> Plot | None:
    shown = plot_ranges.histograms(tables)
    if not shown:
        return None
    return Plot(_histograms(shown), plot_ranges.alt(shown), plot_ranges.caption(shown), partial(_histograms_in_dots, shown))


def _chart(chart: Chart | None) -> Plot | None:
    return Plot(_rows(chart), chart.alt, chart.caption, partial(_rows_in_dots, chart)) if chart else None


# a log has each plot twice, as a file and in its report


@lru_cache(maxsize=2)
def _histograms(shown: tuple[Histogram, ...]) -> str:
    from mlflow_aifsm.report import plot_canvas, plot_drawing

    return plot_canvas.drawn(plot_ranges.TITLE, lambda: plot_drawing.histograms(shown))


@lru_cache(maxsize=4)
def _rows(chart: Chart) -> str:
    from mlflow_aifsm.report import plot_canvas, plot_drawing

    return plot_canvas.drawn(chart.title, lambda: plot_drawing.chart(chart))


@lru_cache(maxsize=2)
def _histograms_in_dots(shown: tuple[Histogram, ...]) -> bytes:
    from mlflow_aifsm.report import plot_canvas, plot_drawing

    return plot_canvas.rastered(lambda: plot_drawing.histograms(shown))


@lru_cache(maxsize=4)
def _rows_in_dots(chart: Chart) -> bytes:
    from mlflow_aifsm.report import plot_canvas, plot_drawing

    return plot_canvas.rastered(lambda: plot_drawing.chart(chart))


MAKERS: Mapping[str, Callable[[Tables], Plot | None]] = {
    "ranges.svg": _ranges,
    "sqnr.svg": lambda tables: _chart(plot_layers.sqnr(tables)),
    "sparsity.svg": lambda tables: _chart(plot_layers.sparsity(tables)),
}
"""Plots in the order of the report. To add one: a function from tables to a plot, and its line here."""
