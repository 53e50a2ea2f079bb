"""A weight of a PyTorch module by its name, and the mask of ``torch.nn.utils.prune`` that is in force on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import nn
from torch.nn.utils.prune import BasePruningMethod

from mlflow_aifsm.capture.orientation import Orientation
from mlflow_aifsm.errors import InputError

WEIGHT, MASK, UNMASKED = "weight", "_mask", "_orig"
"""Name of such a weight, and what PyTorch adds to it for a mask in force and for what the mask is multiplied with."""


@dataclass(frozen=True, slots=True)
class Prunable:
    """A weight that can be pruned, told once, however many modules use it.

    Attributes:
        path: Path of the first module that uses it; empty for the module itself.
        kind: Class of that module.
        shape: ``[out, in/groups, …]``, output channels first.
        orientation: How it is stored.
        shared: Names of the same parameter in other modules, ``<path>.<name>``.
        refusal: Why it cannot be pruned where somebody chooses it; None where it can. Its shape is then not known.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    orientation: Orientation
    shared: tuple[str, ...] = ()
    refusal: InputError | None = None

    @property
    def tensor(self) -> str:
        """Its name in the module's state, ``<path>.weight``; PyTorch's exporters keep it."""
        return joined(self.path, WEIGHT)

    @property
    def matrix(self) -> tuple[int, int]:
        """Output channels, and weights of each, which a pruning divides into tiles.

        Raises:
            InputError: If the weight cannot be pruned.
        """
        if self.refusal is not None:
            raise self.refusal
        return self.shape[0], prod(self.shape[1:])

    @property
    def size(self) -> int:
        """Number of weights."""
        return prod(self.shape)

    @property
    def aliases(self) -> tuple[str, ...]:
        """Names it goes by: module paths, tensor names, class of the module."""
        paths = (self.path, *(name.rpartition(".")[0] for name in self.shared))
        return tuple(filter(None, (*paths, self.tensor, *self.shared, self.kind)))


def parameter(module: nn.Module, tensor: str) -> nn.Parameter:
    """The parameter that training changes, by its name without a mask, ``<path>.<name>``.

    Raises:
        InputError: If the module has none of that name.
    """
    path, _, name = tensor.rpartition(".")
    try:
        stored = module.get_submodule(path)._parameters  # noqa: SLF001 -- getattr would give the product with the mask
    except AttributeError:
        stored = {}
    found = stored.get(name, stored.get(name + UNMASKED))
    if found is None:
        raise InputError(f"parameter {tensor} is gone", expected="the module in which it was found")
    return found


def effective(module: nn.Module, tensor: str) -> torch.Tensor:
    """A parameter as the next forward pass will see it, detached: its mask multiplied in where there is one.

    Raises:
        InputError: If the module has none of that name.
    """
    found, mask = parameter(module, tensor).detach(), in_force(module, tensor)
    return found if mask is None else found * mask


def in_force(module: nn.Module, tensor: str) -> torch.Tensor | None:
    """The mask on a parameter, as stored; None without one."""
    path, _, name = tensor.rpartition(".")
    return module.get_submodule(path)._buffers.get(name + MASK)  # noqa: SLF001 -- where PyTorch puts it


def hooks(module: nn.Module) -> Iterator[tuple[str, str, BasePruningMethod]]:
    """Path of each module inside ``module``, name of its masked parameter, and the hook that multiplies the mask in."""
    for path, part in module.named_modules():
        for hook in tuple(part._forward_pre_hooks.values()):  # noqa: SLF001 -- no public name
            if isinstance(hook, BasePruningMethod):
                yield path, hook._tensor_name, hook  # noqa: SLF001 -- no public name


def refresh(module: nn.Module) -> None:
    """Computes masked weights anew, without history: so the module can be copied, which PyTorch refuses after a training."""
    with torch.no_grad():
        for path, _, hook in hooks(module):
            hook(module.get_submodule(path), None)


def joined(path: str, name: str) -> str:
    """Name of a parameter inside a module, as its state dict has it."""
    return f"{path}.{name}" if path else name
