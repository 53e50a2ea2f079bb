"""Names and numbers as plots and their alternative texts write them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from os.path import commonprefix

from mlflow_aifsm.facts import Json
from mlflow_aifsm.report.characters import visible

Values = Mapping[str, Json]
"""One row of a table: values by column name."""

SEPARATED = re.compile(r".+[/.:](?=.)")
"""What names of a graph have in common, up to its last separator."""
NOT_ASCII = re.compile(r"[^\x00-\x7f]")
HEADS = (0.5, 0.7, 0.3)
"""Shares of a cut name that are its beginning."""


def value(row: Values, name: str) -> float | None:
    """The finite number in a column, else None."""
    found = row.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if math.isfinite(found) else None


def name(row: Values, *names: str) -> str:
    """The first of the columns ``names`` that a row has, in one line, each character visible."""
    found = next((str(text) for text in map(row.get, names) if text not in (None, "")), "(without a name)")
    return " ".join(visible(found).split())


def shortened(names: Sequence[str], width: int) -> tuple[str, ...]:
    """Names at most ``width`` columns wide, cut in their middle at the place that keeps most of them apart.

    Where one is too long, what all begin with is left out first, up to its last separator; an ellipsis stands for it.
    """
    if all(columns(text) <= width for text in names):
        return tuple(names)
    # names are no paths: a dot and a colon separate, too
    common = SEPARATED.match(commonprefix(names)) if len(names) > 1 else None  # noqa: RUF071
    rest = [f"…{text[common.end() :]}" if common else text for text in names]
    ways = [tuple(_cut(text, width, head) for text in rest) for head in HEADS]
    return max(ways, key=lambda way: len(set(way)))


def _cut(text: str, width: int, head: float) -> str:
    if columns(text) <= width:
        return text
    begin = round(head * (width - 1))
    return f"{_begin(text, begin)}…{_begin(text[::-1], width - 1 - begin)[::-1]}"


def columns(text: str) -> int:
    """Width of ``text`` in columns of a terminal: wide characters, as Chinese and Japanese have them, take two."""
    return len(text) + sum(unicodedata.east_asian_width(char) in "WF" for char in NOT_ASCII.findall(text))


def _begin(text: str, width: int) -> str:
    end = min(len(text), width)
    while columns(text[:end]) > width:
        end -= 1
    return text[:end]


def signed(number: float, digits: int = 4) -> str:
    """A number with at most so many significant digits and a minus that is one."""
    return f"{number:.{digits}g}".replace("-", "\N{MINUS SIGN}")


def decibels(number: float) -> str:
    """A ratio in decibels with one decimal."""
    return f"{number:.1f}".replace("-", "\N{MINUS SIGN}")


def percent(share: float) -> str:
    """A share in [0, 1] as a percentage without its sign; what is not nothing is never written as nothing."""
    return f"{100 * share:.1f}" if share >= 0.01 else f"{100 * share:.2g}"  # noqa: PLR2004


def listed(parts: list[str]) -> str:
    """``a, b and c``."""
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)
