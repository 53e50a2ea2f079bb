"""Pruning of a PyTorch module: what can be pruned, masks that stay in force in a training, zeros made permanent at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.parameter import is_lazy
from torch.nn.utils import prune

from mlflow_aifsm.backends.pruned import Applied, check
from mlflow_aifsm.backends.torch_selection import NAME, Array, Kept, Task, put_masks
from mlflow_aifsm.backends.torch_weights import MASK, UNMASKED, WEIGHT, Prunable, hooks, in_force, joined
from mlflow_aifsm.capture.orientation import Orientation
from mlflow_aifsm.capture.patterns import CHANNEL, Pattern, as_matrix
from mlflow_aifsm.errors import InputError, OptimizationError

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED, nn.Linear)
"""Modules whose weight can be pruned."""

_torch: Any = prune
"""PyTorch's functions, which have no types."""


def prunable(module: nn.Module) -> tuple[Prunable, ...]:
    """The weights of the convolutions and linear layers inside ``module``, each once, in the order of its modules.

    The output projection of ``nn.MultiheadAttention`` is left out: attention reads that weight without calling its module, so a
    mask would not follow the training.

    Raises:
        InputError: If a weight is pruned already (mask in force), parametrized, empty, or has no values yet.
    """
    names: dict[int, list[str]] = defaultdict(list)
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names[id(parameter)].append(name)
    found: dict[int, Prunable] = {}
    for path, part in module.named_modules():
        if isinstance(part, LAYERS) and not isinstance(part, NonDynamicallyQuantizableLinear):
            weight = _checked(path, part)
            shared = tuple(name for name in names[id(weight)] if name != joined(path, WEIGHT))
            found.setdefault(id(weight), _prunable(path, part, weight, shared))
    return tuple(found.values())


def masks(module: nn.Module, layers: Sequence[Prunable]) -> dict[str, npt.NDArray[np.bool_]]:
    """The masks in force by tensor name, output channels first: False where a weight is pruned; all True without one."""
    return {layer.tensor: _mask(in_force(module, layer.tensor), layer) for layer in layers}


def apply(
    module: nn.Module, layers: Sequence[Prunable], scores: Mapping[str, Array], pattern: Pattern, amount: float, scope: str
) -> Applied:
    """Prunes the tiles with the lowest mean scores; ``module`` is changed in place, its parameters stay the same objects.

    Masks are in force until ``finalize``: each forward pass multiplies them in. What is pruned stays pruned, and counts.

    Args:
        module: The module.
        layers: The weights to prune, as ``prunable`` found them before the first call.
        scores: A score a weight, not negative, by tensor name, in the shape of ``Prunable.shape``; higher is kept longer.
        pattern: The tiles.
        amount: Share of the weights of ``layers`` that is pruned in the end, ratio in (0, 1); not used for n:m.
        scope: ``global`` for one threshold over all layers, ``local`` for one a layer.

    Raises:
        InputError: If the pruning does not fit the weights; nothing was changed then.
    """
    check({layer.tensor: layer.matrix for layer in layers}, pattern, amount, scope)
    task = Task(module, tuple(layers), scores, pattern, amount, scope, masks(module, layers))
    with torch.no_grad():
        call = put_masks(task)
        for layer in layers:
            _share(module, layer)
    after = masks(module, layers)
    thresholds = _thresholds(task, after) if call.thresholds is None else call.thresholds
    return Applied(f"{NAME}.{call.function}", call.arguments, after, thresholds)


def finalize(module: nn.Module) -> tuple[str, ...]:
    """Multiplies all masks into their parameters and takes them off; returns the names of the tensors that had one.

    Raises:
        OptimizationError: If a mask, an unmasked weight or a hook is left.
    """
    done = []
    for path, name, _ in tuple(hooks(module)):
        _torch.remove(module.get_submodule(path), name)
        done.append(joined(path, name))
    if left := tuple(_left(module)):
        raise OptimizationError("masks are left in the module", got=", ".join(left), expected="none after prune.remove")
    return tuple(done)


def _share(module: nn.Module, layer: Prunable) -> None:
    """The layer's mask on the same parameter in other modules too, so that all compute with the same weight."""
    first = module.get_submodule(layer.path)
    seen, mask = {id(first)}, in_force(module, layer.tensor)
    for name in layer.shared:
        path, _, own = name.rpartition(".")
        holder = module.get_submodule(path)
        if id(holder) not in seen:
            seen.add(id(holder))
            _torch.custom_from_mask(holder, own, mask)


def _left(module: nn.Module) -> Iterator[str]:
    stored = {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
    yield from sorted(name for name in stored if name.endswith(UNMASKED) and name.removesuffix(UNMASKED) + MASK in stored)
    yield from (f"hook of {joined(path, name)}" for path, name, _ in hooks(module))


def _thresholds(task: Task, after: Kept) -> dict[str, float | None]:
    limits = {layer.tensor: _threshold(task, layer.tensor, after[layer.tensor]) for layer in task.layers}
    if task.scope == "local":
        return limits
    return dict.fromkeys(limits, max((limit for limit in limits.values() if limit is not None), default=None))


def _threshold(task: Task, name: str, after: npt.NDArray[np.bool_]) -> float | None:
    """The highest score among the weights, or the highest mean among the channels, that were pruned just now."""
    scores: Array = as_matrix(task.scores[name])
    if task.pattern.kind == CHANNEL:
        scores = np.broadcast_to(scores.mean(axis=1, keepdims=True, dtype=np.float64), scores.shape)
    pruned = scores[as_matrix(task.before[name] & ~after)]
    return float(pruned.max()) if pruned.size else None


def _mask(stored: torch.Tensor | None, layer: Prunable) -> npt.NDArray[np.bool_]:
    if stored is None:
        return np.ones(layer.shape, bool)
    return np.asarray(layer.orientation.out_first((stored != 0).cpu().numpy()), bool)


def _prunable(path: str, part: nn.Module, weight: torch.Tensor, shared: tuple[str, ...]) -> Prunable:
    transposed = isinstance(part, TRANSPOSED)
    orientation = Orientation(transposed, int(getattr(part, "groups", 1)) if transposed else 1)
    shape = list(weight.shape)
    if transposed:
        shape[:2] = [shape[1] * orientation.groups, shape[0] // orientation.groups]
    return Prunable(path, type(part).__name__, tuple(shape), orientation, shared)


def _checked(path: str, part: nn.Module) -> nn.Parameter:
    weight = part._parameters.get(WEIGHT)  # noqa: SLF001 -- getattr computes it where it is parametrized
    what = f"weight of layer '{path or type(part).__name__}'"
    if weight is None and WEIGHT + MASK in part._buffers:  # noqa: SLF001 -- where PyTorch puts a mask
        remedy = "call torch.nn.utils.prune.remove on it first"
        raise InputError(f"{what} is pruned already", got="a mask in force", remedy=remedy)
    if weight is None:
        remedy = "take the parametrization off first: torch.nn.utils.parametrize.remove_parametrizations"
        raise InputError(f"{what} is computed from other parameters", expected="a parameter", remedy=remedy)
    if is_lazy(weight) or weight.is_meta or not weight.numel():
        raise InputError(f"{what} has no values", expected="a trained weight", remedy="load the weights first")
    return weight
