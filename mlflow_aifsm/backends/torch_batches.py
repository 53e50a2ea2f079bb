"""Samples as a PyTorch module takes them: tensors where its weights lie, floats in their type."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from mlflow_aifsm.samples import Samples
from mlflow_aifsm.sources import Array

BATCH = 32
"""Samples a batch, where nobody says another number."""

Ranks = Mapping[str, int]
"""Axes of each input, batch axis included, by its name in ``forward``, in order; empty where ``forward`` tells the names."""

Tensors = tuple[torch.Tensor, ...]
Buffers = dict[str, torch.Tensor | None]


def batches(module: nn.Module, samples: Samples, size: int, ranks: Ranks) -> Iterator[tuple[Tensors, torch.Tensor | None]]:
    """Batches of at most ``size`` samples for ``module``'s positional inputs, with their labels.

    Labels are integers as int64, as PyTorch's losses want classes, or floats in the type of the weights.

    Raises:
        InputError: If the data do not fit the inputs of ``forward``.
    """
    weight = next((one for one in module.parameters() if one.is_floating_point()), torch.empty(0))
    for inputs, labels in samples.batches(size, tuple(ranks) or _required(module), ranks):
        yield tuple(_tensor(array, weight) for array in inputs.values()), None if labels is None else _label(labels, weight)


@contextmanager
def evaluation(module: nn.Module) -> Iterator[None]:
    """``module`` in evaluation mode; each part's own mode comes back, and buffers that a forward pass changed.

    A batch normalization without running statistics, and code that counts its calls, change buffers in evaluation mode too.
    """
    modes = {part: part.training for part in module.modules()}
    held = [part._buffers for part in modes]  # noqa: SLF001 -- a forward pass may put another tensor there
    before = [{name: (one, None if one is None else one.detach().clone()) for name, one in part.items()} for part in held]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
        with torch.no_grad():
            for buffers, known in zip(held, before, strict=True):
                _restore(buffers, known)


def _restore(buffers: Buffers, known: Mapping[str, tuple[torch.Tensor | None, torch.Tensor | None]]) -> None:
    for name, (buffer, before) in known.items():
        buffers[name] = buffer
        if buffer is not None and before is not None:
            buffer.copy_(before)


def _required(module: nn.Module) -> tuple[str, ...]:
    """Inputs that ``forward`` cannot do without; empty where it takes any number."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(module.forward).parameters.values()
    return tuple(one.name for one in parameters if one.default is inspect.Parameter.empty and one.kind in kinds)


def _tensor(array: Array, like: torch.Tensor) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.to(like.device, like.dtype if tensor.is_floating_point() else tensor.dtype)


def _label(array: Array, like: torch.Tensor) -> torch.Tensor:
    tensor = _tensor(array, like)
    return tensor if tensor.is_floating_point() else tensor.long()
