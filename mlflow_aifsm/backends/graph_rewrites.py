"""Exact rewrites of an ONNX graph that a quantizer needs before its work, or leaves to be done after it."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

PRODUCTS = ("Gemm", "MatMul")
"""Operators that ONNX Runtime runs on integers with a float result; a convolution on integers has an integer one."""


def named(model: ModelProto) -> ModelProto:
    """``model`` with a name for every node that has none; quantizers tell layers by it."""
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    return model


def without_value_info(model: ModelProto) -> ModelProto:
    """``model`` without the shapes noted for its inner tensors; they can be inferred."""
    del model.graph.value_info[:]
    return model


def linear_as_product(model: ModelProto) -> ModelProto:
    """``model`` with each Gemm that is a linear layer (no scaling, weight stored) as MatMul and Add."""
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in [node for node in graph.node if _is_linear(node) and node.input[1] in stored]:
        if _settings(node).get("transB"):
            weight = stored[node.input[1]]
            weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(weight).T), weight.name))
        _replace(graph, node, _as_product(node))
    return model


def outputs_in_float(model: ModelProto) -> ModelProto:
    """``model`` without the quantizer behind a matrix product whose result is an output of the graph."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    for output in graph.output:
        last = makers.get(output.name)
        quantizer = makers.get(last.input[0]) if last is not None and last.op_type == "DequantizeLinear" else None
        source = makers.get(quantizer.input[0]) if quantizer is not None and quantizer.op_type == "QuantizeLinear" else None
        if source is not None and source.op_type in PRODUCTS and _users(graph, source.output[0]) == 1:
            graph.node.remove(last)
            graph.node.remove(quantizer)
            source.output[0] = output.name
    _drop_unused(graph)
    return model


def _is_linear(node: NodeProto) -> bool:
    settings = _settings(node)
    plain = settings.get("alpha", 1.0) == 1.0 and settings.get("beta", 1.0) == 1.0 and not settings.get("transA")
    return node.op_type == "Gemm" and plain


def _settings(node: NodeProto) -> dict[str, object]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _as_product(node: NodeProto) -> list[NodeProto]:
    if len(node.input) < 3 or not node.input[2]:  # noqa: PLR2004 -- data, weight, bias
        return [helper.make_node("MatMul", node.input[:2], node.output, node.name)]
    product = f"{node.output[0]}_product"
    return [
        helper.make_node("MatMul", node.input[:2], [product], node.name),
        helper.make_node("Add", [product, node.input[2]], node.output, f"{node.name}_bias"),
    ]


def _replace(graph: GraphProto, node: NodeProto, by: list[NodeProto]) -> None:
    place = list(graph.node).index(node)
    graph.node.remove(node)
    for offset, other in enumerate(by):
        graph.node.insert(place + offset, other)


def _users(graph: GraphProto, name: str) -> int:
    return sum(list(node.input).count(name) for node in graph.node)


def _drop_unused(graph: GraphProto) -> None:
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
