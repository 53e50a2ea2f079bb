"""Which weights of a PyTorch module are pruned, and masks on them: by a function of PyTorch where it has such a selection.

Where it has none (vectors, blocks, groups, n:m, channels under one threshold), tiles are selected here, and PyTorch masks them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils import prune

from mlflow_aifsm.backends.pruned import nearest
from mlflow_aifsm.backends.torch_weights import WEIGHT, Prunable, parameter
from mlflow_aifsm.capture.patterns import CHANNEL, ELEMENT, N_OF_M, Pattern, as_matrix
from mlflow_aifsm.capture.tiles import select
from mlflow_aifsm.facts import Json

Array = npt.NDArray[Any]
Kept = Mapping[str, npt.NDArray[np.bool_]]
"""Masks by tensor name, output channels first: False where a weight is pruned."""

NAME = "torch.nn.utils.prune"
_torch: Any = prune
"""PyTorch's functions, which have no types."""


@dataclass(frozen=True, slots=True)
class Call:
    """The function of ``torch.nn.utils.prune`` that was called, what it got, and thresholds where it did not select itself."""

    function: str
    arguments: dict[str, Json]
    thresholds: dict[str, float | None] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What ``apply`` was asked for, and the masks that were in force before."""

    module: nn.Module
    layers: tuple[Prunable, ...]
    scores: Mapping[str, Array]
    pattern: Pattern
    amount: float
    scope: str
    before: Kept

    def holder(self, layer: Prunable) -> nn.Module:
        """The first module that uses the weight of a layer."""
        return self.module.get_submodule(layer.path)

    def stored(self, layer: Prunable, values: Array) -> torch.Tensor:
        """Values of a layer as its weight is stored, where its weight lies."""
        place = parameter(self.module, layer.tensor).device
        return torch.from_numpy(np.ascontiguousarray(layer.orientation.stored(values))).to(place)


def put_masks(task: Task) -> Call:
    """Masks the weights with the lowest scores, by PyTorch's own selection where it has one."""
    grouped = any(layer.orientation.transposed and layer.orientation.groups > 1 for layer in task.layers)
    if task.pattern.kind == ELEMENT:
        return _weights_of_all(task) if task.scope == "global" else _weights_of_each(task)
    # with groups, a slice of a transposed weight holds a channel of each group
    by_channel = task.pattern.kind == CHANNEL and task.scope == "local" and not grouped
    return _channels_of_each(task) if by_channel else _tiles(task)


def _weights_of_all(task: Task) -> Call:
    holders = [(task.holder(layer), WEIGHT) for layer in task.layers]
    scores = [task.stored(layer, task.scores[layer.tensor]) for layer in task.layers]
    before = task.before.values()
    count = nearest(task.amount, sum(mask.size for mask in before)) - sum(_pruned(mask) for mask in before)
    method = _torch.L1Unstructured
    given = dict(zip(holders, scores, strict=True))
    _torch.global_unstructured(holders, method, importance_scores=given, amount=max(count, 0))
    return Call("global_unstructured", {"pruning_method": f"{NAME}.{method.__name__}", "amount": max(count, 0)})


def _weights_of_each(task: Task) -> Call:
    counts = {}
    for layer in task.layers:
        before, scores = task.before[layer.tensor], task.stored(layer, task.scores[layer.tensor])
        counts[layer.tensor] = max(nearest(task.amount, before.size) - _pruned(before), 0)
        _torch.l1_unstructured(task.holder(layer), WEIGHT, counts[layer.tensor], importance_scores=scores)
    return Call("l1_unstructured", {"amount": counts})


def _channels_of_each(task: Task) -> Call:
    counts = {}
    axes = {layer.tensor: int(layer.orientation.transposed) for layer in task.layers}
    for layer in task.layers:
        before, scores = as_matrix(task.before[layer.tensor]), task.stored(layer, task.scores[layer.tensor])
        counts[layer.tensor] = max(nearest(task.amount, len(before)) - _pruned(np.any(before, axis=1)), 0)
        how = {"amount": counts[layer.tensor], "n": 1, "dim": axes[layer.tensor]}
        _torch.ln_structured(task.holder(layer), WEIGHT, **how, importance_scores=scores)
    return Call("ln_structured", {"amount": counts, "n": 1, "dim": axes})


def _tiles(task: Task) -> Call:
    # below every score, so that what is pruned is selected again, before others that score nothing
    scores = {name: np.where(mask, task.scores[name], -1) for name, mask in task.before.items()}
    chosen = select(scores, task.pattern, task.amount, task.scope)
    for layer in task.layers:
        _torch.custom_from_mask(task.holder(layer), WEIGHT, task.stored(layer, chosen.masks[layer.tensor]))
    limits = {name: None if limit is None or limit < 0 else limit for name, limit in chosen.thresholds.items()}
    how = {} if task.pattern.kind == N_OF_M else {"amount": task.amount, "scope": task.scope}
    return Call("custom_from_mask", {"mask": {"pattern": task.pattern.word, **how}}, limits)


def _pruned(mask: Array) -> int:
    return int(mask.size - np.count_nonzero(mask))
