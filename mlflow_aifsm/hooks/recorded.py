"""What ``record_conversion`` and ``record_optimization`` return: a context manager that is a decorator, too."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.hooks.external import ExternalRecording

P = ParamSpec("P")
T = TypeVar("T")
LOG = "log"
"""Parameter of a decorated function that gets the recording."""

_LATE = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


class Recorded(AbstractContextManager[ExternalRecording]):
    """Records what its body does, or each call of the function that it decorates, as a log of its own.

    A decorated function with a parameter ``log`` gets the recording there, and hands over what it made itself. One without
    hands over the file that it returns. What it returns and raises is the caller's in either case.

    Args:
        opening: Begins a log.
    """

    def __init__(self, opening: Callable[[], AbstractContextManager[ExternalRecording]]) -> None:
        self._opening = opening
        self._open: AbstractContextManager[ExternalRecording] | None = None

    def __enter__(self) -> ExternalRecording:
        self._open = self._opening()
        return self._open.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        opened, self._open = self._open, None
        return None if opened is None else opened.__exit__(kind, error, trace)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Decorates ``function``.

        Raises:
            InputError: If it is a coroutine or a generator, whose work is done after the call.
        """
        if any(is_late(one) for is_late in _LATE for one in (function, type(function).__call__)):
            expected, remedy = "a function that has done its work when it returns", "record with a with statement inside it"
            name = getattr(function, "__qualname__", type(function).__qualname__)
            raise InputError(f"{name} cannot be decorated", expected=expected, remedy=remedy)
        wanted = LOG in inspect.signature(function).parameters

        @functools.wraps(function)
        def recorded(*args: P.args, **kwargs: P.kwargs) -> T:
            with self._opening() as log:
                if wanted:
                    kwargs[LOG] = log
                result = function(*args, **kwargs)
                if not wanted:
                    _taken(log, result)
            return result

        return recorded


def _taken(log: ExternalRecording, result: Any) -> None:
    if isinstance(result, str | Path) and Path(result).is_file():
        log.output(result)
