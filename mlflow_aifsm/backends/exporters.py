"""PyTorch's dynamo exporter: a module or an exported program in, an ONNX file out. And what all exporters share."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from mlflow_aifsm.errors import AifsmError, ConversionError, InputError
from mlflow_aifsm.facts import Json

EXTERNAL_DATA_ABOVE = 64 * 2**20
"""Bytes of weights from which on they lie in a file of their own, so that reading them streams."""
STACK_TRACE = "pkg.torch.onnx.stack_trace"
"""Node metadata in which the exporter writes absolute source paths."""
MODEL_AND_INPUTS = frozenset({"model", "mod", "args", "kwargs", "f"})
"""Arguments of the exporters that are no settings."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A frozen file with the call that made it.

    Attributes:
        path: The file; an ONNX file's weights above 64 MiB lie beside it.
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
    kwargs: Mapping[str, Any],
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
        kwargs: Example inputs by name.
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
        arguments["dynamic_shapes"] = shapes(dynamic_shapes, args, kwargs)
    with exporting():
        program: Any = torch.onnx.export(model, args, kwargs=dict(kwargs) or None, verbose=False, **arguments)
        arguments["external_data"] = _weight_bytes(program) > EXTERNAL_DATA_ABOVE
        stripped = _strip(program) if strip_source_paths else 0
        program.save(str(path), external_data=arguments["external_data"])
    return Exported(path, "torch.onnx.export", resolved(torch.onnx.export, arguments), printable(arguments), stripped)


def shapes(asked: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What ``torch.export.export`` takes for ``asked``; ``"batch"`` becomes a dynamic first axis of every tensor.

    Raises:
        InputError: If an example has a batch of one, which the exporter would take for a fixed axis.
    """
    if asked != "batch":
        return asked
    check_batch(args, kwargs)
    first = {0: Dim.DYNAMIC}
    return pytree.tree_map(
        lambda leaf: first if isinstance(leaf, torch.Tensor) and leaf.dim() else None, (*args, *kwargs.values())
    )


def check_batch(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Checks that the example can stand for any number of samples.

    Raises:
        InputError: If it has a batch of one.
    """
    for position, tensor in enumerate(pytree.tree_leaves((args, dict(kwargs)))):
        if isinstance(tensor, torch.Tensor) and tensor.shape[:1] == (1,):
            raise InputError(
                f"example input {position} cannot stand for a dynamic batch",
                got=f"shape {list(tensor.shape)}",
                expected="a batch of at least 2",
                remedy="pass an example of two or more samples",
            )


@contextmanager
def exporting() -> Iterator[None]:
    """Turns what an exporter raises into one line, and keeps its warnings and its log quiet; errors still come through.

    Raises:
        ConversionError: If the exporter fails, or the file cannot be written.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except AifsmError:
        raise
    except OSError as error:
        raise ConversionError(f"the frozen file cannot be written: {error}", remedy="free disk space, or set TMPDIR") from error
    except Exception as error:
        raise ConversionError(f"the exporter failed: {_cause(error)}", remedy=_remedy(error)) from error
    finally:
        logger.setLevel(level)


def resolved(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Json]:
    """All settings of a call: what was given, else the installed exporter's own defaults; model and inputs are none."""
    parameters = inspect.signature(function).parameters.values()
    defaults = {parameter.name: parameter.default for parameter in parameters if parameter.name not in MODEL_AND_INPUTS}
    return printable({name: value for name, value in {**defaults, **given}.items() if value is not inspect.Parameter.empty})


def printable(arguments: Mapping[str, Any]) -> dict[str, Json]:
    """Arguments as JSON values: what has no plain form as Python prints it."""
    plain = (bool, int, str, type(None))
    return {name: value if isinstance(value, plain) else str(value) for name, value in arguments.items()}


def _weight_bytes(program: Any) -> int:
    weights = (value.const_value for value in program.model.graph.initializers.values())
    return sum(weight.nbytes for weight in weights if weight is not None)


def _strip(program: Any) -> int:
    nodes = [node for node in program.model.graph.all_nodes() if STACK_TRACE in node.metadata_props]
    for node in nodes:
        del node.metadata_props[STACK_TRACE]
    return len(nodes)


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
