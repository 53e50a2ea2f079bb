"""Folders for files on their way: for as long as the process lives, or for one step of it.

A killed process leaves them behind, so that nothing written is lost.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def folder() -> Path:
    """A new empty folder, removed when the interpreter ends in good order."""
    path = Path(tempfile.mkdtemp(prefix="aifsm-"))
    atexit.register(_remove, path)
    return path


@contextmanager
def temporary() -> Iterator[Path]:
    """A new empty folder, removed at the end of the ``with`` block: for what nobody needs after the step that wrote it."""
    path = Path(tempfile.mkdtemp(prefix="aifsm-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def keep(path: Path) -> Path:
    """Leaves a folder on disk for good and returns it: it holds the only copy of something."""
    _kept.add(path)
    return path


_kept: set[Path] = set()


def _remove(path: Path) -> None:
    if path not in _kept:
        shutil.rmtree(path, ignore_errors=True)
