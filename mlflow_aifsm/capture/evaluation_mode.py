"""Training and evaluation mode of PyTorch models, without running them.

A live ``nn.Module`` has ``eval()``. A ``torch.export.ExportedProgram``, and the ``GraphModule`` that its ``module()`` makes,
refuse it: there training is a flag on operators, found here by the name it has in the operator's schema, in nested graphs too.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch
from torch import fx, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram

from mlflow_aifsm.errors import InputError

Model = TypeVar("Model", nn.Module, ExportedProgram)

_OFF: Mapping[str, bool | float] = {"train": False, "training": False, "use_input_stats": False, "dropout_p": 0.0}


def training_flags(program: ExportedProgram) -> dict[str, int]:
    """How many nodes of each operator are set to training: ``{"aten.dropout.default": 2}``, empty in evaluation mode.

    A batch normalization without running statistics is not counted: it uses those of the batch in evaluation mode too.
    """
    return flagged(operator_calls(program.graph_module))


def to_evaluation(program: ExportedProgram) -> tuple[ExportedProgram, tuple[str, ...]]:
    """The program in evaluation mode: a deep copy with each training flag off, and one line for each kind of change.

    It computes what the module would have computed after ``eval()``. The program that was given stays as it is, and comes
    back itself, without a line, if it needs no change. Dropout that was exported as always on is switched off too.

    Raises:
        InputError: If the program cannot be copied.
    """
    if not training_flags(program):
        return program, ()
    changed = _copy(program)
    return changed, _switch_off(changed.graph_module)


def evaluation_copy(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The module in evaluation mode: itself if it is, else a deep copy and a line that says so; the given one is untouched.

    Raises:
        InputError: If the module is in training mode and cannot be copied.
    """
    if is_exported(module):
        return _graph_copy(module)
    training, modules = in_training(module)
    if not training:
        return module, ()
    return _copy(module).eval(), (
        f"an evaluation-mode copy was converted: {training} of {modules} modules were in training mode",
    )


def in_training(module: nn.Module) -> tuple[int, int]:
    """How many of the module's submodules, itself included, are in training mode, and how many there are."""
    modes = [bool(getattr(part, "training", False)) for part in module.modules()]
    return sum(modes), len(modes)


def is_exported(module: nn.Module) -> bool:
    """Whether the module is the graph of an exported program, and not a live module."""
    return isinstance(module, fx.GraphModule) and next(operator_calls(module), None) is not None


def operator_calls(root: nn.Module) -> Iterator[fx.Node]:
    """All operator calls of the graph module and of the graphs nested in it (``torch.cond``, ``torch.no_grad``)."""
    graphs = (module.graph for module in root.modules() if isinstance(module, fx.GraphModule))
    return (node for graph in graphs for node in graph.nodes if isinstance(node.target, OpOverload))


def call_arguments(node: fx.Node) -> dict[str, object]:
    """Arguments of an operator call by their names in the operator's schema, defaults included."""
    schema = _schema(node)
    given = dict(zip((argument.name for argument in schema), node.args, strict=False))
    return {**{argument.name: argument.default_value for argument in schema}, **given, **node.kwargs}


def flagged(calls: Iterable[fx.Node]) -> dict[str, int]:
    """How many of the calls of each operator are set to training."""
    return dict(Counter(str(node.target) for node in calls if _set_flags(node)))


def _graph_copy(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    if not flagged(operator_calls(module)):
        return module, ()
    changed = _copy(module)
    return changed, _switch_off(changed)


def _schema(node: fx.Node) -> Sequence[torch.Argument]:
    return node.target._schema.arguments if isinstance(node.target, OpOverload) else ()  # noqa: SLF001 - no public name


def _set_flags(node: fx.Node) -> list[str]:
    arguments = call_arguments(node)
    if "norm" in str(node.target) and arguments.get("running_mean") is None:
        return []
    return [name for name, off in _OFF.items() if name in arguments and arguments[name] != off]


def _switch_off(root: nn.Module) -> tuple[str, ...]:
    changes: Counter[str] = Counter()
    for node in tuple(operator_calls(root)):
        for name in _set_flags(node):
            changes[f"{node.target}: {name} {call_arguments(node)[name]} -> {_OFF[name]}"] += 1
            _set(node, name, _OFF[name])
        if _counts_batches(node):
            changes[f"{node.target} on num_batches_tracked: removed"] += 1
            node.graph.erase_node(node)
    for module in root.modules():
        if isinstance(module, fx.GraphModule):
            module.recompile()
    return tuple(f"{change}, {count} node{'' if count == 1 else 's'}" for change, count in changes.items())


def _set(node: fx.Node, name: str, value: float) -> None:
    position = [argument.name for argument in _schema(node)].index(name)
    if position < len(node.args):
        node.update_arg(position, value)
    else:
        node.update_kwarg(name, value)


def _counts_batches(node: fx.Node) -> bool:
    first = node.args[0] if node.args else None
    counter = isinstance(first, fx.Node) and str(first.target).endswith("num_batches_tracked")
    return counter and node.target is torch.ops.aten.add_.Tensor and not node.users


def _copy(model: Model) -> Model:
    try:
        return copy.deepcopy(model)
    except Exception as error:
        what = f"{type(model).__name__} is in training mode and cannot be copied"
        raise InputError(what, got=error, remedy="call model.eval() before the conversion") from error
