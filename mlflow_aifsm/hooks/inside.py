"""Whether a log is being made here, so that what is called on its way makes no log of its own.

The mark goes with the context of the thread or task that opened the log. A thread that is started meanwhile has a context of
its own and no active run of MLflow either, so that nothing is logged there unless it starts a run itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_open: ContextVar[bool] = ContextVar("open", default=False)


def inside() -> bool:
    """Whether a log is open in this context."""
    return _open.get()


@contextmanager
def held() -> Iterator[None]:
    """While it lasts, ``inside`` is true in this context."""
    token = _open.set(True)
    try:
        yield
    finally:
        _open.reset(token)
