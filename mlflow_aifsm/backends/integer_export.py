"""A trained fake-quantized module into an integer ONNX file: codes of weights stored, nothing of another operator domain.

PyTorch's exporter writes quantizers of ``quantized_decomposed`` as QuantizeLinear and DequantizeLinear. Weights are given to it
as codes already, so that nothing is rounded at run time. Importing ``_decomposed`` registers these operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
import torch.ao.quantization.fx._decomposed
from torch import nn

from mlflow_aifsm import scratch
from mlflow_aifsm.backends.exporters import Exported, to_onnx
from mlflow_aifsm.backends.fake_quantized import STORAGE, Example, Held, first_names, held, observing, replaced, run
from mlflow_aifsm.backends.fake_quantized import weights as weights_of
from mlflow_aifsm.backends.graph_rewrites import named
from mlflow_aifsm.backends.integer_graph import (
    IntegerGraph,
    with_folded_normalization,
    with_named_codes,
)
from mlflow_aifsm.backends.integer_layers import (
    cleaned,
    with_codes_before_layers,
    with_codes_behind_layers,
    with_integer_biases,
    without_idle_clips,
)
from mlflow_aifsm.backends.nncf_training import quiet
from mlflow_aifsm.backends.quantized import saved
from mlflow_aifsm.errors import ConversionError

_OPERATORS = torch.ops.quantized_decomposed
CODES = {"uint8": (torch.uint8, 0, 255), "int8": (torch.int8, -128, 127)}
"""Type, smallest and largest code of activations."""
ROUNDING = 2 * torch.finfo(torch.float32).eps
"""Part of w / step within which float32 arithmetic cannot tell on which side of a border it lies."""
SCOPES = "pkg.torch.onnx.name_scopes"
"""Metadata of a node: the modules around it."""


@dataclass(frozen=True, slots=True)
class IntegerFile:
    """An integer file with what is known of its making.

    Attributes:
        path: The file.
        exported: The exporter's call.
        float_path: The trained weights without quantizers, exported the same way: what the file's codes are to be judged by.
        weights: Weight by the name of its quantizer.
        codes: Stored codes by the name of their quantizer.
        activations: Tensors of the file by the name of their quantizer, in the order in which it runs: inputs of a node may
            share one.
        factors: By weight, or codes where they are not the weight's first, what folding multiplied each channel's scale by.
        reasons: By node, why a runtime computes it in float, as far as the file's making tells.
    """

    path: Path
    exported: Exported
    float_path: Path
    weights: Mapping[str, str]
    codes: Mapping[str, tuple[str, ...]]
    activations: Mapping[str, tuple[str, ...]]
    factors: Mapping[str, tuple[float, ...]]
    reasons: Mapping[str, str]


class _Coded(nn.Module):
    """A weight that comes from stored codes, whatever the float weight is."""

    codes: torch.Tensor
    step: torch.Tensor

    def __init__(self, codes: torch.Tensor, held: Held) -> None:
        super().__init__()
        self.register_buffer("codes", codes)
        self.register_buffer("step", torch.tensor(held.step, dtype=torch.float32))
        self.register_buffer("zero", torch.zeros(len(held.step), dtype=torch.int64))
        self.axis = held.axis

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        ends = (-128, 127, torch.int8)
        if self.axis is None:
            made = _OPERATORS.dequantize_per_tensor(self.codes, float(self.step[0]), 0, *ends)
        else:
            made = _OPERATORS.dequantize_per_channel(self.codes, self.step, self.zero, self.axis, *ends)
        return torch.as_tensor(made)


class _Rounded(nn.Module):
    """An activation that goes through codes of one type, signed or not, which does not change its values."""

    def __init__(self, held: Held, kind: str) -> None:
        super().__init__()
        dtype, low, high = CODES[kind]
        points = [point + low - held.low for point in held.zero_point]
        self.ends, self.axis = (low, high, dtype), held.axis
        self.register_buffer("step", torch.tensor(held.step, dtype=torch.float32))
        self.register_buffer("zero", torch.tensor(points, dtype=torch.int64))
        self.plain = (held.step[0], points[0])

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        if self.axis is None:
            codes = _OPERATORS.quantize_per_tensor(value, *self.plain, *self.ends)
            made = _OPERATORS.dequantize_per_tensor(codes, *self.plain, *self.ends)
        else:
            codes = _OPERATORS.quantize_per_channel(value, self.step, self.zero, self.axis, *self.ends)
            made = _OPERATORS.dequantize_per_channel(codes, self.step, self.zero, self.axis, *self.ends)
        return torch.as_tensor(made)


def integer_file(model: nn.Module, example: Example, activations: str, **settings: Any) -> IntegerFile:
    """Writes the integer file of a fake-quantized module.

    Args:
        model: The module in evaluation mode, on the CPU.
        example: Inputs it can be called with.
        activations: Type of the codes of activations, ``uint8`` or ``int8``.
        **settings: ``opset``, ``dynamic_shapes`` and ``strip_source_paths`` of the exporter.

    Raises:
        InputError: If an axis is to be dynamic whose example has length one.
        ConversionError: If the exporter fails, or wrote operators of another domain.
        OptimizationError: If a quantizer holds what 8 bits cannot.
    """
    known = {one.name: one for one in held(model)}
    names, codes = weights_of(model, example), weight_codes(model, example)
    parts = {name: _Coded(codes[name], one) if name in names else _Rounded(one, activations) for name, one in known.items()}
    folder = scratch.folder()
    with quiet():
        exported = to_onnx(replaced(model, parts), *example, folder / "fake_quantized.onnx", **settings)
        plain = replaced(model, {name: nn.Identity() for name in known})
        before = to_onnx(plain, *example, folder / "float.onnx", **settings)
    graph = IntegerGraph(named(onnx.load(exported.path)))
    without_idle_clips(graph)
    nodes = with_named_codes(graph, {f"{STORAGE}{name}.codes": weight for name, weight in names.items()})
    stored = _stored(graph, nodes, {name: (names[name], known[name].step, codes[name].numpy().tobytes()) for name in names})
    with_folded_normalization(graph)
    with_codes_behind_layers(graph)
    with_codes_before_layers(graph)
    with_integer_biases(graph)
    path = saved(_own(cleaned(graph)))
    tensors = _tensors(graph, first_names(model))
    return IntegerFile(path, exported, before.path, names, stored, tensors, graph.factors, graph.reasons)


def weight_codes(model: nn.Module, example: Example) -> dict[str, torch.Tensor]:
    """The int8 codes that each quantized weight has now, by the name of its quantizer, in the weight's shape."""
    known, names = {one.name: one for one in held(model)}, weights_of(model, example)
    made: dict[str, torch.Tensor] = {}

    def seen(name: str, weight: torch.Tensor, rounded: torch.Tensor) -> None:
        if name in names:
            made[name] = _codes(weight.detach(), rounded.detach(), known[name])

    with observing(model, seen):
        run(model, example)
    return made


def _codes(weight: torch.Tensor, rounded: torch.Tensor, one: Held) -> torch.Tensor:
    """clip(round(w / step)), and of weights on the border of two codes the one that the module computes with.

    NNCF's overflow fix puts the largest weight of each channel on such a border, and its float32 arithmetic decides.
    """
    shape = [-1 if place == one.axis else 1 for place in range(weight.dim())]
    step = torch.tensor(one.step, dtype=torch.float64).reshape(shape)
    exact = (weight.double().cpu() / step).clamp(*one.levels)
    theirs = torch.round(rounded.double().cpu() / step)
    border = (exact - theirs).abs() <= 0.5 + ROUNDING * (exact.abs() + 1)
    return torch.where(border, theirs, torch.round(exact)).to(torch.int8)


def _tensors(graph: IntegerGraph, first: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The float tensors that each quantizer of activations takes, by the module that the exporter noted around it."""
    found: dict[str, tuple[str, ...]] = {}
    for node in graph.nodes:
        inside = _quantizer(node)
        if node.op_type == "QuantizeLinear" and inside:
            found[first[inside]] = (*found.get(first[inside], ()), node.input[0])
    return found


def _stored(graph: IntegerGraph, nodes: Mapping[str, str], contents: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The codes that each quantizer of weights has in the file, given those that each node reads.

    The exporter keeps one of two quantizers that hold the same of the same weight.
    """
    inside = {node.name: _quantizer(node) for node in graph.nodes}
    own = {name: tuple(codes for node, codes in nodes.items() if inside[node] == name) for name in contents}
    twins = {name: next((one for one in own if own[one] and contents[one] == contents[name]), name) for name in contents}
    return {name: own[name] or own[twins[name]] for name in contents}


def _quantizer(node: onnx.NodeProto) -> str:
    """The quantizer that the exporter noted around a node; empty if none."""
    noted = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "")
    return noted.rpartition(f"'{STORAGE}")[2].partition("'")[0] if STORAGE in noted else ""


def _own(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` if it has standard operators alone.

    Raises:
        ConversionError: If it has others.
    """
    foreign = sorted({f"{node.domain}:{node.op_type}" for node in model.graph.node if node.domain})
    if foreign:
        raise ConversionError("the exporter wrote operators of another domain", got=", ".join(foreign))
    onnx.checker.check_model(model)
    return model
