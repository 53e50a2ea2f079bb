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
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from mlflow_aifsm.backends.pruned import Applied, LeftOut, check
from mlflow_aifsm.backends.torch_selection import NAME, Array, Kept, Task, put_masks
from mlflow_aifsm.backends.torch_weights import MASK, UNMASKED, WEIGHT, Prunable, hooks, in_force, joined, parameter
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
    mask would not follow the training. A weight that is computed from other parameters, is empty or has no values yet is told
    with its ``refusal``: it can be named in ``keep_dense``, and nothing but that.

    Raises:
        InputError: If a mask is in force on any parameter already.
    """
    if masked := sorted({*_masked(module), *(joined(path, name) for path, name, _ in hooks(module))}):
        remedy = "call torch.nn.utils.prune.remove on it first"
        raise InputError(f"'{masked[0]}' is pruned already", got="a mask in force", expected="none", remedy=remedy)
    names: dict[int, list[str]] = defaultdict(list)
    for name, stored in module.named_parameters(remove_duplicate=False):
        names[id(stored)].append(name)
    found: dict[int, Prunable] = {}
    for path, part in module.named_modules():
        if isinstance(part, LAYERS) and not isinstance(part, NonDynamicallyQuantizableLinear):
            weight = part._parameters.get(WEIGHT)  # noqa: SLF001 -- getattr computes it where it is parametrized
            key = id(part if weight is None else weight)
            shared = tuple(name for name in names[key] if name != joined(path, WEIGHT))
            found.setdefault(key, _prunable(path, part, weight, shared))
    return tuple(found.values())


def left_out(module: nn.Module) -> LeftOut:
    """Parameters with at least two axes that no prunable layer holds, as those of LSTMs, attention and embeddings.

    Raises:
        InputError: If a mask is in force on any parameter.
    """
    held = {id(parameter(module, layer.tensor)) for layer in prunable(module) if layer.refusal is None}
    weights = {name: one for name, one in module.named_parameters() if not is_lazy(one) and (one.dim() > 1 or id(one) in held)}
    sizes = {name: one.numel() for name, one in weights.items() if id(one) not in held}
    return LeftOut(sizes, sum(one.numel() for one in weights.values()))


def masks(module: nn.Module, layers: Sequence[Prunable]) -> dict[str, npt.NDArray[np.bool_]]:
    """The masks in force by tensor name, output channels first: False where a weight is pruned; all True without one.

    Weights that cannot be pruned have none.
    """
    return {layer.tensor: _mask(in_force(module, layer.tensor), layer) for layer in layers if layer.refusal is None}


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
    yield from (name + UNMASKED for name in _masked(module))
    yield from (f"hook of {joined(path, name)}" for path, name, _ in hooks(module))


def _masked(module: nn.Module) -> list[str]:
    """Names of the parameters beside which a mask is stored."""
    stored = {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
    names = (name.removesuffix(UNMASKED) for name in stored if name.endswith(UNMASKED))
    return sorted(name for name in names if name + MASK in stored)


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


def _prunable(path: str, part: nn.Module, weight: nn.Parameter | None, shared: tuple[str, ...]) -> Prunable:
    kind = type_before_parametrizations(part).__name__
    if weight is None:
        return Prunable(path, kind, (), Orientation(), refusal=_computed(path, part))
    if is_lazy(weight) or weight.is_meta or not weight.numel():
        return Prunable(path, kind, (), Orientation(), shared, _valueless(path))
    transposed = isinstance(part, TRANSPOSED)
    orientation = Orientation(transposed, int(getattr(part, "groups", 1)) if transposed else 1)
    shape = list(weight.shape)
    if transposed:
        shape[:2] = [shape[1] * orientation.groups, shape[0] // orientation.groups]
    return Prunable(path, kind, tuple(shape), orientation, shared)


def _computed(path: str, part: nn.Module) -> InputError:
    """Why a weight that is no parameter cannot be pruned, with the function that makes it one again."""
    stored = part._parameters  # noqa: SLF001 -- what is registered, without computing anything
    if is_parametrized(part, WEIGHT):
        remedy = "call torch.nn.utils.parametrize.remove_parametrizations on it first, or name the layer in keep_dense"
    elif f"{WEIGHT}_g" in stored:
        # keep_dense would not help: PyTorch copies no module that holds a product of parameters
        remedy = "call torch.nn.utils.remove_weight_norm on it first"
    elif WEIGHT + UNMASKED in stored:
        remedy = "call torch.nn.utils.remove_spectral_norm on it first"
    else:
        remedy = "register it as a parameter, or name the layer in keep_dense"
    what = f"{_weight_of(path)} is computed from other parameters"
    return InputError(what, expected="a parameter", remedy=remedy)


def _valueless(path: str) -> InputError:
    remedy = "load the weights first, or name the layer in keep_dense"
    return InputError(f"{_weight_of(path)} has no values", expected="a trained weight", remedy=remedy)


def _weight_of(path: str) -> str:
    return f"weight of layer '{path}'" if path else "weight of the module"
