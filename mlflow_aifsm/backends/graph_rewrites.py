"""Exact rewrites of an ONNX graph that a quantizer needs before its work, or leaves to be done after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

PRODUCTS = ("Gemm", "MatMul")
"""Operators that ONNX Runtime runs on integers with a float result; a convolution on integers has an integer one."""


def named(model: ModelProto) -> ModelProto:
    """``model`` with a name of its own for every node; quantizers tell layers by it."""
    taken: set[str] = {node.name for node in model.graph.node}
    seen: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = _free(f"{node.name or node.op_type}_{number}", taken)
        seen.add(node.name)
        taken.add(node.name)
    return model


def readable(model: ModelProto) -> ModelProto:
    """``model`` as ONNX Runtime's quantizers can read it: weights stored, not made by nodes, and one bias for each output."""
    return one_bias_each(with_stored_constants(model))


def is_readable(model: ModelProto) -> bool:
    """Whether ``readable`` has nothing to do; the weights' values need not be loaded."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    return not any(_is_constant(node) or _has_odd_bias(node, stored) for node in model.graph.node)


def with_stored_constants(model: ModelProto) -> ModelProto:
    """``model`` with the tensors of Constant nodes as initializers: quantizers take others for data."""
    graph = model.graph
    for node in [node for node in graph.node if _is_constant(node)]:
        graph.initializer.append(node.attribute[0].t)
        graph.initializer[-1].name = node.output[0]
        graph.node.remove(node)
    return model


def one_bias_each(model: ModelProto) -> ModelProto:
    """``model`` with the stored bias of each Gemm as one value an output, its factor beta multiplied into it.

    ONNX Runtime's quantizer fails for a bias that is broadcast, and forgets beta.
    """
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    taken = {*stored, *(name for node in graph.node for name in node.output)}
    for node in [node for node in graph.node if _has_odd_bias(node, stored)]:
        name = _free(f"{node.input[2]}_{node.name}", taken)
        taken.add(name)
        graph.initializer.append(numpy_helper.from_array(_plain_bias(node, stored), name))
        node.input[2] = name
        for attribute in [attribute for attribute in node.attribute if attribute.name == "beta"]:
            node.attribute.remove(attribute)
    drop_unused(graph)
    return model


def without_value_info(model: ModelProto) -> ModelProto:
    """``model`` without the shapes noted for its inner tensors; they can be inferred."""
    del model.graph.value_info[:]
    return model


def linear_as_product(model: ModelProto) -> ModelProto:
    """``model`` with each Gemm that is a linear layer (no scaling, weight stored) as MatMul and Add."""
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    linear = [node for node in graph.node if _is_linear(node) and node.input[1] in stored]
    turned = [node for node in linear if _settings(node).get("transB")]
    for weight in dict.fromkeys(node.input[1] for node in turned):
        readers = [node for node in turned if node.input[1] == weight]
        name = weight if len(readers) == _users(graph, weight) else _free(f"{weight}_transposed", set(stored))
        values = np.ascontiguousarray(numpy_helper.to_array(stored[weight]).T)
        graph.initializer.append(numpy_helper.from_array(values, name))
        if name == weight:
            graph.initializer.remove(stored[weight])
        for node in readers:
            node.input[1] = name
    for node in linear:
        _replace(graph, node, _as_product(node))
    return model


def outputs_in_float(model: ModelProto, before: ModelProto) -> ModelProto:
    """``model`` without the quantizer behind a matrix product whose result is an output of the graph.

    Args:
        model: The quantized model.
        before: The float model: where a ReLU was behind the product, the quantizer does its work and stays.
    """
    graph = model.graph
    products = {name for node in before.graph.node if node.op_type in PRODUCTS for name in node.output}
    makers = {name: node for node in graph.node for name in node.output}
    for output in [output for output in graph.output if output.name in products]:
        last = makers.get(output.name)
        quantizer = makers.get(last.input[0]) if last is not None and last.op_type == "DequantizeLinear" else None
        source = makers.get(quantizer.input[0]) if quantizer is not None and quantizer.op_type == "QuantizeLinear" else None
        if source is not None and source.op_type in PRODUCTS and _users(graph, source.output[0]) == 1:
            graph.node.remove(last)
            graph.node.remove(quantizer)
            source.output[0] = output.name
    drop_unused(graph)
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


def _has_odd_bias(node: NodeProto, stored: Mapping[str, TensorProto]) -> bool:
    inputs = list(node.input)
    if node.op_type != "Gemm" or len(inputs) < 3 or not {inputs[1], inputs[2]} <= stored.keys():  # noqa: PLR2004
        return False
    shape = list(stored[inputs[2]].dims)
    one_row = all(length == 1 for length in shape[:-1])
    return one_row and (shape != [_outputs(node, stored)] or _settings(node).get("beta", 1.0) != 1.0)


def _plain_bias(node: NodeProto, stored: Mapping[str, TensorProto]) -> npt.NDArray[Any]:
    bias = numpy_helper.to_array(stored[node.input[2]]).reshape(-1)
    beta = np.asarray(_settings(node).get("beta", 1.0), bias.dtype)
    return np.ascontiguousarray(np.broadcast_to(bias * beta, _outputs(node, stored)))


def _is_constant(node: NodeProto) -> bool:
    return node.op_type == "Constant" and [attribute.name for attribute in node.attribute] == ["value"]


def _outputs(node: NodeProto, stored: Mapping[str, TensorProto]) -> int:
    return int(stored[node.input[1]].dims[0 if _settings(node).get("transB") else 1])


def _free(wanted: str, taken: set[str]) -> str:
    """``wanted``, or ``wanted`` with the first number behind it that makes it a new name."""
    return next(name for name in (wanted, *(f"{wanted}_{number}" for number in range(len(taken) + 1))) if name not in taken)


def _users(graph: GraphProto, name: str) -> int:
    return list(_read(graph)).count(name)


def _read(graph: GraphProto) -> Iterator[str]:
    """Every name that a node reads, in branches too, which see the tensors around them."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _read(inner)
                yield from (output.name for output in inner.output)


def drop_unused(graph: GraphProto) -> None:
    """Takes stored tensors out of ``graph`` that nothing reads."""
    used = {*_read(graph), *(output.name for output in graph.output)}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
