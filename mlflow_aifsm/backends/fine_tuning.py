"""What a training that somebody else wrote really did to a module: seen through PyTorch's own hooks on all optimizers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from mlflow_aifsm.backends.quantized import plain
from mlflow_aifsm.backends.torch_weights import UNMASKED, effective, hooks, in_force, joined
from mlflow_aifsm.errors import OptimizationError
from mlflow_aifsm.facts import Json

SETTINGS = ("weight_decay", "momentum", "betas", "nesterov", "alpha", "rho", "dampening")
"""Settings of PyTorch's optimizers, besides the learning rate, that decide how a step is made."""


@dataclass(frozen=True, slots=True)
class FineTuned:
    """What was seen.

    Attributes:
        optimizers: Classes of the optimizers that made steps on the module's parameters, in order of their first.
        steps: Number of these steps.
        learning_rates: Smallest, largest and last learning rate of a step; None without a step.
        settings: Other settings of these optimizers, each value that occurred: ``{"momentum": [0.9]}``.
        seed: Seed of PyTorch's generator at the end.
        seconds: Time it took.
        trained: Names of the parameters whose values changed.
        regrown: By tensor name, how many weights that a mask held at zero are not zero any more.
    """

    optimizers: tuple[str, ...]
    steps: int
    learning_rates: tuple[float, float, float] | None
    settings: dict[str, list[Json]]
    seed: int
    seconds: float
    trained: tuple[str, ...]
    regrown: dict[str, int]

    @property
    def masks_held(self) -> bool:
        """Whether every weight that was pruned is still zero."""
        return not self.regrown

    @property
    def changed(self) -> bool:
        """Whether any parameter has another value than before: a function may have trained a copy, or nothing."""
        return bool(self.trained)


@contextmanager
def observed(module: nn.Module) -> Iterator[Callable[[], FineTuned]]:
    """While it lasts, steps on parameters of ``module`` are seen, whoever makes the optimizer, and whenever.

    Yields:
        A function that tells, after the block, what was seen. Updates made without ``torch.optim`` show in ``trained`` alone.
    """
    watch = _Watch(module)
    handle = register_optimizer_step_post_hook(watch.step)
    try:
        yield watch.told
        watch.end()
    finally:
        handle.remove()


class _Watch:
    """What is seen of one training.

    Args:
        module: The module; what it holds now is what it is compared with.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module, self._began = module, time.monotonic()
        self._before = {id(one): (one, _digest(one)) for one in module.parameters()}
        names = [joined(path, name) for path, name, _ in hooks(module)]
        self._pruned = {name: mask == 0 for name in names if (mask := in_force(module, name)) is not None}
        self._optimizers: dict[str, None] = {}
        self._rates: tuple[float, float, float] | None = None
        self._settings: dict[str, list[Json]] = {}
        self._steps = 0
        self._seen: FineTuned | None = None

    def step(self, optimizer: Optimizer, *_: Any) -> None:
        """Called by PyTorch after each step of any optimizer."""
        groups = [group for group in optimizer.param_groups if any(id(one) in self._before for one in group["params"])]
        if not groups:
            return
        self._steps += 1
        self._optimizers[type(optimizer).__name__] = None
        for group in groups:
            rate = float(group["lr"])
            least, most, _last = self._rates or (rate, rate, rate)
            self._rates = min(least, rate), max(most, rate), rate
            for name in SETTINGS:
                known = self._settings.setdefault(name, [])
                if name in group and (value := plain(group[name])) not in known:
                    known.append(value)

    def end(self) -> None:
        """Compares the module with what it was."""
        settings = {name: values for name, values in self._settings.items() if values}
        seconds, optimizers = time.monotonic() - self._began, tuple(self._optimizers)
        seed, trained = torch.initial_seed(), tuple(self._trained())
        self._seen = FineTuned(optimizers, self._steps, self._rates, settings, seed, seconds, trained, self._regrown())

    def told(self) -> FineTuned:
        """What was seen, once the training is over.

        Raises:
            OptimizationError: If it is not.
        """
        if self._seen is None:
            raise OptimizationError("the training has not ended", expected="a question after the with block")
        return self._seen

    def _trained(self) -> Iterator[str]:
        for name, parameter in self._module.named_parameters():
            before = self._before.get(id(parameter))
            if before is None or before[1] != _digest(parameter):
                plain_name = name.removesuffix(UNMASKED)
                yield plain_name if plain_name in self._pruned else name

    def _regrown(self) -> dict[str, int]:
        counts = {name: int(effective(self._module, name)[pruned].count_nonzero()) for name, pruned in self._pruned.items()}
        return {name: count for name, count in counts.items() if count}


def _digest(parameter: torch.Tensor) -> bytes:
    data = parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.blake2b(data.numpy().data, digest_size=16).digest()
