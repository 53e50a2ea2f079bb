"""Of a table that is too long to print: how many rows are of which kind, and the rows that differ most from the others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from mlflow_aifsm.report.annex_tables import plain_table
from mlflow_aifsm.report.blocks import Block
from mlflow_aifsm.report.columns import Values, cell_text
from mlflow_aifsm.report.words import line, spaced

ROWS = 200
"""Rows of a series that the document shows; the CSV beside the record has all."""

KINDS: Mapping[str, tuple[str, ...]] = {
    "steps": ("operation",),
    "quantizers": ("kind", "dtype", "bits", "granularity"),
    "calibration": ("method",),
    "layers": ("op",),
    "sparsity": ("pattern",),
}
"""What tells the rows of a series apart: rows that agree in all of it are of one kind."""

LOSS = "sqnr_db"
"""The number by which rows of one kind are told apart: the lower, the more is lost."""

Kind = tuple[str, ...]


def shortened(tables: Mapping[str, Sequence[Values]]) -> tuple[str, ...]:
    """Names of the tables that have more rows than the document shows."""
    return tuple(name for name in KINDS if len(tables.get(name, ())) > ROWS)


def counted(name: str, rows: Sequence[Values]) -> Iterator[Block]:
    """The kinds of rows of a table that is too long, the rarest first; nothing for one that is shown whole."""
    if len(rows) <= ROWS:
        return
    kinds = Counter(_kind(name, row) for row in rows)
    titles = [spaced(column).capitalize() for column in KINDS.get(name, ())]
    told = [(*kind, f"{count:,}") for kind, count in sorted(kinds.items(), key=lambda found: (found[1], found[0]))]
    yield line(f"{len(rows):,} rows of {len(kinds)} kind{'' if len(kinds) == 1 else 's'}, the rarest first:")
    yield plain_table((*titles, "Rows"), told[:ROWS], widths=(*(80 // len(titles),) * len(titles), 20) if titles else (100,))


def excerpt(name: str, rows: Sequence[Values]) -> Sequence[Values]:
    """The rows that the document shows: all, or those of the rarest kinds, and among these those that lose most."""
    if len(rows) <= ROWS:
        return rows
    kinds = Counter(_kind(name, row) for row in rows)
    return sorted(rows, key=lambda row: (kinds[_kind(name, row)], _loss(row)))[:ROWS]


def which(rows: Sequence[Values]) -> str:
    """Which rows of a table are shown, in one sentence."""
    if len(rows) <= ROWS:
        return f"All {len(rows)} rows are shown."
    lowest = ", and of one kind those of the lowest SQNR" if any(LOSS in row for row in rows) else ""
    return f"{ROWS} of {len(rows):,} rows are shown: those of the rarest kinds first{lowest}."


def _kind(name: str, row: Values) -> Kind:
    return tuple(cell_text(row, column) or "not given" for column in KINDS.get(name, ()))


def _loss(row: Values) -> float:
    value = row.get(LOSS)
    return float(value) if isinstance(value, int | float) else math.inf
