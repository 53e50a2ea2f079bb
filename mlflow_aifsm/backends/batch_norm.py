"""NNCF's adaptation of batch normalizations: their running statistics, taken again with the weights as they are now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import nncf
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mlflow_aifsm.backends.nncf import muted
from mlflow_aifsm.backends.quantized import failed
from mlflow_aifsm.backends.torch_batches import BATCH, Ranks, Tensors, batches
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.samples import Samples

FUNCTION = "nncf.batch_norm_adaptation"


@dataclass(frozen=True, slots=True)
class Adapted:
    """What was adapted.

    Attributes:
        function: The function that was called; empty if there was nothing to adapt.
        layers: Paths of the batch normalizations with running statistics.
        iterations: Batches that were run.
        samples: Samples in them.
        momentum: Weight of a batch's statistics in the running ones, ratio, each that occurs; None for a plain mean.
    """

    function: str
    layers: tuple[str, ...]
    iterations: int
    samples: int
    momentum: tuple[float | None, ...]

    @property
    def text(self) -> str:
        """What was done, one phrase."""
        if not self.layers:
            return "no batch normalization with running statistics: nothing to adapt"
        momentum = ", ".join("none (plain mean)" if one is None else f"{one:g}" for one in self.momentum)
        read = f"{_several(self.samples, 'sample')} in {_several(self.iterations, 'batch', 'es')}, momentum {momentum}"
        adapted = _several(len(self.layers), "batch normalization")
        return f"running statistics of {adapted} adapted by {self.function} on {read}"


def adapt(
    module: nn.Module, samples: Samples, count: int | None = None, *, batch_size: int = BATCH, ranks: Ranks | None = None
) -> Adapted:
    """Calls ``nncf.batch_norm_adaptation`` on ``samples``; nothing else of ``module`` changes, masks stay in force.

    NNCF runs the batch normalizations alone in training mode, without gradients. Running statistics move by their momentum at
    each batch, so a few batches leave a part of the old ones.

    Args:
        module: The module.
        samples: Samples as in training; labels are not needed.
        count: How many of them, the first ones; all if None.
        batch_size: Samples a batch, whose mean and variance are taken.
        ranks: Axes of the module's inputs by name; the names of ``forward`` if None.

    Raises:
        InputError: If there are no samples, or they do not fit the module.
        OptimizationError: If NNCF fails.
    """
    found = {
        path: part for path, part in module.named_modules() if isinstance(part, _BatchNorm) and part.running_mean is not None
    }
    if not found:
        return Adapted("", (), 0, 0, ())
    counter = _Counter(module, samples if count is None else samples.first(count), batch_size, ranks or {})
    try:
        with muted():
            nncf.batch_norm_adaptation(module, nncf.Dataset(counter))
    except InputError:  # of the samples
        raise
    except Exception as error:
        raise failed(FUNCTION, error) from error
    if not counter.samples:
        raise InputError("no samples to adapt batch normalizations on", expected="at least one")
    momentum = tuple(dict.fromkeys(part.momentum for part in found.values()))
    return Adapted(FUNCTION, tuple(found), counter.iterations, counter.samples, momentum)


def _several(count: int, noun: str, plural: str = "s") -> str:
    return f"{count:,} {noun}{'' if count == 1 else plural}"


class _Counter:
    """The batches, counted as they are read."""

    def __init__(self, module: nn.Module, samples: Samples, size: int, ranks: Ranks) -> None:
        self._module, self._samples, self._size, self._ranks = module, samples, size, ranks
        self.iterations = self.samples = 0

    def __iter__(self) -> Iterator[Tensors]:
        for inputs, _ in batches(self._module, self._samples, self._size, self._ranks):
            self.iterations += 1
            self.samples += len(inputs[0])
            yield inputs
