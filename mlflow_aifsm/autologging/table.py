"""The functions that are recorded, one row each. Another package adds rows by an entry point."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mlflow_aifsm.autologging.call import Call
from mlflow_aifsm.errors import ConfigError

if TYPE_CHECKING:
    # a recording imports MLflow, which takes seconds, and a script that makes no log does not need it
    from mlflow_aifsm.hooks.external import ExternalRecording

GROUP = "mlflow_aifsm.autolog"
"""Entry point group; each entry names a ``Row``, or an iterable of them."""

Recorder: TypeAlias = Callable[["ExternalRecording", Call], Generator[None, None, None]]
"""Tells the log what a call does: up to its ``yield`` before the call, with the rest after it, when ``call.result`` is there.
What follows from the log itself stands behind a second ``yield``: the log is finished then.

A call that raises closes the generator at its ``yield``; the log then holds the exception.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A function that is recorded.

    Attributes:
        module: The module that users import it from.
        attribute: Its name there.
        log: Which log a call makes.
        recorder: Where its ``Recorder`` lies, ``package.module:function``; imported at the first call that is recorded.
        fact: The fact that holds a call which failed, before its recorder could tell it; that of the log's tool if empty.
    """

    module: str
    attribute: str
    log: Literal["conversion", "optimization"]
    recorder: str
    fact: str = ""

    @property
    def function(self) -> str:
        """The function with its module."""
        return f"{self.module}.{self.attribute}"

    def load(self) -> Recorder:
        """The recorder.

        Raises:
            ConfigError: If it cannot be imported.
        """
        module, _, name = self.recorder.partition(":")
        try:
            recorder: Recorder = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"recorder {self.recorder} of {self.function}: {error}", expected="module:function") from error
        return recorder


_OWN = __name__.rpartition(".")[0]

BUILT_IN = (
    Row("torch.onnx", "export", "conversion", f"{_OWN}.torch_export:export"),
    Row("nncf", "quantize", "optimization", f"{_OWN}.nncf_calls:quantize"),
    Row("nncf", "quantize_with_accuracy_control", "optimization", f"{_OWN}.nncf_calls:quantize"),
    Row("nncf", "compress_weights", "optimization", f"{_OWN}.nncf_calls:compress_weights"),
    Row("nncf", "prune", "optimization", f"{_OWN}.nncf_calls:prune", "pruning.call"),
    Row("onnxruntime.quantization", "quantize_static", "optimization", f"{_OWN}.onnxruntime_calls:static"),
    Row("onnxruntime.quantization", "quantize_dynamic", "optimization", f"{_OWN}.onnxruntime_calls:dynamic"),
)
"""What this package records by itself."""


def added(failed: Callable[[str, Exception], None]) -> Iterator[Row]:
    """The rows of other packages.

    Args:
        failed: Told of each entry point that yields no rows, with the reason.
    """
    for entry in entry_points(group=GROUP):
        try:
            rows = _rows(entry)
        except Exception as error:  # noqa: BLE001 -- another package's import may raise anything
            failed(f"entry point {entry.name} of group {GROUP} ({entry.value})", error)
        else:
            yield from rows


def _rows(entry: EntryPoint) -> tuple[Row, ...]:
    loaded: Any = entry.load()
    rows = tuple(loaded) if isinstance(loaded, Iterable) else (loaded,)
    if not all(isinstance(row, Row) for row in rows):
        raise ConfigError("its value", got=type(loaded).__name__, expected="a Row, or an iterable of rows")
    return rows
