"""Which tensors of a float graph may get a quantizer, and which of them share a range."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto, shape_inference

from mlflow_aifsm.errors import InputError

CLIPPING = ("Relu", "Clip")
"""Operators that a quantizer's range may stand for: tools take the node out, and its input gets the range of its output."""

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


@dataclass(frozen=True, slots=True)
class Activations:
    """Tensors that calibration looks at.

    Attributes:
        observed: Names in the graph's order.
        standing: Tensors whose range is that of another, by name: what a Relu or Clip alone reads has the range of its output.
        outputs: Those that are outputs of the graph.
    """

    observed: tuple[str, ...]
    standing: Mapping[str, str]
    outputs: tuple[str, ...]


def activations(path: Path, operators: frozenset[str], left_out: Collection[str] = ()) -> Activations:
    """Float tensors that nodes of ``operators`` read or write in the main graph of the file at ``path``.

    Args:
        path: The float file.
        operators: Operator types that the quantizer knows.
        left_out: Names of nodes that stay in float; tensors that only they touch are not looked at.

    Raises:
        InputError: If there is none.
    """
    model = onnx.load(path, load_external_data=False)
    floats, stored = _floats(model), {tensor.name for tensor in model.graph.initializer}
    stored |= {node.output[0] for node in model.graph.node if node.op_type == "Constant"}
    nodes = [node for node in model.graph.node if node.op_type in operators and node.name not in left_out]
    names = dict.fromkeys(name for node in nodes for name in (*node.input, *node.output) if name in floats - stored)
    if not names:
        got = f"{len(left_out)} nodes kept in float" if left_out else ", ".join({node.op_type: 0 for node in model.graph.node})
        raise InputError("the model has nothing to quantize", got=got, expected="a layer that computes with floats")
    outputs = tuple(value.name for value in model.graph.output)
    standing = _standing(model, outputs)
    observed = dict.fromkeys(standing.get(name, name) for name in names)
    return Activations(tuple(observed), {name: other for name, other in standing.items() if name in names}, outputs)


def _floats(model: ModelProto) -> frozenset[str]:
    # without data, shapes that hang on constants stay open, but element types do not
    inferred = shape_inference.infer_shapes(model).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    return frozenset(value.name for value in values if value.type.tensor_type.elem_type in FLOATS)


def _standing(model: ModelProto, outputs: tuple[str, ...]) -> dict[str, str]:
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    alone = {name: users[0] for name, users in readers.items() if len(users) == 1 and name not in outputs}
    direct = {name: user.output[0] for name, user in alone.items() if user.op_type in CLIPPING and name == user.input[0]}
    return {name: direct.get(other, other) for name, other in direct.items()}
