"""The weights of a file's layers, each once: where it is read, which axis is the output, its values and its zeros.

Float weights are read as they are stored, quantized ones by their codes: a code that equals its zero point stands for zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto

from mlflow_aifsm.capture.codes import points, spread, stored
from mlflow_aifsm.capture.layer_names import WEIGHT as SUFFIX
from mlflow_aifsm.capture.layer_names import module_path
from mlflow_aifsm.capture.moves import Moves, traced
from mlflow_aifsm.capture.onnx_graph import OnnxFile, Scope, integer, node_name, opened
from mlflow_aifsm.capture.orientation import Orientation
from mlflow_aifsm.capture.quantizer import WEIGHT, Quantizer, label
from mlflow_aifsm.capture.quantizers import read
from mlflow_aifsm.errors import InputError

Array = npt.NDArray[Any]

INPUTS: dict[str, tuple[int, ...]] = dict.fromkeys(
    ("Conv", "FusedConv", "ConvTranspose", "ConvInteger", "DynamicQuantizeMatMul", "QAttention", "MatMulNBits"), (1,)
)
INPUTS |= dict.fromkeys(("Gemm", "FusedGemm", "MatMul", "FusedMatMul", "MatMulInteger", "MatMulIntegerToFloat"), (0, 1))
INPUTS |= dict.fromkeys(("QGemm", "QLinearMatMul"), (0, 3)) | {"QLinearConv": (3,)}
INPUTS |= dict.fromkeys(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"), (1, 2))
"""Operators that multiply weights with data, and which of their inputs may be one; a product takes it on either side."""

CONVOLUTIONS = frozenset({"Conv", "FusedConv", "ConvTranspose", "ConvInteger", "QLinearConv"})

OUTPUTS_FIRST = frozenset({"MatMulNBits", "LSTM", "GRU", "RNN"})
"""Operators whose matrices have a row for each output whatever their attributes say."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeight:
    """One weight of a file.

    Attributes:
        tensor: Name of the stored tensor.
        nodes: The nodes that multiply it with data; several share it.
        module: Path of the module it was exported from; empty where the file does not tell.
        orientation: Which axis is the output.
        outputs: Output channels: rows of the matrix that patterns divide.
        shape: Shape in which it is stored.
        held: The stored tensor.
        moves: What happens to it before the layer reads it.
        quantizer: The quantizer that made its codes; None for a float weight.
    """

    tensor: str
    nodes: tuple[NodeProto, ...]
    module: str
    orientation: Orientation
    outputs: int
    shape: tuple[int, ...]
    held: TensorProto
    moves: Moves
    quantizer: Quantizer | None = None

    @property
    def layer(self) -> str:
        """Name of the first node that multiplies it with data."""
        return node_name(self.nodes[0])

    @property
    def op(self) -> str:
        """Operator of that node."""
        return self.nodes[0].op_type

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of further nodes that read it."""
        return tuple(node_name(node) for node in self.nodes[1:])

    @property
    def label(self) -> str:
        """Name of the tensor in the float file: without what quantizers add to names."""
        return label(self.tensor) if self.quantizer else self.tensor

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def values(self, file: OnnxFile) -> Array:
        """The weight ``[out, in/groups, …]``, float; of codes the values they stand for.

        Raises:
            InputError: If external data is missing or too short.
        """
        row = self.quantizer
        if row is None:
            return self.out_first(file.array(self.held))
        codes = stored(file, row)
        scale = spread(np.asarray(row.scale, np.float32), row, codes.shape)
        return self.out_first((codes.astype(np.float32) - points(row, codes.shape).astype(np.float32)) * scale)

    def zero(self, file: OnnxFile) -> npt.NDArray[np.bool_]:
        """Whether each element is zero, ``[out, in/groups, …]``.

        Raises:
            InputError: If external data is missing or too short.
        """
        row = self.quantizer
        if row is None:
            return self.out_first(file.array(self.held) == 0)
        codes = stored(file, row)
        return self.out_first(codes == points(row, codes.shape))

    def out_first(self, stored: Array) -> Array:
        """Elements in the order of the stored tensor as ``[out, in/groups, …]``."""
        return self.orientation.out_first(_matrix(self.op, self.moves.applied(stored)))

    def stored(self, out_first: Array) -> Array:
        """The inverse of ``out_first``: elements ``[out, in/groups, …]`` in the stored shape."""
        places = self.out_first(np.arange(self.size).reshape(self.shape))
        found = np.empty(self.size, out_first.dtype)
        found[places.ravel()] = out_first.ravel()
        return found.reshape(self.shape)


def layer_weights(source: Path | OnnxFile, quantizers: tuple[Quantizer, ...] | None = None) -> tuple[LayerWeight, ...]:
    """Each weight that a layer of the file multiplies with data, float or quantized, in the order of its nodes.

    A weight that several layers share is told once, with the names of all.

    Args:
        source: The file.
        quantizers: Its quantizers, if they were read already.

    Raises:
        InputError: If the file or its external data cannot be read.
    """
    file = opened(source)
    rows = read(file) if quantizers is None else quantizers
    coded = {row.tensor: row for row in reversed(rows) if row.kind == WEIGHT}
    others = {row.tensor for row in rows} - coded.keys()
    found: dict[tuple[int, str], LayerWeight] = {}
    for weight in _all(file, coded):
        place = (id(weight.moves.scope.owner(weight.tensor)), weight.tensor)
        found[place] = replace(found[place], nodes=(*found[place].nodes, *weight.nodes)) if place in found else weight
    return tuple(weight for weight in found.values() if weight.tensor not in others)


def _all(file: OnnxFile, coded: Mapping[str, Quantizer]) -> Iterator[LayerWeight]:
    for scope in file.scopes:
        for node in scope.nodes:
            for index in INPUTS.get(node.op_type, ()):
                if index < len(node.input):
                    yield from _read_at(file, scope, node, index, coded)


def _read_at(
    file: OnnxFile, scope: Scope, node: NodeProto, index: int, coded: Mapping[str, Quantizer]
) -> Iterator[LayerWeight]:
    moves = traced(file, scope, node.input[index])
    held = scope.initializer(moves.origin)
    if held is None:
        return
    name, row = moves.origin, coded.get(moves.origin)
    shape = (integer(node, "N", 0), integer(node, "K", 0)) if node.op_type == "MatMulNBits" else tuple(held.dims)
    stem = label(name) if row else name
    module = stem.removesuffix(SUFFIX) if stem.endswith(SUFFIX) else module_path(scope, node)
    # a view of a single zero, for the shape in which the layer reads it
    seen = moves.applied(np.broadcast_to(np.int8(0), shape))
    if not _fits(node, seen.shape):
        got = f"shape {list(seen.shape)} at {node.op_type} {node_name(node)}"
        raise InputError(f"weight {name} of {file.path.name} is damaged", got=got, remedy="export it again")
    orientation, matrix = _orientation(node, index, seen.shape), _matrix(node.op_type, seen)
    outputs = orientation.groups * matrix.shape[1] if orientation.transposed else len(matrix)
    yield LayerWeight(name, (node,), module, orientation, outputs, shape, held, moves, quantizer=row)


def _fits(node: NodeProto, shape: tuple[int, ...]) -> bool:
    """Whether a weight has the axes that its layer needs."""
    groups = integer(node, "group", 1) if node.op_type == "ConvTranspose" else 1
    return len(shape) > (1 if node.op_type in CONVOLUTIONS else 0) and groups > 0 and shape[0] % groups == 0


def _orientation(node: NodeProto, index: int, shape: tuple[int, ...]) -> Orientation:
    if node.op_type in CONVOLUTIONS:
        turned = node.op_type == "ConvTranspose"
        return Orientation(transposed=True, groups=integer(node, "group", 1)) if turned else Orientation()
    if node.op_type in OUTPUTS_FIRST:
        return Orientation()
    if index == 0:
        turned = bool(integer(node, "transA", 0)) or len(shape) == 1
        return Orientation(transposed=turned, groups=math.prod(shape[:-2]))
    return Orientation(transposed=not integer(node, "transB", 0), groups=math.prod(shape[:-2]))


def _matrix(op: str, read: Array) -> Array:
    """A weight of a convolution as it is; of others the matrices that are stacked one below the other."""
    if op in CONVOLUTIONS:
        return read
    return read.reshape(-1, read.shape[-1]) if read.ndim > 1 else read.reshape(-1, 1)
