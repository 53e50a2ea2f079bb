"""Whether an ONNX file can be what it says: checked on its graph and the sizes of its files, before any weight is read.

A hostile or damaged file may declare a tensor of terabytes, point at bytes beside its data, or let a node read its own output.
``onnx.checker`` finds some of it, after it has read all weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

from mlflow_aifsm.capture.onnx_tensors import TYPED, data_file, type_name
from mlflow_aifsm.errors import InputError

BITS = {"int4": 4, "uint4": 4, "float4e2m1": 4, "int2": 2, "uint2": 2}
"""Bits of the element types that lie packed, several in a byte."""
DAMAGED = "export it again, or copy it again as a whole"


def check_graph(path: Path, model: ModelProto) -> None:
    """Checks that every node reads what was made before it, subgraphs and functions included.

    Raises:
        InputError: If a graph has a cycle, is not sorted, reads what nothing makes, or makes a name twice.
    """
    _check_nodes(path, model.graph, frozenset())
    for function in model.functions:
        _check_nodes(path, function, frozenset())


def check_tensor(path: Path, tensor: TensorProto) -> None:
    """Checks that a tensor's declared shape and type agree with the bytes it has.

    Raises:
        InputError: If a dimension is negative, the type unknown, or the bytes are more, fewer, or outside their file.
    """
    elements = _elements(path, tensor)
    if tensor.data_location == TensorProto.EXTERNAL:
        _check_external(path, tensor, _bytes(tensor, elements))
    elif tensor.HasField("raw_data"):
        _agree(path, tensor, len(tensor.raw_data), _bytes(tensor, elements), "bytes")
    elif tensor.data_type == TensorProto.STRING:
        _agree(path, tensor, len(tensor.string_data), elements, "strings")
    else:
        field = TYPED.get(tensor.data_type, ("int32_data", ""))[0]
        _agree(path, tensor, len(getattr(tensor, field)), _values(tensor, elements), "values")


def _check_nodes(path: Path, graph: GraphProto | FunctionProto, outer: frozenset[str]) -> None:
    taken = set(_fed(graph))
    known = {*outer, *taken}
    for node in graph.node:
        for name in filter(None, node.input):
            if name not in known:
                got = f"{node.op_type} node '{node.name}' reads '{name}' before any node makes it"
                raise InputError(f"the graph of {path.name} has a cycle or is not sorted", got=got, remedy=DAMAGED)
        for inner in _subgraphs(node):
            _check_nodes(path, inner, frozenset(known))
        made = set(filter(None, node.output))
        if taken & made:
            what = f"the graph of {path.name} makes {', '.join(sorted(taken & made))} twice"
            raise InputError(what, got=f"node '{node.name}'", remedy=DAMAGED)
        taken |= made
        known |= made


def _fed(graph: GraphProto | FunctionProto) -> tuple[str, ...]:
    if isinstance(graph, FunctionProto):
        return tuple(graph.input)
    sparse = (item.values.name for item in graph.sparse_initializer)
    return (*(value.name for value in graph.input), *(item.name for item in graph.initializer), *sparse)


def _subgraphs(node: NodeProto) -> Iterable[GraphProto]:
    return (inner for found in node.attribute for inner in ([found.g] if found.HasField("g") else found.graphs))


def _elements(path: Path, tensor: TensorProto) -> int:
    if any(size < 0 for size in tensor.dims) or tensor.data_type not in TensorProto.DataType.values() or not tensor.data_type:
        got = f"shape {list(tensor.dims)}, element type {tensor.data_type}"
        raise InputError(f"tensor '{tensor.name}' of {path.name} is damaged", got=got, remedy=DAMAGED)
    return math.prod(tensor.dims)


def _bytes(tensor: TensorProto, elements: int) -> int:
    bits = BITS.get(type_name(tensor.data_type)) or 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return -(-elements * bits // 8)


def _values(tensor: TensorProto, elements: int) -> int:
    """How many numbers a typed field holds: one an element, two a complex one, one for each byte of a packed type."""
    if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        return 2 * elements
    return -(-elements * BITS.get(type_name(tensor.data_type), 8) // 8)


def _agree(path: Path, tensor: TensorProto, held: int, wanted: int, unit: str) -> None:
    if held != wanted:
        shape = f"shape {list(tensor.dims)} of {type_name(tensor.data_type)}"
        got, expected = f"{held:,} {unit} in the file", f"{wanted:,} for {shape}"
        raise InputError(f"tensor '{tensor.name}' of {path.name} is damaged", got=got, expected=expected, remedy=DAMAGED)


def _check_external(path: Path, tensor: TensorProto, wanted: int) -> None:
    place = {entry.key: entry.value for entry in tensor.external_data}
    size = data_file(path, place.get("location", "")).stat().st_size
    try:
        start = int(place.get("offset", 0))
        held = int(place.get("length", wanted))
    except ValueError as error:
        raise InputError(f"tensor '{tensor.name}' of {path.name} is damaged", got=str(place)[:200], remedy=DAMAGED) from error
    _agree(path, tensor, held, wanted, "bytes")
    if start < 0 or start + held > size:
        got = f"bytes {start:,} to {start + held:,} of a file of {size:,}"
        what = f"tensor '{tensor.name}' of {path.name} lies outside its file {place['location']}, which is cut short"
        raise InputError(what, got=got, remedy="copy the files again as a whole")
