"""A progress bar with the time left, where a person is looking; nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int | None], None] | None]:
    """A callback ``(done, total)`` that draws a bar on a terminal, or None where there is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    # rich is imported here, because a process without a terminal never needs it
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
