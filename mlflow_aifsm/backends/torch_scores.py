"""How much each weight of a PyTorch module matters: its magnitude, or how the loss on data depends on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from mlflow_aifsm.backends.torch_batches import Ranks, Tensors, batches, evaluation
from mlflow_aifsm.backends.torch_weights import Prunable, effective, parameter, refresh
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.samples import Samples
from mlflow_aifsm.sources import Array

BATCH = 8
"""Samples a batch, where nobody says another number: few, so that what single samples say does not cancel."""

Scores = dict[str, Array]
"""A score a weight by tensor name, ``[out, in/groups, …]``, float32 or float64, not negative; higher is kept longer."""

Loss = Callable[[Any, Any], torch.Tensor]
"""From a module's outputs and labels of a batch to the mean loss of its samples."""

Progress = Callable[[int, int | None], None] | None


def magnitude(module: nn.Module, layers: Sequence[Prunable]) -> Scores:
    """|w| of each weight (Han et al. 2015, arXiv 1506.02626); 0 where a mask is in force.

    Raises:
        InputError: If a weight is not finite.
    """
    return {layer.tensor: _score(layer, effective(module, layer.tensor).abs()) for layer in layers}


def gradient(
    module: nn.Module,
    layers: Sequence[Prunable],
    samples: Samples,
    loss: Loss,
    *,
    times_weight: bool,
    batch_size: int = BATCH,
    ranks: Ranks | None = None,
    progress: Progress = None,
) -> Scores:
    """|g|, or |w·g|, averaged over batches, with g the gradient of a batch's mean loss, the module in evaluation mode.

    |w·g| is the change of the loss, to first order, when the weight is set to zero (Molchanov et al. 2019, arXiv 1906.10771,
    equation 8, without the square; averaged over batches as there). At the end of a training the gradients of single batches
    cancel: their sizes say which weights the loss hangs on, and the size of their sum does not.

    The module is left as it was: gradients, modes, buffers, which parameters train.

    Args:
        module: The module; masks may be in force.
        layers: The weights to score.
        samples: Samples with labels.
        loss: From the outputs and the labels (integers as int64) of a batch to the mean loss of its samples.
        times_weight: Whether to multiply with the weight.
        batch_size: Samples a batch; the fewer, the less gradients of single samples cancel. Batches count by their samples.
        ranks: Axes of the module's inputs by name; the names of ``forward`` if None.
        progress: Called with the number of samples done, and of all if it is known.

    Raises:
        InputError: If there are no samples or labels, module or loss fail on them, the loss is no finite number or does not
            depend on a layer, or all gradients are zero.
    """
    wanted = [parameter(module, layer.tensor) for layer in layers]
    with _undisturbed(module, wanted), torch.enable_grad():
        means = _means(module, layers, wanted, _Reading(samples, loss, batch_size, ranks or {}, progress))
    if not any(torch.count_nonzero(mean) for mean in means):
        raise InputError("all gradients are zero", expected="a loss that depends on the weights", remedy="check the loss")
    weights = [effective(module, layer.tensor).abs() if times_weight else 1 for layer in layers]
    return {layer.tensor: _score(layer, mean * one) for layer, mean, one in zip(layers, means, weights, strict=True)}


def tried(module: nn.Module, layers: Sequence[Prunable], samples: Samples, loss: Loss, ranks: Ranks | None = None) -> None:
    """Takes the gradients of one batch and forgets them: what ``gradient`` would refuse is refused before any work starts.

    The module and PyTorch's random numbers are left as they were.

    Args:
        module: The module.
        layers: The weights to score.
        samples: Samples with labels, of which at most ``BATCH`` are read.
        loss: From the outputs and the labels of a batch to the mean loss of its samples.
        ranks: Axes of the module's inputs by name; the names of ``forward`` if None.

    Raises:
        InputError: If there are no samples or labels, module or loss fail on them, or the loss is no finite number or does
            not depend on a layer.
    """
    wanted = [parameter(module, layer.tensor) for layer in layers]
    with torch.random.fork_rng(), _undisturbed(module, wanted), torch.enable_grad():
        _means(module, layers, wanted, _Reading(samples.first(BATCH), loss, BATCH, ranks or {}, None))


@dataclass(frozen=True, slots=True)
class _Reading:
    """The samples and how they are read."""

    samples: Samples
    loss: Loss
    batch_size: int
    ranks: Ranks
    progress: Progress


def _means(module: nn.Module, layers: Sequence[Prunable], wanted: list[nn.Parameter], how: _Reading) -> list[torch.Tensor]:
    """Absolute gradients of the mean loss of a batch, averaged over batches, at least in float32."""
    sums = [torch.zeros_like(one, dtype=torch.promote_types(one.dtype, torch.float32), requires_grad=False) for one in wanted]
    done = 0
    for inputs, labels in batches(module, how.samples, how.batch_size, how.ranks):
        if labels is None:
            raise InputError("the data have no labels", expected="one a sample, for the loss", remedy="pass Data(labels=...)")
        for layer, total, part in zip(layers, sums, _gradients(module, inputs, labels, how.loss, wanted), strict=True):
            if part is None:
                remedy = "name it in keep_dense"
                raise InputError(f"the loss does not depend on {layer.tensor}", expected="a gradient", remedy=remedy)
            total.add_(part.abs(), alpha=len(labels))
        done += len(labels)
        if how.progress:
            how.progress(done, how.samples.expected)
    if not done:
        raise InputError("no samples to take gradients on", expected="at least one")
    return [total / done for total in sums]


def _gradients(
    module: nn.Module, inputs: Tensors, labels: torch.Tensor, loss: Loss, wanted: list[nn.Parameter]
) -> tuple[torch.Tensor | None, ...]:
    outputs = _called("the data do not fit the module", module, inputs, "samples as it takes them")
    value = _called("the loss does not fit", loss, (outputs, labels), "a function of outputs and labels")
    if not isinstance(value, torch.Tensor) or value.numel() != 1 or not value.requires_grad:
        got = f"shape {list(value.shape)}" if isinstance(value, torch.Tensor) and value.numel() != 1 else type(value).__name__
        raise InputError("the loss cannot be differentiated", got=got, expected="one number, a tensor with a gradient")
    if not torch.isfinite(value):
        raise InputError("the loss is not finite", got=float(value.detach()), expected="a number")
    return torch.autograd.grad(value, wanted, allow_unused=True)


def _called(what: str, function: Callable[..., Any], given: Sequence[Any], expected: str) -> Any:
    """``function`` of ``given``; where it fails, the shapes that it got and its own words are told."""
    try:
        return function(*given)
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        shapes = ", ".join(map(_shape, given))
        remedy = "call it on one batch of the data yourself, in float and with labels as it wants them"
        raise InputError(what, got=f"{shapes}: {said}", expected=expected, remedy=remedy) from error


def _shape(one: Any) -> str:
    return f"{one.dtype} {list(one.shape)}".removeprefix("torch.") if isinstance(one, torch.Tensor) else type(one).__name__


@contextmanager
def _undisturbed(module: nn.Module, wanted: list[nn.Parameter]) -> Iterator[None]:
    """Evaluation mode with all ``wanted`` trainable; afterwards the module is as before, masked weights without a history."""
    trained = [one.requires_grad for one in wanted]
    try:
        with evaluation(module):
            for one in wanted:
                one.requires_grad_()
            yield
    finally:
        for one, before in zip(wanted, trained, strict=True):
            one.requires_grad_(before)
        refresh(module)


def _score(layer: Prunable, values: torch.Tensor) -> Array:
    """Scores of a layer, output channels first; half precision as float32, which NumPy can sum."""
    plain = values.detach().cpu()
    score = layer.orientation.out_first((plain if plain.dtype == torch.float64 else plain.float()).numpy())
    if not np.isfinite(score).all():
        raise InputError(f"scores of {layer.tensor} are not finite", expected="finite weights and gradients")
    return score
