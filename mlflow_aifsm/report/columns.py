"""Columns of a table in the annex: the lines of a cell out of a row of values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from mlflow_aifsm.facts import Json
from mlflow_aifsm.report.words import brief, readable, spaced

Values = Mapping[str, Json]
"""One row of a series: values by column name."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, its width beside the others, the names it draws on, and the lines of a cell.

    Attributes:
        reading: What a reader has to know of it, in sentences; empty where its heading says enough.
    """

    title: str
    width: int
    names: tuple[str, ...]
    lines: Callable[[Values], Iterable[str]]
    reading: str = ""


def plain(name: str) -> Column:
    """A column of a name that no table knows: its values as they are."""
    return Column(spaced(name), 1, (name,), lambda row: () if row.get(name) is None else (readable(row[name]),))


def tensor(row: Values) -> Iterator[str]:
    """Name of a tensor, and operator and name of the node that uses it."""
    yield cell_text(row, "tensor")
    yield from filter(None, [" ".join(filter(None, (cell_text(row, "op"), cell_text(row, "layer"))))])


def share(name: str, digits: int) -> Callable[[Values], Iterable[str]]:
    """A share in [0, 1] as a percentage with so many significant digits."""

    def lines(row: Values) -> Iterable[str]:
        ratio = row.get(name)
        return (
            [f"{100 * ratio:.{digits}g}\N{NO-BREAK SPACE}%"]
            if isinstance(ratio, int | float)
            else filter(None, [cell_text(row, name)])
        )

    return lines


def as_it_is(name: str) -> Callable[[Values], Iterable[str]]:
    """The value of one name."""
    return lambda row: filter(None, [cell_text(row, name)])


def cell_text(row: Values, name: str) -> str:
    """The value of a name; empty where there is none."""
    value = row.get(name)
    return "" if value is None else brief(value)


def cell_span(row: Values, name: str) -> str:
    """The value where smallest and largest agree, else from one to the other."""
    low, high = cell_text(row, f"{name}_min"), cell_text(row, f"{name}_max")
    return low if low == high else f"{low} … {high}"


def both_ends(*names: str) -> tuple[str, ...]:
    """Names of the smallest and the largest value."""
    return tuple(f"{name}_{end}" for name in names for end in ("min", "max"))
