"""PyTorch's own archive: a module or an exported program in, a pt2 file out.

The program is saved as ``torch.export`` traced it, without ``run_decompositions``. Decomposed, a batch normalization loses the
flag that shows it is in evaluation mode, an LSTM becomes dozens of operators, and the nodes' metadata holds addresses of this
process, so the bytes of two runs differ.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from mlflow_aifsm.backends.exporters import Exported, exporting, printable, resolved, shapes


def to_pt2(
    model: nn.Module | ExportedProgram,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    path: Path,
    *,
    dynamic_shapes: Any = None,
    strip_source_paths: bool = True,
) -> Exported:
    """Exports ``model`` with ``torch.export.export`` and writes ``path`` with ``torch.export.save``.

    Its example inputs become zeros of their shape: the data of an example are no part of a model. They are the one pickle in
    the archive, and PyTorch's restricted unpickler takes it; without any, MLflow refuses the file where pickles are forbidden.

    Args:
        model: A module in evaluation mode, or an exported program, which is saved as it is.
        args: Example inputs by position.
        kwargs: Example inputs by name.
        path: File to write.
        dynamic_shapes: ``"batch"``, or what ``torch.export.export`` takes; left alone for an exported program.
        strip_source_paths: Whether to take out stack traces.

    Raises:
        InputError: If an axis is to be dynamic whose example has length one.
        ConversionError: If PyTorch cannot export the model, or the file cannot be written.
    """
    arguments: dict[str, Any] = {}
    with exporting():
        if isinstance(model, ExportedProgram):
            program = copy.copy(model)
        else:
            arguments["dynamic_shapes"] = shapes(dynamic_shapes, args, kwargs)
            program = torch.export.export(model, args, dict(kwargs) or None, **arguments)
        program.example_inputs = pytree.tree_map(_zeros, (args, dict(kwargs)))
        with _without_traces(program, strip=strip_source_paths) as stripped:
            torch.export.save(program, path)
    return Exported(path, "torch.export.export", resolved(torch.export.export, arguments), printable(arguments), stripped)


def _zeros(leaf: Any) -> Any:
    """A tensor of the same shape that stores one element."""
    return torch.zeros((), dtype=leaf.dtype).expand(leaf.shape) if isinstance(leaf, torch.Tensor) else leaf


@contextmanager
def _without_traces(program: ExportedProgram, *, strip: bool) -> Iterator[int]:
    """Takes the stack traces out of the program's nodes, yields how many, and puts them back: it may be the caller's."""
    graphs = [part.graph for part in program.graph_module.modules() if isinstance(part, fx.GraphModule)]
    nodes = [node for graph in graphs for node in graph.nodes if strip and node.meta.get("stack_trace")]
    traces = [node.meta.pop("stack_trace") for node in nodes]
    try:
        yield len(nodes)
    finally:
        for node, trace in zip(nodes, traces, strict=True):
            node.meta["stack_trace"] = trace
