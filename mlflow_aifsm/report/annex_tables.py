"""Small tables of plain texts, as the annexes use them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from mlflow_aifsm.report.blocks import Cell, Row, Table, Text
from mlflow_aifsm.report.words import code, line


def plain_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], widths: tuple[int, ...], codes: Collection[int] = ()
) -> Table:
    """A table of plain texts; ``codes`` are the columns, from 0, that hold digests and the like."""
    made = (
        Row(tuple(_cell(code(value) if place in codes else Text(value)) for place, value in enumerate(row))) for row in rows
    )
    return Table(tuple(Text(column) for column in columns), tuple(made), widths)


def _cell(text: Text) -> Cell:
    return Cell((line(text),))
