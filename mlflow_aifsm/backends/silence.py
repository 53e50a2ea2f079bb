"""Keeps a tool's advice, prints and bars to itself while this package calls it, in the calling thread alone.

The tools write through loggers, ``print`` and bars that the whole process shares. So nothing shared is switched off: what
stands at their ends asks whether the thread that writes is in a call of this package, and lets everything else through.
"""

from __future__ import annotations

import builtins
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from mlflow_aifsm import config

_calling: ContextVar[bool] = ContextVar("calling", default=False)
_unwatched: ContextVar[bool] = ContextVar("unwatched", default=False)


@contextmanager
def silent() -> Iterator[None]:
    """While it lasts, ``Filter`` holds records of this thread back, and ``unwatched`` is true where nobody looks."""
    tokens = _calling.set(True), _unwatched.set(config.load().quiet or not sys.stderr.isatty())
    try:
        yield
    finally:
        _calling.reset(tokens[0])
        _unwatched.reset(tokens[1])


def unwatched() -> bool:
    """Whether this thread is in a call during which bars and prints are unwanted: setting ``quiet``, or no terminal."""
    return _unwatched.get()


class Filter(logging.Filter):
    """Holds back what a tool logs during a call of this package in this thread.

    Args:
        level: Records from here on pass.
        folder: Only records of source files below it are held back; those of all files if None.
    """

    def __init__(self, level: int, folder: Path | None = None) -> None:
        super().__init__()
        self._level, self._folder = level, folder

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether ``record`` passes."""
        if not _calling.get() or record.levelno >= self._level:
            return True
        return self._folder is not None and not Path(record.pathname).is_relative_to(self._folder)


@contextmanager
def root_logger_kept() -> Iterator[None]:
    """While it lasts, ``logging.basicConfig`` does nothing: a module that calls it when imported would change all loggers."""
    root, stand_in = logging.getLogger(), logging.NullHandler()
    root.addHandler(stand_in)
    try:
        yield
    finally:
        root.removeHandler(stand_in)


def told(*values: Any, **settings: Any) -> None:
    """``print`` for a tool's module, which prints nothing where nobody looks."""
    if not unwatched():
        builtins.print(*values, **settings)  # noqa: T201 -- the tool's own print
