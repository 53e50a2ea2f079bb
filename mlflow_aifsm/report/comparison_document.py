"""A comparison as blocks, which the writers of reports set in their formats."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from mlflow_aifsm.report.annex_tables import plain_table
from mlflow_aifsm.report.blocks import Badge, Block, Cell, Figure, Heading, Mark, Notice, Paragraph, Row, Table, Text
from mlflow_aifsm.report.comparison import Comparison
from mlflow_aifsm.report.comparison_cells import Column, columns, shared, standing, standings, telling
from mlflow_aifsm.report.comparison_scatter import plotted
from mlflow_aifsm.report.plot_words import shortened
from mlflow_aifsm.report.words import line, quiet, strong

ROWS = 200
"""Rows of a document; a CSV has all."""
ACROSS = 9
"""Columns beside the names in one table."""
NAME = 40
"""Characters for which names have room, if other columns leave it to them."""
LONGEST = 120
"""Characters of a name that each table shows; a CSV has all."""
WIDEST, PADDING = 22, 6
"""Characters beyond which a column takes no more room, because its cells are folded, and those that stand for its margins."""


def blocks(made: Comparison, plots_of: Comparison | None = None) -> Iterator[Block]:
    """How the logs stand, what to know first, the plots, what differs, the numbers, and what is the same.

    Args:
        made: The comparison.
        plots_of: The comparison whose rows are plotted; no plots if None.
    """
    yield from (line(strong(f"{name}:"), text) for name, text in standing(made))
    if made.warnings:
        yield Notice(Mark.SAID, tuple(line(warning) for warning in made.warnings))
    for name, plot in plotted(plots_of).items() if plots_of else ():
        yield Figure(name, plot.svg, Text(plot.alt), Text(plot.caption), plot.png)
    found = columns(made)
    words = [column for column in found if not column.number]
    kept = telling(words)
    yield from _section("What differs", made, (*standings(made), *kept))
    yield from _section("Numbers", made, [column for column in found if column.number])
    yield from _section("What else differs in rows that are told apart above", made, [one for one in words if one not in kept])
    same = list(shared(made))
    if same:
        yield Heading(1, "", Text("The same for all that have it"))
        yield plain_table(("", "value"), same, (30, 70))


def _section(title: str, made: Comparison, found: Sequence[Column]) -> Iterator[Block]:
    if found:
        yield Heading(1, "", Text(title))
    # as many in each table, so that none is left with one column
    tables = math.ceil(len(found) / ACROSS)
    for at in range(tables):
        yield _table(made, found[at * len(found) // tables : (at + 1) * len(found) // tables])


def _table(made: Comparison, part: Sequence[Column]) -> Table:
    rows = tuple(Row((_name(made, at), *(_cell(column, at) for column in part))) for at in range(len(made.rows)))
    return Table((Text("Log"), *(Text(column.title) for column in part)), rows, tuple(_widths(part)))


def _widths(part: Sequence[Column]) -> Iterator[int]:
    """Percent of the table's width for the names and for each column, by what it holds."""
    longest = (max(map(len, (column.title, *map(" ".join, column.cells)))) for column in part)
    wide = [NAME, *(min(length, WIDEST) + PADDING for length in longest)]
    yield from (round(100 * one / sum(wide)) for one in wide)


def _name(made: Comparison, at: int) -> Cell:
    row = made.rows[at]
    badges = [Badge("best", Mark.GOOD)] if row.best else []
    notes = filter(None, ("baseline" if at == made.baseline else "", row.version.removeprefix("models:/")))
    (name,) = shortened([row.name], LONGEST)
    return Cell((Paragraph((quiet(str(row.number)), Text(name), *badges, *map(quiet, notes))),))


def _cell(column: Column, at: int) -> Cell:
    first, *others = column.cells[at] or ("",)
    return Cell((line(first, *map(quiet, others)),))
