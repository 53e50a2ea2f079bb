"""Runs a frozen file as it is written: an ONNX file in ONNX Runtime, on the CPU provider.

The run of record has the runtime's graph optimizer off: it would rewrite the graph, remove an active Dropout for instance, and
so certify something else than the file that another runtime executes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.samples import Batch
from mlflow_aifsm.sources import Array

Run = Callable[[Batch], Batch]
"""From arrays by input name to arrays by output name; the first axis counts the samples."""

PROVIDER = "CPUExecutionProvider"

_TYPES = {"float": "float32", "double": "float64", "string": "str"}
"""Element types of ONNX Runtime that numpy calls otherwise."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a model.

    Attributes:
        name: Its name in the graph.
        dtype: The numpy dtype it takes.
        shape: Its axes, batch axis first; None where an axis has no fixed length.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]

    def fit(self, array: Array) -> Array:
        """``array`` (shape ``[n, …]``) in this input's dtype.

        Floats and integers become floats; integers become another integer type where no value changes.

        Raises:
            InputError: If the shape differs in a fixed axis behind the first, or the values cannot be held.
        """
        wanted = [length or "n" for length in self.shape]
        axes = zip(array.shape[1:], self.shape[1:], strict=False)
        if array.ndim != len(self.shape) or any(want is not None and got != want for got, want in axes):
            raise InputError(f"data of input '{self.name}' do not fit", got=f"shape {list(array.shape)}", expected=f"{wanted}")
        cast = array.astype(self.dtype, copy=False) if self._holds(array) else None
        if cast is None or (self.dtype.kind in "iu" and not np.array_equal(cast, array)):
            raise InputError(f"data of input '{self.name}' do not fit", got=f"dtype {array.dtype}", expected=self.dtype)
        return cast

    def _holds(self, array: Array) -> bool:
        return np.can_cast(array.dtype, self.dtype, "same_kind") or (array.dtype.kind in "iu" and self.dtype.kind in "iu")


class Session(ABC):
    """A frozen file ready to run.

    Attributes:
        inputs: What it is fed with.
        outputs: Names of its outputs, in order.
        output_types: Their element types as numpy writes them, ``bfloat16`` besides.
        description: Runtime of record: name, version, place, settings.
    """

    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]
    output_types: tuple[str, ...]
    description: str

    @property
    def fixed_batch(self) -> int | None:
        """Length of the batch axis where every input fixes the same one, else None."""
        lengths = {spec.shape[0] if spec.shape else None for spec in self.inputs}
        return lengths.pop() if len(lengths) == 1 else None

    @property
    def ranks(self) -> dict[str, int]:
        """Number of axes of each input, batch axis included."""
        return {spec.name: len(spec.shape) for spec in self.inputs}

    def fit(self, batch: Mapping[str, Array]) -> Batch:
        """``batch`` with every input in the dtype the model takes.

        Raises:
            InputError: If an input is missing, or its shape or values do not fit.
        """
        self._check_names(batch)
        return {spec.name: spec.fit(batch[spec.name]) for spec in self.inputs}

    def run(self, batch: Mapping[str, Array]) -> Batch:
        """Outputs by name for ``batch`` (each array ``[n, …]``).

        A model with a fixed batch axis runs it in pieces of that length, see ``in_pieces``.

        Raises:
            InputError: If the batch does not fit, or an output of a model with fixed batch axis has no such axis.
        """
        return in_pieces(self._run, self.fit(batch), self.fixed_batch)

    def _check_names(self, batch: Mapping[str, Array]) -> None:
        names = [spec.name for spec in self.inputs]
        if set(batch) != set(names):
            raise InputError("data do not name the model's inputs", got=sorted(batch), expected=sorted(names))

    @abstractmethod
    def _run(self, batch: Batch) -> Batch:
        """Outputs by name for a batch that fits."""


class OnnxSession(Session):
    """An ONNX file ready to run on the CPU provider of ONNX Runtime.

    Args:
        path: The ``.onnx`` file; external data are found beside it.
        optimize: Whether the runtime may rewrite the graph, as it does when deployed; off for the run of record.
        threads: Threads inside an operator; the runtime's own choice if None.
    """

    def __init__(self, path: Path, optimize: bool = False, threads: int | None = None) -> None:
        options = session_options(optimize, threads)
        self._adopt(onnxruntime.InferenceSession(str(path), options, providers=[PROVIDER]), optimize)

    def prepared(self, batch: Batch) -> Callable[[], Any]:
        """A call that runs ``batch``, which fits, and does nothing else: what a clock wants."""
        return partial(self._session.run, None, batch)

    def _adopt(self, session: onnxruntime.InferenceSession, optimize: bool) -> None:
        self._session = session
        self.inputs = tuple(_spec(node) for node in session.get_inputs())
        self.outputs = tuple(node.name for node in session.get_outputs())
        self.output_types = tuple(_element(node) for node in session.get_outputs())
        optimizations = "on" if optimize else "off"
        self.description = f"ONNX Runtime {onnxruntime.__version__}, {PROVIDER}, graph optimizations {optimizations}"

    def _run(self, batch: Batch) -> Batch:
        results = self._session.run(list(self.outputs), batch)
        return {name: np.asarray(result) for name, result in zip(self.outputs, results, strict=True)}


def session_options(optimize: bool, threads: int | None = None) -> onnxruntime.SessionOptions:
    """Options of a session: errors alone are logged, the graph optimizer is on or off, None leaves threads to the runtime."""
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    return options


def in_pieces(run: Run, batch: Batch, size: int | None) -> Batch:
    """Outputs of ``run`` for ``batch``, run in pieces of exactly ``size`` samples, the last padded with its last sample.

    Args:
        run: From arrays by input name to arrays by output name.
        batch: Inputs ``[n, …]`` by name.
        size: Samples a piece; None for all at once.

    Returns:
        Outputs ``[n, …]`` by name; what the padding yields is dropped.

    Raises:
        InputError: If an output has no batch axis, so that pieces of it cannot be joined.
    """
    if size is None:
        return run(batch)
    count = len(next(iter(batch.values())))
    pieces = [run(_padded(batch, start, size)) for start in range(0, count, size)]
    for name, array in pieces[0].items():
        if array.shape[:1] != (size,):
            raise InputError(f"output '{name}' has no batch axis", got=f"shape {list(array.shape)}", expected=f"[{size}, …]")
    return {name: np.concatenate([piece[name] for piece in pieces])[:count] for name in pieces[0]}


def _padded(batch: Batch, start: int, size: int) -> Batch:
    parts = {name: array[start : start + size] for name, array in batch.items()}
    return {name: np.concatenate([part, part[-1:].repeat(size - len(part), 0)]) for name, part in parts.items()}


def _spec(node: Any) -> InputSpec:
    shape = tuple(length if isinstance(length, int) and length > 0 else None for length in node.shape)
    try:
        return InputSpec(node.name, np.dtype(_element(node)), shape)
    except TypeError as error:
        raise InputError(f"input '{node.name}' cannot be fed from an array", got=node.type, expected="a tensor") from error


def _element(node: Any) -> str:
    """``tensor(float)`` and its like in numpy's words."""
    element = node.type.removeprefix("tensor(").removesuffix(")")
    return str(_TYPES.get(element, element))
