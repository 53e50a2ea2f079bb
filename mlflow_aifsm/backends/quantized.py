"""What a quantizer's native call yields, whichever tool it was."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import onnx

from mlflow_aifsm import scratch
from mlflow_aifsm.errors import OptimizationError
from mlflow_aifsm.facts import Json

EXTERNAL_DATA_ABOVE = 64 * 2**20
"""Bytes of weights above which they lie beside the file, so that whoever reads the graph needs no memory for them."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """A quantized file with the call that made it.

    Attributes:
        path: The ONNX file.
        function: The function that was called, with its module.
        arguments: All its arguments with resolved defaults, as JSON.
        shown: Those that are not the function's defaults.
    """

    path: Path
    function: str
    arguments: dict[str, Json]
    shown: dict[str, Json]


def saved(model: onnx.ModelProto, name: str = "model.onnx") -> Path:
    """``model`` in a folder of its own, with large weights beside the file."""
    path = scratch.folder() / name
    large = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > EXTERNAL_DATA_ABOVE
    onnx.save(model, path, save_as_external_data=large, location=f"{name}.data" if large else None)
    return path


def resolved(function: Callable[..., Any], keywords: Mapping[str, Any], without: tuple[str, ...] = ()) -> dict[str, Any]:
    """All arguments of ``function`` as it gets them: ``keywords`` over its own defaults, those ``without`` left out."""
    parameters = inspect.signature(function).parameters
    defaults = {name: one.default for name, one in parameters.items() if one.default is not inspect.Parameter.empty}
    return {name: value for name, value in {**defaults, **keywords}.items() if name not in without}


def differing(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those ``arguments`` that are not the defaults of ``function``."""
    usual = resolved(function, {})
    return {name: value for name, value in arguments.items() if name not in usual or plain(usual[name]) != plain(value)}


def plain(value: Any) -> Json:
    """``value`` as JSON: enumerations by name, anything unknown as text."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(part) for part in value]
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return plain(value.item())
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def failed(function: str, error: Exception) -> OptimizationError:
    """The error that says that ``function`` refused, in its own first line."""
    reason = next((line for line in str(error).splitlines() if line.strip()), "")
    return OptimizationError(f"{function} failed: {type(error).__name__}: {reason}")
