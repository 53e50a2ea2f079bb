"""Lines for the terminal: a word at the left, its text beside it, wrapped under itself."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable

WIDTH = 100
"""Columns that a line keeps to where no terminal is narrower."""
NARROW = 60
"""Columns that a line may take in any terminal: a text in fewer is not read any more."""

TOGETHER = re.compile(r"(?<=sha256) (?=[0-9a-f])")
"""A space that no line is broken at."""


def laid_out(rows: Iterable[tuple[str, str]], indent: str, column: int) -> list[str]:
    """Lines of ``rows``: the word in ``column`` characters after ``indent``, then its text, wrapped under itself.

    Nothing is broken inside a word, so ids and digests can be copied; a command is one line, however long.
    """
    width = min(WIDTH, max(NARROW, shutil.get_terminal_size((WIDTH, 0)).columns))
    return [line for word, text in rows for line in _row(f"{indent}{word:<{column}}", text, width)]


def _row(head: str, text: str, width: int) -> list[str]:
    if text.startswith("mlflow-aifsm "):
        return [head + text]
    hanging = " " * len(head)
    whole = textwrap.TextWrapper(
        width, initial_indent=head, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
    )
    lines = whole.wrap(TOGETHER.sub("\u00a0", text))
    return [line.replace("\u00a0", " ") for line in lines] or [head.rstrip()]
