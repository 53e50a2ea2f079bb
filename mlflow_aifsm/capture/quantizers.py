"""Reads every quantizer of an ONNX file.

Known are QuantizeLinear and DequantizeLinear, the operators that compute on codes (QLinear…, …Integer), DynamicQuantizeLinear,
MatMulNBits, and OpenVINO's FakeQuantize. Constants come one tensor at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto

from mlflow_aifsm.capture import fake_quantize
from mlflow_aifsm.capture.codes import BYTE, PACKED, axis_of_scales, counted, encoded, unpacked, unpacked_matrix
from mlflow_aifsm.capture.onnx_graph import MEANINGLESS, OnnxFile, Scope, integer, node_name, opened
from mlflow_aifsm.capture.onnx_tensors import type_name
from mlflow_aifsm.capture.quantizer import ACTIVATION, BIAS, CONSTANT, WEIGHT, Quantizer

Array = npt.NDArray[Any]

OUTPUT_SCALE = {"QLinearConv": 6, "QLinearMatMul": 6, "QGemm": 7, "QLinearAdd": 6, "QLinearMul": 6, "QLinearConcat": 0}
OUTPUT_SCALE |= dict.fromkeys(("QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearSigmoid", "QLinearLeakyRelu"), 3)
OUTPUT_SCALE |= dict.fromkeys(("QLinearSoftmax", "QLinearReduceMean"), 3)
"""Operators whose outputs are codes, and which of their inputs is the scale of these; the zero point follows it."""

OPERANDS = dict.fromkeys(("QLinearConv", "QLinearMatMul", "QGemm", "QLinearAdd", "QLinearMul"), (0, 3))
"""Operators whose inputs are codes, and where codes, scale and zero point of each operand begin."""

BIASES = {"QLinearConv": 8, "QGemm": 6}
"""Operators with an int32 bias, and which input it is; its scale is that of the data times that of the weight."""

INTEGER_WEIGHTS: dict[str, tuple[tuple[int, int | None, int], ...]] = {
    "ConvInteger": ((1, None, 3),),
    "MatMulInteger": ((1, None, 3),),
}
INTEGER_WEIGHTS |= {"DynamicQuantizeMatMul": ((1, 2, 3),), "MatMulIntegerToFloat": ((1, 3, 5),), "QAttention": ((1, 4, 7),)}
INTEGER_WEIGHTS |= {"DynamicQuantizeLSTM": ((1, 8, 9), (2, 10, 11))}
"""Operators with quantized weights: which inputs are codes, scale (None: in a multiplication behind) and zero point."""

BY_ELEMENT = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Where", "Max", "Min", "Concat", "QLinearAdd", "QLinearMul"})
LOOK_UP = "Gather"
BY_ELEMENT |= {LOOK_UP, "LayerNormalization", "InstanceNormalization", "BatchNormalization", "GroupNormalization", "PRelu"}
"""Operators whose stored operands are no weights of a layer: a bias of its own, a factor, positions, an embedding."""

DYNAMIC = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"})
"""Operators that set the range of their data at run time."""

BITS = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2, "int16": 16, "uint16": 16, "int32": 32, "uint32": 32}
"""Bits of a code by type; a byte for all others. NumPy has no type below a byte."""


@dataclass(frozen=True, slots=True, eq=False)
class _Site:
    """A place where codes meet a scale: names of codes, scale and zero point; whether the codes are rows of a table."""

    file: OnnxFile
    scope: Scope
    node: NodeProto
    tensor: str
    scale: str
    zero: str
    looked_up: bool = False

    @property
    def stored(self) -> TensorProto | None:
        return self.scope.initializer(self.tensor)

    def values(self, name: str) -> Array:
        held = self.scope.initializer(name) if name else None
        return self.file.array(held) if held is not None else np.empty(0)


def read(source: Path | OnnxFile) -> tuple[Quantizer, ...]:
    """Every quantizer of the file, in the order of its nodes; a quantizer that several nodes read is one row.

    Raises:
        InputError: If the file or its external data cannot be read.
    """
    file = opened(source)
    found: dict[tuple[object, ...], Quantizer] = {}
    for scope in file.scopes:
        for node in scope.nodes:
            for row, names in _of_node(file, scope, node):
                found.setdefault((id(scope), *names), row)
    return tuple(found.values())


def _of_node(file: OnnxFile, scope: Scope, node: NodeProto) -> Iterator[tuple[Quantizer, tuple[str, ...]]]:
    if node.op_type in DYNAMIC:
        layer = _layer(scope, node, node.output[0])
        yield Quantizer(node.input[0], ACTIVATION, *layer, "uint8", 8), (node.input[0], "dynamic")
    if fake_quantize.is_fake_quantize(node):
        name, op = _layer(scope, node, node.output[0])
        kind = _stored_kind("", op) if scope.initializer(node.input[0]) is not None else ACTIVATION
        yield fake_quantize.row(file, scope, node, kind, (name, op)), tuple(node.input[:3])
    if node.op_type == PACKED:
        yield _nbits(_Site(file, scope, node, node.input[1], _at(node, 2), _at(node, 3))), (node.input[1],)
    for site in _sites(file, scope, node):
        yield _row(site), (site.tensor, site.scale, site.zero)
    bias = _at(node, BIASES[node.op_type]) if node.op_type in BIASES else ""
    if scope.initializer(bias) is not None:
        yield _bias(_Site(file, scope, node, bias, _at(node, 1), _at(node, 4))), (bias,)


def _sites(file: OnnxFile, scope: Scope, node: NodeProto) -> Iterator[_Site]:
    """Stored operands where they are read, computed ones where they are made, so that a pair of nodes is told once."""
    if node.op_type == "QuantizeLinear" or (node.op_type == "DequantizeLinear" and not _made_here(scope, node.input[0])):
        tensor, looked_up = _looked_up(scope, node.input[0])
        yield _Site(file, scope, node, tensor, _at(node, 1), _at(node, 2), looked_up)
    for start in OPERANDS.get(node.op_type, ()):
        if scope.initializer(node.input[start]) is not None:
            yield _Site(file, scope, node, node.input[start], _at(node, start + 1), _at(node, start + 2))
    if node.op_type in OUTPUT_SCALE:
        start = OUTPUT_SCALE[node.op_type]
        yield _Site(file, scope, node, node.output[0], _at(node, start), _at(node, start + 1))
    for codes, scale, zero in INTEGER_WEIGHTS.get(node.op_type, ()):
        name = _scale_behind(scope, node) if scale is None else _at(node, scale)
        if scope.initializer(node.input[codes]) is not None:
            yield _Site(file, scope, node, node.input[codes], name, _at(node, zero))


def _made_here(scope: Scope, name: str) -> bool:
    made_by = scope.producer(scope.origin(name))
    return made_by is not None and made_by.op_type in ("QuantizeLinear", *OUTPUT_SCALE)


def _looked_up(scope: Scope, name: str) -> tuple[str, bool]:
    """The stored table that ``name`` is rows of, as of an embedding, or a copy of, and whether it is rows; else ``name``."""
    made_by = scope.producer(scope.origin(name))
    rows = made_by is not None and made_by.op_type == LOOK_UP
    table = made_by.input[0] if made_by is not None and rows else scope.origin(name)
    return (table, rows) if scope.initializer(table) is not None else (name, False)


def _scale_behind(scope: Scope, node: NodeProto) -> str:
    """ORT writes result·(scale of data · scale of weight) behind the operator; the stored factor is the weight's."""
    for cast in scope.used_by(node.output[0]):
        for scaled in scope.used_by(cast.output[0]):
            makers = [maker for name in scaled.input if (maker := scope.producer(name)) is not None and maker.op_type == "Mul"]
            stored = [name for maker in makers for name in maker.input if scope.initializer(name) is not None]
            if stored:
                return str(stored[0])
    return ""


def _row(site: _Site) -> Quantizer:
    scales, zeros, stored = site.values(site.scale), site.values(site.zero), site.stored
    dtype = _dtype(site)
    own = site.node.op_type not in ("QuantizeLinear", "DequantizeLinear")
    layer, op = (node_name(site.node), site.node.op_type) if own else _layer(site.scope, site.node, site.node.output[0])
    kind = _stored_kind(dtype, LOOK_UP if site.looked_up else op) if stored is not None else ACTIVATION
    row = Quantizer(
        site.tensor,
        kind,
        layer,
        op,
        dtype,
        BITS.get(dtype, BYTE),
        axis=_axis(site.node, scales, stored),
        block_size=integer(site.node, "block_size", 0),
        scale=tuple(np.ravel(scales).astype(float).tolist()),
        zero_point=tuple(np.ravel(zeros).astype(int).tolist()) if zeros.size else (0,),
        size=int(np.prod(stored.dims)) if stored is not None else 0,
    )
    if stored is None or kind != WEIGHT or row.dtype.startswith("float"):
        return row
    return counted(row, encoded(row, site.file.array(stored)))


def _stored_kind(dtype: str, op: str) -> str:
    return BIAS if dtype == "int32" else CONSTANT if op in BY_ELEMENT else WEIGHT


def _dtype(site: _Site) -> str:
    """Type of the codes: that of the zero point, else of stored codes, else ``output_dtype``, else ONNX's default uint8."""
    zero = site.scope.initializer(site.zero) if site.zero else None
    stored = site.stored if site.node.op_type != "QuantizeLinear" else None
    held = zero if zero is not None else stored
    return type_name(held.data_type if held is not None else integer(site.node, "output_dtype", 0) or TensorProto.UINT8)


def _axis(node: NodeProto, scales: Array, stored: TensorProto | None) -> int | None:
    shape = tuple(stored.dims) if stored is not None else ()
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        axis = integer(node, "axis", 1)
        axis += len(shape) if axis < 0 else 0
    else:
        axis = 0 if "Conv" in node.op_type or integer(node, "transB", 0) else max(len(shape) - 1, 0)
    return axis_of_scales(node, axis, scales, shape) if stored is not None else axis if scales.size > 1 else None


def _layer(scope: Scope, node: NodeProto, name: str) -> tuple[str, str]:
    """Name and operator of the first node that computes with tensor ``name``; the quantizer itself if none does."""
    passed = (*MEANINGLESS, "QuantizeLinear", "DequantizeLinear")
    for user in scope.used_by(name):
        return _layer(scope, user, user.output[0]) if user.op_type in passed else (node_name(user), user.op_type)
    return node_name(node), node.op_type


def _bias(site: _Site) -> Quantizer:
    scales = tuple(float(value) for value in np.ravel(np.multiply(site.values(site.scale), site.values(site.zero))))
    axis, size = (0 if len(scales) > 1 else None), int(np.prod(site.stored.dims)) if site.stored is not None else 0
    return Quantizer(site.tensor, BIAS, node_name(site.node), site.node.op_type, "int32", 32, axis, 0, scales, (0,), size=size)


def _nbits(site: _Site) -> Quantizer:
    """MatMulNBits without zero point means the middle; its codes are told as the signed ones they stand for then.

    NNCF 3.4 writes a byte for each zero point, where the operator packs these like codes.
    """
    bits, block = integer(site.node, "bits", 4), integer(site.node, "block_size", 0)
    rows, width = integer(site.node, "N", 0), integer(site.node, "K", 0)
    middle, scales, zeros = 1 << (bits - 1), site.values(site.scale), site.values(site.zero)
    blocks = -(-width // block)
    packed = zeros.dtype == np.uint8 and zeros.size != rows * blocks
    if zeros.dtype == np.uint8 and not packed:
        zeros = zeros & (1 << bits) - 1  # one zero point a byte, and what pads it may hold anything
    points = (unpacked(zeros, bits) if packed else zeros).reshape(rows, -1)[:, :blocks]
    offset = middle if not zeros.size or (points == middle).all() else 0
    zero = (0,) if offset else tuple(np.ravel(points).astype(int).tolist())
    row = Quantizer(
        site.tensor, WEIGHT, node_name(site.node), site.node.op_type, f"{'' if offset else 'u'}int{bits}", bits,
        1, block, tuple(np.ravel(scales).astype(float).tolist()), zero, size=rows * width,
    )  # fmt: skip
    return counted(row, unpacked_matrix(site.node, site.file.array(site.stored)) - offset) if site.stored is not None else row


def _at(node: NodeProto, index: int) -> str:
    return node.input[index] if index < len(node.input) else ""
