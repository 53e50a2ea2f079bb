"""A comparison in the terminal: as many columns side by side as fit, the others below, warnings in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlflow_aifsm.report import plot_words
from mlflow_aifsm.report.characters import visible
from mlflow_aifsm.report.comparison import Comparison
from mlflow_aifsm.report.comparison_cells import FEW, Column, columns, shared, standing, standings, telling

ROWS = 40
"""Rows that a terminal shows; a file has all."""
WORDS = 22
"""Columns of the terminal after which the words of a cell are folded."""
NAME = 24
"""Columns that a name takes at most."""
TITLE = 28
"""Columns that the heading of a line takes at most."""
NARROWEST = 15
"""Columns that a log takes at least where each has a column of its own."""
GAP = 2
"""Columns between two cells."""


def printed(made: Comparison) -> None:
    """Prints the comparison at the width of the terminal, of ``COLUMNS`` where there is none, or of 80 columns.

    Of more than `ROWS` rows the baseline and the best ones come before others.
    """
    out = Console(highlight=False)
    shown = made.shortened(ROWS)
    differing = columns(shown)
    found = (*standings(shown), *_versions(shown), *_few(differing))
    names = plot_words.shortened([_line(row.name) for row in shown.rows], NAME)
    out.print(Text(_line(shown.title), style="bold"))
    out.print(_pairs(standing(shown)), "", sep="\n")
    if len(names) * (NARROWEST + GAP) <= out.width - TITLE - GAP:
        out.print(_upright(shown, names, found), "", sep="\n")
    else:
        for part in _folded(found, out.width - _room(shown, names)):
            out.print(_block(shown, names, part), "", sep="\n")
    _paragraph(out, "Differs as well, in a file", ((one.title, "") for one in differing if one not in found))
    _paragraph(out, "The same for all that have it", shared(shown))
    for warning in shown.warnings:
        out.print(Text("! ", style="bold yellow").append(_line(warning), style="not bold default"))


def _versions(made: Comparison) -> tuple[Column, ...]:
    cells = tuple((row.version.removeprefix("models:/"),) if row.version else () for row in made.rows)
    return (Column("version", cells),) if len(set(cells)) > 1 else ()


def _few(found: Sequence[Column]) -> tuple[Column, ...]:
    """Of many rows what models are known and chosen by, and what else tells them apart."""
    numbers = (one for one in found if one.number and (one.first or len(one.cells) <= FEW))
    return (*telling([one for one in found if not one.number]), *numbers)


def _line(text: str) -> str:
    return " ".join(visible(text).split())


def _pairs(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, GAP, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(name, style="dim"), Text(_line(text)))
    return table


def _paragraph(out: Console, title: str, pairs: Iterable[tuple[str, str]]) -> None:
    """Names and texts one after the other: a line each would take the screen."""
    told = [Text(_line(name), style="dim").append(f" {_line(text)}".rstrip(), style="not dim") for name, text in pairs]
    if told:
        out.print(Text(f"{title}: ", style="bold").append(Text(" · ", style="not bold").join(told)), "", sep="\n")


def _upright(made: Comparison, names: Sequence[str], found: Sequence[Column]) -> Table:
    """A line for each thing that differs, and a column for each of few logs."""
    table = Table(box=None, padding=(0, GAP, 0, 0), header_style="bold", pad_edge=False)
    table.add_column(max_width=TITLE, overflow="fold")
    for row, name in zip(made.rows, names, strict=True):
        table.add_column(Text(f"{row.number}{'★' if row.best else ''} {name}"), min_width=NARROWEST, overflow="fold")
    for column in found:
        cells = (Text(_line(" ".join(lines))) for lines in column.cells)
        table.add_row(Text(column.title, style="dim"), *cells)
    return table


def _block(made: Comparison, names: Sequence[str], part: Sequence[Column]) -> Table:
    table = Table(box=None, padding=(0, GAP, 0, 0), header_style="bold", pad_edge=False)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for column in part:
        # a number that is broken is another number
        table.add_column(Text(column.title), max_width=_width(column), overflow="fold", no_wrap=False)
    for at, (row, name) in enumerate(zip(made.rows, names, strict=True)):
        mark = Text(f"{row.number}{'★' if row.best else ' '}")
        cells = [Text(_cell(column, at), justify="right" if column.number else "left") for column in part]
        table.add_row(mark, Text(name, style="bold" if row.best else ""), *cells)
    return table


def _cell(column: Column, at: int) -> str:
    """A cell in one line; a number and its difference stand one below the other in their own columns."""
    lines = column.cells[at]
    if not column.number:
        return _line(" ".join(lines))
    wide = [max((len(cell[place]) for cell in column.cells if len(cell) > place), default=0) for place in (0, 1)]
    return " ".join(text.rjust(width) for text, width in zip((*lines, "", "")[:2], wide, strict=True) if width)


def _folded(found: Sequence[Column], room: int) -> Iterator[list[Column]]:
    """Columns in blocks that are as wide as ``room``; one that is wider alone has a block of its own."""
    part: list[Column] = []
    for column in found:
        if part and sum(_width(one) + GAP for one in (*part, column)) > room:
            yield part
            part = []
        part.append(column)
    if part:
        yield part


def _width(column: Column) -> int:
    """Columns that a cell takes: a number whole, words folded between words where that is not too wide."""
    texts = [_cell(column, at) for at in range(len(column.cells))]
    longest = max(map(plot_words.columns, texts), default=0)
    title = max(map(len, column.title.split()))
    if column.number:
        return max(title, longest)
    word = max((plot_words.columns(word) for text in texts for word in text.split()), default=0)
    return max(title, min(longest, max(WORDS, min(word, TITLE))))


def _room(made: Comparison, names: Sequence[str]) -> int:
    """Columns that number, mark and name take."""
    width = len(str(max(row.number for row in made.rows)))
    return width + 1 + GAP + max(map(plot_words.columns, names)) + GAP
