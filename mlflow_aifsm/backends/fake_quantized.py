"""A fake-quantized module of NNCF: what its quantizers hold, what goes through them, and others in their place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from nncf.torch.function_hook.wrapper import get_hook_storage
from nncf.torch.quantization.layers import AsymmetricQuantizer, BaseQuantizer
from torch import nn
from torch.utils.hooks import RemovableHandle

from mlflow_aifsm.errors import OptimizationError

LEVELS = 256
"""Codes of 8 bits: what a quantizer must have whose scale ONNX shall hold."""
STORAGE = "__nncf_hooks."
"""Where NNCF's quantizers lie in the module, as its state dict names them."""

Example = tuple[tuple[Any, ...], Mapping[str, Any]]
"""Inputs by position and by name."""
Observer = Callable[[str, torch.Tensor, torch.Tensor], None]
"""Takes the name of a quantizer, what went in and what came out."""


@dataclass(frozen=True, slots=True)
class Held:
    """What one quantizer holds.

    Attributes:
        name: Its name in NNCF's storage.
        step: Size of a quantization step for each scale, in units of the tensor.
        zero_point: Zero points, one a scale, for codes from ``low``.
        low: Smallest code of the type.
        levels: Smallest and largest code in use: narrow ranges leave some out.
        axis: Axis along which scales differ; None for a single one.
        asymmetric: Whether it learns both ends of its range.
    """

    name: str
    step: tuple[float, ...]
    zero_point: tuple[int, ...]
    low: int
    levels: tuple[int, int]
    axis: int | None
    asymmetric: bool


def quantizers(model: nn.Module) -> dict[str, BaseQuantizer]:
    """NNCF's quantizers by name, in its order; one that stands in several places under its first."""
    storage = _storage(model)
    found = dict(storage.named_hooks()) if storage is not None else {}
    return {name: hook for name, hook in found.items() if isinstance(hook, BaseQuantizer)}


def first_names(model: nn.Module) -> dict[str, str]:
    """The name in ``quantizers`` of each place's quantizer: inputs that are joined share one."""
    first = {hook: name for name, hook in quantizers(model).items()}
    places = _storage(model).named_hooks(remove_duplicate=False)
    return {name: first[hook] for name, hook in places if hook in first}


def ranges(quantizer: BaseQuantizer) -> dict[str, nn.Parameter]:
    """The parameters of a quantizer that training can move, by name: its scale, or both ends of its range."""
    return {name: value for name, value in quantizer.named_parameters(recurse=False) if value.is_floating_point()}


def held(model: nn.Module) -> tuple[Held, ...]:
    """What each quantizer holds now.

    Raises:
        OptimizationError: If one has other than 8 bits, or a scale that is not a number.
    """
    return tuple(_held(name, quantizer) for name, quantizer in quantizers(model).items())


def weights(model: nn.Module, example: Example) -> dict[str, str]:
    """Which parameter each quantizer of a weight takes, by the quantizer's name; those of activations are left out.

    The module runs once on ``example``: which tensor reaches a quantizer, only the forward pass shows.
    """
    names = {id(value): name for name, value in (*model.named_buffers(), *model.named_parameters())}
    taken: dict[str, str] = {}

    def seen(name: str, given: torch.Tensor, _: torch.Tensor) -> None:
        taken[name] = names.get(id(given), "")

    with observing(model, seen):
        run(model, example)
    return {name: parameter for name, parameter in taken.items() if parameter}


@contextmanager
def observing(model: nn.Module, seen: Observer) -> Iterator[None]:
    """While it lasts, calls ``seen(name, input, output)`` whenever a quantizer runs."""

    def watched(name: str, quantizer: BaseQuantizer) -> RemovableHandle:
        def hook(_: nn.Module, given: tuple[torch.Tensor, ...], made: torch.Tensor) -> None:
            seen(name, given[0], made)

        handle: RemovableHandle = quantizer.register_forward_hook(hook)
        return handle

    handles = [watched(name, quantizer) for name, quantizer in quantizers(model).items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def replaced(model: nn.Module, by: Mapping[str, nn.Module]) -> nn.Module:
    """A copy of the fake-quantized module with other modules in the place of its quantizers, by name."""
    made = copy.deepcopy(model)
    storage: Any = _storage(made)
    for name, first in first_names(made).items():
        place, _, last = name.rpartition(".")
        storage.get_submodule(place)[last] = by[first]
    return made


def run(model: nn.Module, example: Example) -> None:
    """Runs the module once in evaluation mode, without gradients."""
    args, kwargs = example
    modes = [(part, part.training) for part in model.modules()]
    try:
        with torch.no_grad():
            model.eval()(*args, **kwargs)
    finally:
        for part, training in modes:
            part.training = training


def _held(name: str, quantizer: BaseQuantizer) -> Held:
    if quantizer.num_bits != LEVELS.bit_length() - 1:
        raise OptimizationError(f"quantizer {name}", got=f"{quantizer.num_bits} bits", expected="8 bits")
    low, _, scale, zero = quantizer.get_parameters_for_torch_fq()
    if not bool(torch.isfinite(scale).all()) or not bool((scale > 0).all()):
        raise OptimizationError(f"the scale of quantizer {name} is no positive number", remedy="train with a smaller rate")
    axis = next((place for place, length in enumerate(quantizer.scale_shape) if length > 1), None)
    step, point = tuple(scale.double().cpu().tolist()), tuple(int(value) for value in zero.cpu().tolist())
    levels = (int(quantizer.level_low), int(quantizer.level_high))
    return Held(name, step, point, int(low), levels, axis, isinstance(quantizer, AsymmetricQuantizer))


def _storage(model: nn.Module) -> Any:
    return get_hook_storage(model) if hasattr(model, STORAGE.rstrip(".")) else None
