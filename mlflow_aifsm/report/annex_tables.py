"""Tables of the annexes: small ones in full, long series cut to what a page can hold, and said so."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from mlflow_aifsm.facts import Json
from mlflow_aifsm.report.blocks import Block, Cell, Paragraph, Row, Table, Text
from mlflow_aifsm.report.words import code, line, quiet, readable

ROWS = 200
"""Rows of a series that the document shows; the CSV beside the record has all."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "quantizers": ("tensor", "kind", "dtype", "bits", "granularity", "beta", "alpha", "zero_point", "s", "scale"),
    "sparsity": ("tensor", "layer", "size", "zeros", "ratio"),
}
"""Main columns of each series, in order; where a series has none of them, its own first ones."""

READING: Mapping[str, str] = {"quantizers": "s multiplies, as in x_q = round(s·x + z); scale divides, and is 1/s. "}
"""What a reader has to know to read a series."""

MOST = 10
"""Columns that fit on a page."""

WIDEST = 24
"""Characters of the longest word that a column is made wide for."""

PADDING = 3
"""Characters that fit into the space between two columns."""


def plain_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], widths: tuple[int, ...], codes: Collection[int] = ()
) -> Table:
    """A table of plain texts; ``codes`` are the columns, from 0, that hold digests and the like."""
    made = (
        Row(tuple(_cell(code(value) if place in codes else Text(value)) for place, value in enumerate(row))) for row in rows
    )
    return Table(tuple(Text(column) for column in columns), tuple(made), widths)


def series_table(name: str, rows: Sequence[Mapping[str, Json]]) -> tuple[Block, ...]:
    """The series ``name`` by layer or tensor: main columns, the first rows, and a sentence on what was left out."""
    if not any(rows):
        return (line(f"No table of {name} lies beside this record."),)
    rows = [_folded(row) for row in rows]
    every = tuple(dict.fromkeys(column for row in rows for column in row))
    shown = _main(name, every)
    texts = [["" if row.get(column) is None else readable(row[column]) for column in shown] for row in rows[:ROWS]]
    names = [column.replace("_", " ") for column in shown]
    table = plain_table(names, texts, widths=_widths(names, texts))
    return (table, *_left_out(name, len(rows), [column for column in every if column not in shown]))


def _folded(row: Mapping[str, Json]) -> dict[str, Json]:
    """Columns ``x_min`` and ``x_max`` as one column ``x``: the value where both agree, else from one to the other."""
    spans = {name.removesuffix("_min") for name in row if name.endswith("_min") and f"{name.removesuffix('_min')}_max" in row}
    folded: dict[str, Json] = {}
    for name, value in row.items():
        stem = name.removesuffix("_min").removesuffix("_max")
        if name == stem or stem not in spans:
            folded[name] = value
        elif stem not in folded:
            folded[stem] = _span(row[f"{stem}_min"], row[f"{stem}_max"])
    return folded


def _span(low: Json, high: Json) -> Json:
    return low if low == high else f"{readable(low)} to {readable(high)}"


def _main(name: str, every: tuple[str, ...]) -> tuple[str, ...]:
    main = tuple(column for column in COLUMNS.get(name, ()) if column in every)
    return (main or every)[:MOST]


def _widths(names: Sequence[str], texts: Sequence[Sequence[str]]) -> tuple[int, ...]:
    columns = [" ".join((name, *column)).split() for name, column in zip(names, zip(*texts, strict=True), strict=True)]
    room = [min(max(map(len, words), default=0), WIDEST) + PADDING for words in columns]
    return tuple(round(100 * size / sum(room)) for size in room)


def _left_out(name: str, total: int, columns: Sequence[str]) -> tuple[Paragraph, ...]:
    rows = f"The first {ROWS} of {total:,} rows are shown. " if total > ROWS else f"All {total} rows are shown. "
    more = f"Columns left out here: {', '.join(columns)}. " if columns else ""
    beside = f"{name}.csv beside the record holds all rows and columns. An empty cell holds no value."
    return (line(quiet(f"{READING.get(name, '')}{rows}{more}{beside}")),)


def _cell(text: Text) -> Cell:
    return Cell((line(text),))
