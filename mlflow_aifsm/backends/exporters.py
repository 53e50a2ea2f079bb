"""PyTorch's exporter: a module or an exported program in, an ONNX file out."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from mlflow_aifsm.errors import ConversionError, InputError
from mlflow_aifsm.facts import Json

EXTERNAL_DATA_ABOVE = 64 * 2**20
"""Bytes of weights from which on they lie in a file of their own, so that reading them streams."""
STACK_TRACE = "pkg.torch.onnx.stack_trace"
"""Node metadata in which the exporter writes absolute source paths."""


@dataclass(frozen=True, slots=True)
class Exported:
    """An ONNX file with the call that made it.

    Attributes:
        path: The file; weights above 64 MiB lie beside it.
        function: The function that was called.
        arguments: Its arguments with resolved defaults.
        given: Those that were passed to it.
        stripped: Number of nodes from which a stack trace was taken.
    """

    path: Path
    function: str
    arguments: dict[str, Json]
    given: dict[str, Json]
    stripped: int


def to_onnx(
    model: nn.Module | ExportedProgram,
    args: tuple[Any, ...],
    path: Path,
    *,
    opset: int | None = None,
    dynamic_shapes: Any = None,
    strip_source_paths: bool = True,
) -> Exported:
    """Exports ``model`` with ``torch.onnx.export(dynamo=True)`` and writes ``path``.

    Args:
        model: A module in evaluation mode, or an exported program.
        args: Example inputs by position.
        path: File to write.
        opset: Operator set version to ask for.
        dynamic_shapes: ``"batch"``, or what ``torch.export.export`` takes; left alone for an exported program.
        strip_source_paths: Whether to take out stack traces.

    Raises:
        InputError: If an axis is to be dynamic whose example has length one.
        ConversionError: If the exporter fails, or the file cannot be written.
    """
    arguments: dict[str, Any] = {"opset_version": opset, "dynamo": True, "optimize": True, "external_data": False}
    if not isinstance(model, ExportedProgram):
        arguments["dynamic_shapes"] = shapes(dynamic_shapes, args)
    try:
        with _quiet():
            program: Any = torch.onnx.export(model, args, verbose=False, **arguments)
            arguments["external_data"] = _weight_bytes(program) > EXTERNAL_DATA_ABOVE
            stripped = _strip(program) if strip_source_paths else 0
            program.save(str(path), external_data=arguments["external_data"])
    except OSError as error:
        raise ConversionError(f"the frozen file cannot be written: {error}", remedy="free disk space, or set TMPDIR") from error
    except Exception as error:
        raise ConversionError(f"torch.onnx.export failed: {_cause(error)}", remedy=_remedy(error)) from error
    return Exported(path, "torch.onnx.export", _resolved(arguments), {n: _printable(v) for n, v in arguments.items()}, stripped)


def shapes(asked: Any, args: tuple[Any, ...]) -> Any:
    """What ``torch.export.export`` takes for ``asked``; ``"batch"`` becomes a dynamic first axis of every tensor.

    Raises:
        InputError: If an example has a batch of one, which the exporter would take for a fixed axis.
    """
    if asked != "batch":
        return asked
    for position, tensor in enumerate(args):
        if isinstance(tensor, torch.Tensor) and tensor.shape[:1] == (1,):
            raise InputError(
                f"example input {position} cannot stand for a dynamic batch",
                got=f"shape {list(tensor.shape)}",
                expected="a batch of at least 2",
                remedy="pass an example of two or more samples",
            )
    return tuple({0: Dim.DYNAMIC} if isinstance(tensor, torch.Tensor) else None for tensor in args)


def _weight_bytes(program: Any) -> int:
    weights = (value.const_value for value in program.model.graph.initializers.values())
    return sum(weight.nbytes for weight in weights if weight is not None)


def _strip(program: Any) -> int:
    nodes = [node for node in program.model.graph.all_nodes() if STACK_TRACE in node.metadata_props]
    for node in nodes:
        del node.metadata_props[STACK_TRACE]
    return len(nodes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter from telling which optional libraries it does not find; errors still come through."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _cause(error: BaseException) -> str:
    """The first line of the innermost error: the exporter wraps the reason in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _remedy(error: BaseException) -> str:
    text = str(error) + str(error.__cause__ or "")
    if "Invalid ranges" in text or "specialized" in text:
        return "an axis that is to be dynamic needs an example of at least 2 along it"
    return "the exception's cause holds the exporter's full report"


def _resolved(given: dict[str, Any]) -> dict[str, Json]:
    """All arguments but the model and its inputs: what was given, else the installed exporter's own defaults."""
    parameters = inspect.signature(torch.onnx.export).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}
    return {name: _printable(value) for name, value in {**defaults, **given}.items()}


def _printable(value: Any) -> Json:
    return value if value is None or isinstance(value, bool | int | str) else str(value)
