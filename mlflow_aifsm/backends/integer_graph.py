"""Exact rewrites of an exported fake-quantized graph, after which a runtime can compute its layers in integers.

A fake-quantized module computes ``BatchNorm(conv(x̂, ŵ) + b)``. Here the normalisation goes into the weight's scales by channel
(Jacob et al. 2018, arXiv 1712.05877, section 3.2): the codes stay, only those of a channel with a negative factor change sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from mlflow_aifsm.sources import Array

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that multiply weights with data."""
NORMALIZATION, QUANTIZE, DEQUANTIZE = "BatchNormalization", "QuantizeLinear", "DequantizeLinear"
BIAS = 2
"""Place of the bias among the inputs of a layer."""
SUFFIX = "_quantized"
"""What the codes of a weight are called behind its name, as ONNX Runtime's quantizer does."""


@dataclass(slots=True)
class IntegerGraph:
    """A graph with quantizers, in memory; the rewrites change it.

    Attributes:
        model: The model.
        factors: By weight, or codes where they are not the weight's first, what each scale was multiplied by, one factor a
            channel.
        reasons: By node, why a runtime cannot compute it in integers, as far as the rewrites know.
    """

    model: ModelProto
    factors: dict[str, tuple[float, ...]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def nodes(self) -> list[NodeProto]:
        """The nodes of the main graph, in order."""
        return list(self.model.graph.node)

    def maker(self, name: str) -> NodeProto | None:
        """The node that computes ``name``."""
        return next((node for node in self.model.graph.node if name and name in node.output), None)

    def users(self, name: str) -> list[NodeProto]:
        """The nodes that read ``name``."""
        return [node for node in self.model.graph.node if name in node.input]

    def readers(self, name: str) -> list[NodeProto | None]:
        """The nodes that read ``name``, and None for whoever reads it as an output of the graph."""
        return [*self.users(name), *(None for output in self.model.graph.output if output.name == name)]

    def alone(self, name: str) -> NodeProto | None:
        """The only reader of ``name``; None where there are several, or the graph gives it out."""
        found = self.readers(name)
        return found[0] if len(found) == 1 else None

    def array(self, name: str) -> Array | None:
        """A stored tensor."""
        stored = next((tensor for tensor in self.model.graph.initializer if tensor.name == name), None)
        return None if stored is None else numpy_helper.to_array(stored)

    def store(self, name: str, values: Array) -> str:
        """Stores a tensor under ``name``, or under the first free name that begins so, and returns that."""
        taken = {tensor.name for tensor in self.model.graph.initializer}
        taken |= {output for node in self.model.graph.node for output in node.output}
        free = next(one for one in (name, *(f"{name}_{number}" for number in range(len(taken) + 1))) if one not in taken)
        self.model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), free))
        return free

    def drop(self, node: NodeProto) -> None:
        """Takes a node out of the graph."""
        self.model.graph.node.remove(node)

    def insert_before(self, node: NodeProto, *new: NodeProto) -> None:
        """Puts nodes in front of ``node``."""
        place = self.nodes.index(node)
        for offset, other in enumerate(new):
            self.model.graph.node.insert(place + offset, other)

    def dequantizer(self, name: str) -> NodeProto | None:
        """The DequantizeLinear that gives ``name``."""
        maker = self.maker(name)
        return maker if maker is not None and maker.op_type == DEQUANTIZE else None

    def weight(self, node: NodeProto) -> NodeProto | None:
        """The DequantizeLinear of a layer's stored codes; None where its weight is no code, or is computed."""
        found = self.dequantizer(node.input[1]) if node.op_type in LAYERS else None
        return found if found is not None and self.array(found.input[0]) is not None else None


def with_named_codes(graph: IntegerGraph, names: Mapping[str, str]) -> dict[str, str]:
    """Gives the codes of each weight the weight's name, and each weight a scale and a zero point of its own.

    A weight that several quantizers take has codes of each, with a number behind the name from the second on.

    Args:
        graph: The graph.
        names: Weight by the name of the tensor that holds its codes.

    Returns:
        The new name of the codes by the name of the node that reads them.
    """
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        codes = graph.array(node.input[0]) if node.op_type == DEQUANTIZE else None
        weight = names.get(node.input[0], "")
        if codes is None or not weight:
            continue
        scale = np.asarray(graph.array(node.input[1]))
        node.input[0] = graph.store(weight + SUFFIX, codes)
        renamed[node.name] = node.input[0]
        node.input[1] = graph.store(f"{weight}_scale", scale)
        node.input[2] = graph.store(f"{weight}_zero_point", np.zeros(scale.shape, codes.dtype))
        graph.factors[node.input[0].removesuffix(SUFFIX)] = (1.0,) * scale.size
    return renamed


def with_folded_normalization(graph: IntegerGraph) -> None:
    """Folds each BatchNormalization that alone reads a layer with stored codes into these codes' scales and the bias."""
    for node in [node for node in graph.nodes if node.op_type == NORMALIZATION]:
        layer = graph.maker(node.input[0])
        weight = graph.weight(layer) if layer is not None else None
        if layer is None or weight is None:
            continue
        if reason := _unfoldable(graph, node, layer, weight):
            graph.reasons[layer.name] = f"its batch normalization cannot be folded, because {reason}"
        else:
            _fold(graph, node, layer, weight)


def _unfoldable(graph: IntegerGraph, node: NodeProto, layer: NodeProto, weight: NodeProto) -> str:
    """Why a normalisation cannot go into the scales of the layer before it; empty if it can."""
    if any(graph.array(name) is None for name in node.input[1:5]):
        return "its statistics are computed"
    if graph.alone(layer.output[0]) is None:
        return "the layer's output is read elsewhere too"
    if graph.alone(weight.output[0]) is None:
        return "the weight belongs to several layers"
    if layer.op_type == "ConvTranspose" and _attribute(layer, "group", 1) != 1:
        return "channels of several groups share a scale"
    if layer.op_type == "MatMul":
        return "a product has no channels of its own"
    codes = graph.array(weight.input[0])
    lowest = codes is not None and codes.dtype == np.int8 and bool((codes == np.iinfo(np.int8).min).any())
    return "code -128 has no opposite" if lowest else ""


def _fold(graph: IntegerGraph, node: NodeProto, layer: NodeProto, weight: NodeProto) -> None:
    gain, shift, mean, variance = (np.asarray(graph.array(name), np.float64) for name in node.input[1:5])
    factor = gain / np.sqrt(variance + float(_attribute(node, "epsilon", 1e-5)))
    codes, scale = np.asarray(graph.array(weight.input[0])), np.asarray(graph.array(weight.input[1]), np.float64)
    axis = output_axis(layer)
    signs = np.sign(factor).astype(codes.dtype).reshape([-1 if place == axis else 1 for place in range(codes.ndim)])
    sizes = np.where(factor == 0, 1.0, np.abs(factor))
    name = weight.input[0].removesuffix(SUFFIX)
    bias = np.asarray(graph.array(layer.input[BIAS]), np.float64) if len(layer.input) > BIAS and layer.input[BIAS] else 0.0
    weight.input[0] = _renewed(graph, weight.input[0], codes * signs)
    weight.input[1] = _renewed(graph, weight.input[1], (scale * sizes).astype(np.float32))
    weight.input[2] = _renewed(graph, weight.input[2], np.zeros(len(factor), codes.dtype))
    _set(weight, "axis", axis)
    stored = graph.store(f"{name.removesuffix('.weight')}.folded_bias", ((bias - mean) * factor + shift).astype(np.float32))
    layer.input[:] = [*layer.input[:BIAS], stored]
    graph.factors[name] = tuple(factor.tolist())
    layer.output[0] = node.output[0]
    graph.drop(node)


def output_axis(layer: NodeProto) -> int:
    """The axis of a layer's weight that counts its output channels."""
    if layer.op_type == "Conv":
        return 0
    if layer.op_type == "Gemm":
        return 0 if _attribute(layer, "transB", 0) else 1
    return 1


def _renewed(graph: IntegerGraph, name: str, values: Array) -> str:
    """Stores other values under a name that one node alone reads."""
    stored = next(tensor for tensor in graph.model.graph.initializer if tensor.name == name)
    stored.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))
    return name


def _attribute(node: NodeProto, name: str, default: float) -> float:
    found = next((one for one in node.attribute if one.name == name), None)
    return default if found is None else float(helper.get_attribute_value(found))


def _set(node: NodeProto, name: str, value: int) -> None:
    for old in [one for one in node.attribute if one.name == name]:
        node.attribute.remove(old)
    node.attribute.append(helper.make_attribute(name, value))
