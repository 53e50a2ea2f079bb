"""PyTorch's TorchScript exporter, on request: a module is traced, and the trace becomes an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from mlflow_aifsm.backends.exporters import Exported, check_batch, exporting, printable, resolved
from mlflow_aifsm.errors import InputError


def to_onnx(
    model: nn.Module | ExportedProgram,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    path: Path,
    *,
    names: Sequence[str],
    opset: int | None = None,
    dynamic_shapes: Any = None,
) -> Exported:
    """Exports ``model`` with ``torch.onnx.export(dynamo=False)`` to ``path``.

    This exporter traces: a branch that depends on data is frozen as the example took it. It writes no stack traces.

    Args:
        model: A module in evaluation mode, or an exported program.
        args: Example inputs by position.
        kwargs: Example inputs by name.
        path: File to write.
        names: A name for each input tensor, in order.
        opset: Operator set version to ask for.
        dynamic_shapes: ``"batch"``, or what the exporter takes as ``dynamic_axes``: axes by input name.

    Raises:
        InputError: If an axis is to be dynamic whose example has length one, or an axis is named for no input.
        ConversionError: If the exporter fails, or the file cannot be written.
    """
    axes = dynamic_axes(dynamic_shapes, args, kwargs, names)
    arguments = {"opset_version": opset, "dynamo": False, "input_names": list(names), "dynamic_axes": axes}
    module = model.module() if isinstance(model, ExportedProgram) else model
    traced, given = (_Positional(module, tuple(kwargs)), (*args, *kwargs.values())) if kwargs else (module, args)
    with exporting():
        torch.onnx.export(traced, given, str(path), **arguments)
    return Exported(path, "torch.onnx.export", resolved(torch.onnx.export, arguments), printable(arguments), 0)


class _Positional(nn.Module):
    """The module with its keyword arguments taken by position, last: the exporter passes none by keyword."""

    def __init__(self, module: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.module, self.names = module, names
        # an exported program refuses train() and eval(), and the exporter sets what is in training mode to evaluation
        self.training = module.training

    def forward(self, *args: Any) -> Any:
        first = len(args) - len(self.names)
        return self.module(*args[:first], **dict(zip(self.names, args[first:], strict=True)))


def dynamic_axes(asked: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], names: Sequence[str]) -> Any:
    """What the exporter takes as ``dynamic_axes``; ``"batch"`` becomes the first axis of every input.

    Raises:
        InputError: If an example has a batch of one, or ``asked`` names no input or is no mapping.
    """
    if asked == "batch":
        check_batch(args, kwargs)
        tensors = [leaf for leaf in pytree.tree_leaves((args, dict(kwargs))) if isinstance(leaf, torch.Tensor)]
        return {name: {0: "batch"} for name, tensor in zip(names, tensors, strict=True) if tensor.dim()}
    if asked is not None and (not isinstance(asked, Mapping) or not set(asked) <= set(names)):
        expected = f"'batch', or axes by input name, of {', '.join(names)}"
        raise InputError("dynamic_shapes for the TorchScript exporter", got=repr(asked)[:80], expected=expected)
    return asked
