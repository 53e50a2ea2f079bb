"""The canonical digest: which function a model file computes, whatever it is called and however its weights are stored.

The bytes of an exported file depend on its name, on where its weights lie and on the source paths in its metadata. This digest
covers the weights, the nodes, the inputs and outputs and the operator sets, and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto

from mlflow_aifsm.capture.onnx_graph import OnnxFile, opened
from mlflow_aifsm.capture.onnx_tensors import pieces
from mlflow_aifsm.digests import sha256_bytes


def canonical_digest(source: Path | OnnxFile) -> str:
    """SHA-256 in hex over what the model computes; equal for inline, typed and external weights, and for any file name.

    It covers, in this order: the initializers as sorted (name, element type, shape, SHA-256 of the little-endian bytes), the
    nodes as (domain, operator, inputs, outputs, attributes by name), inputs, outputs, operator set imports, model-local
    functions. Subgraphs are covered where they stand. Node names, documentation and metadata are left out (ED-324 6.4.3.6h: no
    part of the model). Weights stream in pieces of 1 MiB.

    Raises:
        InputError: If the file or its external data cannot be read.
    """
    file = opened(source)
    functions = sorted(_function(file.path, function) for function in file.model.functions)
    return _digest((_graph(file.path, file.model.graph), _imports(file.model.opset_import), functions))


def _digest(content: object) -> str:
    return sha256_bytes(repr(content).encode("utf-8", "surrogatepass"))


def _graph(path: Path, graph: GraphProto) -> str:
    weights = sorted(_tensor(path, item) for item in graph.initializer)
    sparse = sorted(
        (_tensor(path, item.values), _tensor(path, item.indices), tuple(item.dims)) for item in graph.sparse_initializer
    )
    held = [_node(path, node) for node in graph.node]
    return _digest((weights, sparse, held, _values(graph.input), _values(graph.output)))


def _function(path: Path, function: FunctionProto) -> str:
    held = [_node(path, node) for node in function.node]
    defaults = sorted(_attribute(path, item) for item in function.attribute_proto)
    names = (function.domain, function.name, list(function.input), list(function.output), sorted(function.attribute))
    return _digest((names, defaults, held, _imports(function.opset_import)))


def _node(path: Path, node: NodeProto) -> tuple[object, ...]:
    attributes = sorted(_attribute(path, item) for item in node.attribute)
    return (node.domain, node.op_type, list(node.input), list(node.output), attributes)


def _attribute(path: Path, item: AttributeProto) -> tuple[str, int, str]:
    if item.type in (AttributeProto.TENSOR, AttributeProto.TENSORS):
        held: object = [_tensor(path, found)[1:] for found in ([item.t] if item.HasField("t") else item.tensors)]
    elif item.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
        held = [_graph(path, found) for found in ([item.g] if item.HasField("g") else item.graphs)]
    else:
        plain = AttributeProto()
        plain.CopyFrom(item)
        plain.ClearField("doc_string")
        held = plain.SerializeToString(deterministic=True)
    return (item.name, item.type, _digest(held))


def _tensor(path: Path, item: TensorProto) -> tuple[str, int, tuple[int, ...], str]:
    state = hashlib.sha256()
    for piece in pieces(path, item):
        state.update(piece)
    return (item.name, item.data_type, tuple(item.dims), state.hexdigest())


def _values(values: Iterable[ValueInfoProto]) -> list[tuple[str, bytes]]:
    return [(value.name, value.type.SerializeToString(deterministic=True)) for value in values]


def _imports(imports: Iterable[OperatorSetIdProto]) -> list[tuple[str, int]]:
    return sorted((item.domain, item.version) for item in imports)
