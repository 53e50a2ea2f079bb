"""The wrapper of a recorded function: passes the call on, and logs it where a run is active and no other log is being made."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_aifsm.autologging.call import Call
from mlflow_aifsm.autologging.table import Row
from mlflow_aifsm.hooks.inside import held, inside
from mlflow_aifsm.tracking.active import has_run

if TYPE_CHECKING:
    from mlflow_aifsm.hooks.external import ExternalRecording

_logger = logging.getLogger(__name__.rpartition(".")[0])
_HERE = __name__.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``autolog`` was told; see there."""

    enabled: bool = False
    create_run: bool = False
    strict: bool = False
    verified_model: str | None = None


settings = Settings()
"""The settings in force."""


def wrapped(row: Row, original: Callable[..., Any]) -> Callable[..., Any]:
    """``original`` with a log of each call that ``row`` describes."""

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not settings.enabled or not (has_run() or settings.create_run) or inside():
            return original(*args, **kwargs)
        with held():
            # a verb of this package may call the function before its log is open
            if str(sys._getframe(1).f_globals.get("__name__")).partition(".")[0] == _HERE:  # noqa: SLF001
                return original(*args, **kwargs)
            return _recorded(row, Call(row.function, original, args, kwargs))

    return call


def problem(what: str, error: Exception) -> None:
    """A failure of the recording: one warning, or, where that is wanted, the error itself."""
    if settings.strict:
        raise error
    _logger.warning("%s: not recorded: %s: %s", what, type(error).__name__, " ".join(str(error).split()))


def _recorded(row: Row, call: Call) -> Any:
    log = _Log(row, call)
    # a person may interrupt the recording as well as the call
    try:
        log.begin()
        call.result = call.make()
        log.end()
    except BaseException as error:
        log.failed(error)
        raise
    return call.result


class _Log:
    """The log of one call. What fails in it costs the log, and not the call."""

    def __init__(self, row: Row, call: Call) -> None:
        self._row, self._call = row, call
        self._opened: AbstractContextManager[Any] | None = None
        self._log: ExternalRecording | None = None
        self._recorder: Generator[None, None, None] | None = None

    def begin(self) -> None:
        """Opens the log, and lets the recorder look at what goes in."""
        try:
            # MLflow takes seconds to import, and a script that makes no log does not need it
            from mlflow_aifsm.hooks.context import record_conversion, record_optimization

            opening = record_conversion if self._row.log == "conversion" else record_optimization
            opened = opening(verified_model=settings.verified_model)
            self._log = opened.__enter__()
            self._opened = opened
            self._recorder = self._row.load()(self._log, self._call)
            next(self._recorder)
        except Exception as error:  # noqa: BLE001
            self._call.restore()
            self._abandon(error)

    def end(self) -> None:
        """Lets the recorder look at what came out, and writes the log."""
        if self._opened is None or self._recorder is None:
            return
        try:
            next(self._recorder, None)
        except Exception as error:  # noqa: BLE001
            self._abandon(error)
            return
        opened, self._opened = self._opened, None
        try:
            opened.__exit__(None, None, None)
            next(self._recorder, None)
        except Exception as error:  # noqa: BLE001
            problem(self._row.function, error)

    def failed(self, error: BaseException) -> None:
        """Logs that the call failed; the exception is the caller's, and goes on."""
        try:
            try:
                self._tell_call()
            finally:
                self._close(error)
        except Exception as second:  # noqa: BLE001
            _logger.warning("%s: its failure was not recorded: %s: %s", self._row.function, type(second).__name__, second)

    def _tell_call(self) -> None:
        if self._recorder is not None:
            self._recorder.close()
        if self._opened is not None and self._log is not None:
            self._log.called(self._row.function, *self._call.settings(()), fact=self._row.fact)

    def _abandon(self, error: Exception) -> None:
        """Ends a log that cannot be made: it says so."""
        try:
            self._close(error)
        finally:
            problem(self._row.function, error)

    def _close(self, error: BaseException) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.__exit__(type(error), error, error.__traceback__)
