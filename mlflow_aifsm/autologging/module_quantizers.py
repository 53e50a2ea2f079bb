"""Quantizers that NNCF put into a PyTorch module, as the same rows that a file's quantizers are read into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import nncf.torch.quantization.layers as nncf_layers
import torch
from nncf.torch.function_hook.wrapper import get_hook_storage
from nncf.torch.quantization.quantize_functions import unpack_int4, unpack_uint4
from onnx import NodeProto
from torch import nn

from mlflow_aifsm.backends.fake_quantized import STORAGE, Example, Held, held, weights
from mlflow_aifsm.capture.quantizer import ACTIVATION, WEIGHT, Quantizer

_PACKED = (nncf_layers.INT4SymmetricWeightsDecompressor, nncf_layers.INT4AsymmetricWeightsDecompressor)
_SIGNED = (nncf_layers.INT4SymmetricWeightsDecompressor, nncf_layers.INT8SymmetricWeightsDecompressor)


@dataclass(frozen=True, slots=True)
class InMemory:
    """A module that holds quantizers.

    Attributes:
        source: How facts name it.
    """

    source: str

    @property
    def nodes(self) -> tuple[NodeProto, ...]:
        """None: a module is no graph."""
        return ()


def fake_quantizers(model: nn.Module, example: Example) -> tuple[Quantizer, ...]:
    """What ``nncf.quantize`` put into a module.

    Args:
        model: The module; it runs once on ``example``, as only the forward pass shows which tensor a quantizer takes.
        example: Inputs by position and by name.

    Raises:
        OptimizationError: If a quantizer has other than 8 bits.
    """
    parameters, taken = dict(model.named_parameters()), weights(model, example)
    return tuple(_row(one, taken.get(one.name, ""), parameters) for one in held(model))


def decompressors(model: nn.Module) -> tuple[Quantizer, ...]:
    """What ``nncf.compress_weights`` put into a module: weights as codes, with what makes values of them."""
    parameters = dict(model.named_parameters())
    return tuple(_weight(path, hook, parameters[path]) for path, hook in hooked(model, nncf_layers.BaseWeightsDecompressor))


def hooked(model: nn.Module, kind: type) -> Iterator[tuple[str, Any]]:
    """NNCF's hooks of a kind that stand on a parameter, by the parameter's path."""
    storage = get_hook_storage(model) if hasattr(model, STORAGE.rstrip(".")) else None
    for name, hook in storage.named_hooks() if storage is not None else ():
        path = name.partition(".")[2].rpartition("__")[0].replace(":", ".")
        if isinstance(hook, kind):
            yield path, hook


def _row(one: Held, parameter: str, parameters: dict[str, nn.Parameter]) -> Quantizer:
    place = one.name.partition(".")[2].rpartition("__")[0]
    layer, _, op = place.removesuffix("/0").rpartition("/")
    dtype = "int8" if one.low < 0 else "uint8"
    base = Quantizer(
        parameter or place, ACTIVATION, layer.replace("/", ".") or place, op, dtype, 8, one.axis, 0, one.step, one.zero_point
    )
    if not parameter:
        return base
    codes = _codes(one, parameters[parameter].detach())
    low, high = int(codes.min()), int(codes.max())
    zero = codes == _spread(torch.tensor(one.zero_point), one.axis, codes.dim())
    counted = {"size": codes.numel(), "zeros": int(zero.sum())}
    return Quantizer(parameter, WEIGHT, base.layer, op, dtype, 8, one.axis, 0, one.step, one.zero_point, low, high, **counted)


def _codes(one: Held, values: torch.Tensor) -> torch.Tensor:
    step, point = (_spread(torch.tensor(numbers), one.axis, values.dim()) for numbers in (one.step, one.zero_point))
    return torch.clamp(torch.round(values.cpu().double() / step) + point, *one.levels)


def _spread(numbers: torch.Tensor, axis: int | None, axes: int) -> torch.Tensor:
    """One number a channel along ``axis``, or one for all, as a tensor that broadcasts."""
    return numbers.reshape([-1 if place == axis else 1 for place in range(axes)]) if axis is not None else numbers


def _weight(path: str, hook: Any, stored: torch.Tensor) -> Quantizer:
    """A weight that is stored as codes; NNCF packs two of 4 bits into a byte."""
    packed, signed = isinstance(hook, _PACKED), isinstance(hook, _SIGNED)
    codes = (unpack_int4 if signed else unpack_uint4)(stored.detach()) if packed else stored.detach()
    scale, zero = hook._scale, getattr(hook, "_zero_point", None)  # noqa: SLF001 -- NNCF has no other name for them
    shape = list(getattr(hook, "compressed_weight_shape", codes.shape))
    steps = tuple(scale.detach().double().flatten().tolist())
    points = (0,) if zero is None else tuple((unpack_uint4(zero) if packed else zero).flatten().tolist())[: len(steps)]
    grouped = len(shape) > scale.dim() or any(length > 1 for length in scale.shape[1:])
    bits = 4 if packed else 8
    dtype, axis = f"{'' if signed else 'u'}int{bits}", 0 if len(steps) > 1 else None
    ends = (int(codes.min()), int(codes.max()))
    block = int(shape[-1]) if grouped else 0
    layer = path.rpartition(".")[0]
    return Quantizer(path, WEIGHT, layer, "weight", dtype, bits, axis, block, steps, points, *ends, size=codes.numel())
