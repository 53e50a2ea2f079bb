"""A comparison as blocks, which the writers of reports set in their formats."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from mlflow_aifsm.report.annex_tables import plain_table
from mlflow_aifsm.report.blocks import Badge, Block, Cell, Figure, Heading, Mark, Notice, Paragraph, Role, Row, Table, Text
from mlflow_aifsm.report.comparison import Comparison
from mlflow_aifsm.report.comparison_cells import Column, columns, condensed, shared, standing, standings
from mlflow_aifsm.report.comparison_scatter import plotted
from mlflow_aifsm.report.words import line, quiet, strong

ROWS = 200
"""Rows of a document; a CSV has all."""
ACROSS = 8
"""Columns beside the names in one table."""
NAME = 20
"""Percent of a table's width that names take."""


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
    kept = condensed(words)
    yield from _section("What differs", made, (*standings(made), *kept))
    yield from _section("Numbers", made, [column for column in found if column.number])
    titles = {column.title for column in kept}
    yield from _section("What differs in the same rows", made, [column for column in words if column.title not in titles])
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
    wide = (100 - NAME) // max(len(part), 4)
    rows = tuple(Row((_name(made, at), *(_cell(column, at) for column in part))) for at in range(len(made.rows)))
    return Table((Text("Log"), *(Text(column.title) for column in part)), rows, (NAME, *(wide for _ in part)))


def _name(made: Comparison, at: int) -> Cell:
    row = made.rows[at]
    badges = [Badge("best", Mark.GOOD)] if row.best else []
    baseline = [quiet("baseline")] if at == made.baseline else []
    return Cell((Paragraph((quiet(str(row.number)), Text(row.name), *badges, *baseline)),))


def _cell(column: Column, at: int) -> Cell:
    first, *others = column.cells[at] or ("",)
    return Cell((line(first), *(line(quiet(text), role=Role.META) for text in others)))
