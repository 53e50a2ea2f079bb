"""What the cells of a comparison say, whatever the format: a column of lines for each thing in which logs differ."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlflow_aifsm.report.characters import visible
from mlflow_aifsm.report.comparison import FIRST, RELATIVE, WORDS, Comparison, Row
from mlflow_aifsm.report.plot_words import listed, shortened
from mlflow_aifsm.report.words import brief, spaced

MINUS = "\N{MINUS SIGN}"
UNITS: Mapping[str, str] = {"size": "bytes", "speedup": "×", "sqnr_db": "dB"}
"""Units that stand behind a number's name."""
LISTING = re.compile(r", | and |; ")
"""What parts the names of a sentence."""
ABSENT = ("not applicable", "not recorded")
"""Texts that many fields share: they are told once, with the fields that say so."""
FEW = 5
"""Rows of which all that differs is shown."""
NAMED = 8
"""Best rows that are named where they are counted."""
LONGEST = 60
"""Columns that a name in a sentence takes at most."""
LEGEND = "no other row of its group is at least as good in {}, and better in one"


@dataclass(frozen=True, slots=True)
class Column:
    """One thing in which logs differ.

    Attributes:
        title: Its heading.
        cells: The lines of each row's cell; none where the row does not have it.
        number: Whether they are numbers, with the difference from the baseline behind each.
        first: Whether models are known or chosen by it.
    """

    title: str
    cells: tuple[tuple[str, ...], ...]
    number: bool = False
    first: bool = False


def columns(made: Comparison) -> tuple[Column, ...]:
    """What differs, categories first."""
    words = (Column(spaced(key), tuple(_text(row, key) for row in made.rows), first=key in WORDS) for key in made.differing)
    numbers = (
        Column(heading(key), tuple(_number(made, row, key) for row in made.rows), number=True, first=key in FIRST)
        for key in made.numbers
    )
    return (*words, *numbers)


def standings(made: Comparison) -> tuple[Column, ...]:
    """Kind, state and group of the rows, where they differ."""
    several = len(made.groups) > 1
    ways: tuple[tuple[str, Callable[[Row], str]], ...] = (
        ("kind", lambda row: row.log),
        ("state", lambda row: row.status),
        ("group", lambda row: str(row.group) if row.group and several else ""),
    )
    found = [Column(title, tuple((text,) if (text := way(row)) else () for row in made.rows)) for title, way in ways]
    return tuple(column for column in found if len(set(column.cells)) > 1)


def telling(found: Sequence[Column]) -> tuple[Column, ...]:
    """Of categories of many rows those that models are known by, and each other one in which rows differ that are alike so far.

    So no two rows look the same that are not, and what only repeats a difference does not stand in the way. Of `FEW` rows all
    are kept.
    """
    kept: list[Column] = []
    for column in found:
        apart = {*zip(*(one.cells for one in kept), strict=True)}
        finer = {*zip(*(one.cells for one in (*kept, column)), strict=True)}
        if column.first or len(column.cells) <= FEW or len(finer) > max(len(apart), 1):
            kept.append(column)
    return tuple(kept)


def heading(key: str) -> str:
    """The name of a number with its unit."""
    unit = UNITS.get(key, "")
    name = spaced(key).removesuffix(" db")
    return f"{name} ({unit})" if unit else name


def _text(row: Row, key: str) -> tuple[str, ...]:
    return (row.categories[key],) if key in row.categories else ()


def _number(made: Comparison, row: Row, key: str) -> tuple[str, ...]:
    value = row.numbers.get(key)
    if value is None:
        return ()
    change = made.delta(row, key)
    told = change is not None and key not in RELATIVE and row is not made.rows[made.baseline]
    return (brief(value), delta(change, value, key)) if told and change is not None else (brief(value),)


def delta(change: float, value: float, key: str) -> str:
    """A difference with its sign; that of a size is told in percent of the baseline's."""
    if not change:
        return "±0"
    before = value - change
    if key == "size" and before:
        return f"{100 * change / before:+.3g} %".replace("-", MINUS)
    return (f"{change:+,.0f}" if change.is_integer() else f"{change:+.3g}").replace("-", MINUS)


def standing(made: Comparison) -> Iterator[tuple[str, str]]:
    """How many there are, what they are held against, and which are the best: words and sentences."""
    count = len(made.rows) + made.left_out
    more = f", {len(made.rows):,} of them shown: the baseline, the best ones and others" if made.left_out else ""
    yield "Logs", f"{count:,}{more}"
    yield "Baseline", made.rows[made.baseline].name
    if made.best:
        yield "Best", f"{named([row.name for row in made.best], NAMED)}: {LEGEND.format(ranked_by(made))}"


def named(names: Sequence[str], most: int) -> str:
    """``most`` names in a sentence, the others counted: long ones are cut, and one with a comma or an "and" is quoted."""
    shown = shortened([" ".join(visible(name).split()) for name in names[:most]], LONGEST)
    more = [f"{len(names) - most} more"] if len(names) > most else []
    return listed([*(f"“{name}”" if LISTING.search(name) else name for name in shown), *more])


def ranked_by(made: Comparison) -> str:
    """The numbers that rank, in words."""
    measured = {name for row in made.rows for name in row.numbers}
    return listed([spaced(name) for name in (made.quality, "size", "speedup") if name in measured])


def shared(made: Comparison) -> Iterator[tuple[str, str]]:
    """What all logs that have it have in common: name and text; names that share `ABSENT` texts stand together."""
    yield from ((spaced(key), text) for key, text in made.same.items() if text not in ABSENT)
    for text in ABSENT:
        names = [spaced(key) for key, found in made.same.items() if found == text]
        if names:
            yield text, ", ".join(names)
