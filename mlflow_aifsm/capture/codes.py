"""Codes of a weight as integers, whatever way a file stores them, with the scale and zero point of each element."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from mlflow_aifsm.capture.onnx_graph import OnnxFile, attribute, integer
from mlflow_aifsm.capture.quantizer import Quantizer
from mlflow_aifsm.errors import InputError

Array = npt.NDArray[Any]

BYTE = 8

PACKED = "MatMulNBits"
"""The operator that packs unsigned codes, lowest bits first, as [N, blocks, bytes of a block]."""


def axis_of_scales(node: NodeProto, declared: int, scales: Array, shape: tuple[int, ...]) -> int | None:
    """The axis along which ``scales`` differ; None if one scale holds for the whole tensor of this ``shape``.

    One scale for the one channel a weight has is told by the axis the node names. Where the declared axis does not fit,
    shapes decide: NNCF 3.4 names axis 0 for the groups of a Gemm's weight, which lie along axis 1, and the axis of an
    embedding counts from the rank of what was looked up.

    Raises:
        InputError: If there are neither as many scales as channels nor as many as blocks.
    """
    axes: list[int] = [axis for axis in (declared, *range(len(shape))) if 0 <= axis < len(shape)]
    if scales.size <= 1:
        named = scales.size == 1 and attribute(node, "axis") is not None
        return axes[0] if named and axes and shape[axes[0]] == 1 else None
    found = next((axis for axis in axes if _fits(scales, integer(node, "block_size", 0), shape, axis)), None)
    if found is not None:
        return found
    got = f"scales of shape {list(scales.shape)} for a weight of shape {list(shape)}"
    raise InputError(f"quantizer {node.name or node.input[0]} is damaged", got=got, expected="one scale a channel or a block")


def _fits(scales: Array, block: int, shape: tuple[int, ...], axis: int) -> bool:
    blocks = [-(-size // block) if index == axis else size for index, size in enumerate(shape)] if block else []
    return list(scales.shape) == blocks if block else int(scales.size) == shape[axis]


def spread(values: Array, row: Quantizer, shape: tuple[int, ...]) -> Array:
    """Scales or zero points of ``row``, flat or not, in a shape that broadcasts against the tensor's ``shape``."""
    if values.size == 1:
        return values.reshape(())
    axis = row.axis or 0
    if not row.block_size:
        return values.reshape([-1 if index == axis else 1 for index in range(len(shape))])
    blocks = values.reshape([-1 if index == axis else size for index, size in enumerate(shape)])
    return np.take(np.repeat(blocks, row.block_size, axis), range(shape[axis]), axis)


def unpacked(packed: Array, bits: int) -> Array:
    """Unsigned codes of ``bits`` bits, out of bytes that hold several each, lowest bits first; along the last axis."""
    shifts = np.arange(0, BYTE, bits, dtype=np.uint8)
    return ((packed[..., None] >> shifts) & ((1 << bits) - 1)).reshape(*packed.shape[:-1], -1)


def unpacked_matrix(node: NodeProto, held: Array) -> Array:
    """Unsigned codes of a MatMulNBits node, int16 [N, K]."""
    rows, width = integer(node, "N", 0), integer(node, "K", 0)
    return unpacked(held.reshape(rows, -1), integer(node, "bits", 4))[:, :width].astype(np.int16)


def encoded(row: Quantizer, held: Array) -> Array:
    """``held`` as codes of ``row``: as stored, or made of float values behind a QuantizeLinear, clip(round(x/scale) + z)."""
    if held.dtype.kind != "f":
        return held.astype(np.int8 if row.signed else np.uint8) if row.bits < BYTE else held
    low, high = row.code_range
    scales = spread(np.asarray(row.scale, held.dtype), row, held.shape)
    codes: Array = np.clip(np.rint(held / scales) + points(row, held.shape), low, high)
    return codes.astype(np.int32)


def points(row: Quantizer, shape: tuple[int, ...]) -> Array:
    """Zero points of ``row`` as int32, in a shape that broadcasts against the tensor's ``shape``."""
    different = row.zero_point if len(set(row.zero_point)) > 1 else row.zero_point[:1]
    return spread(np.asarray(different, np.int32), row, shape)


def counted(row: Quantizer, codes: Array) -> Quantizer:
    """``row`` with the codes it uses: smallest, largest, how many stand for zero, how many beside it."""
    if not codes.size:
        return row
    middle = points(row, codes.shape)
    near = [int(np.count_nonzero(codes == middle + step)) for step in (0, 1, -1)]
    return replace(row, codes_min=int(codes.min()), codes_max=int(codes.max()), zeros=near[0], beside=max(near[1:]))


def stored(file: OnnxFile, row: Quantizer) -> Array:
    """The codes of weight ``row`` in ``file``: integers in the shape they are stored in, [N, K] where a matrix is packed.

    Raises:
        InputError: If external data is missing or too short.
    """
    for scope in file.scopes:
        held = scope.initializer(row.tensor)
        if held is not None:
            values = file.array(held)
            node = next((user for user in scope.used_by(row.tensor) if user.op_type == PACKED), None)
            if node is None:
                return encoded(row, values)
            return unpacked_matrix(node, values) - (1 << (row.bits - 1) if row.signed else 0)
    return np.empty(0, np.int8)
