"""Ranges written into a QDQ file that another tool placed quantizers in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from mlflow_aifsm.backends.quantized import saved
from mlflow_aifsm.capture import quantizers
from mlflow_aifsm.capture.quantizer import ACTIVATION, Quantizer


def with_ranges(path: Path, ranges: Mapping[str, tuple[float, float]]) -> tuple[Path, tuple[str, ...]]:
    """A copy of the file with the range of each activation that ``ranges`` names.

    A quantizer keeps its type and whether its zero point is fixed: one that is 0 or the middle code stays, and its scale
    covers the larger end. Quantizers with several scales stay as they are. Scale and zero point must be those of the pair of
    nodes alone.

    Args:
        path: The QDQ file.
        ranges: β and α by name of the float tensor.

    Returns:
        The copy, and the names of the tensors whose range was written.
    """
    model = onnx.load(path)
    rows = {row.tensor: row for row in quantizers.read(path) if row.kind == ACTIVATION and len(row.scale) == 1}
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    written = []
    for node in model.graph.node:
        row = rows.get(node.input[0]) if node.op_type == "QuantizeLinear" else None
        if row is None or row.label not in ranges:
            continue
        scale, zero = _parameters(row, *ranges[row.label])
        for place, value in ((1, scale), (2, zero)):
            if place < len(node.input):
                _put(stored[node.input[place]], value)
        written.append(row.label)
    return saved(model), tuple(dict.fromkeys(written))


def _put(tensor: TensorProto, value: float) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(tensor), value), tensor.name))


def _parameters(row: Quantizer, low: float, high: float) -> tuple[float, int]:
    least, most = row.code_range
    if low == high:
        return row.scale[0], row.zero_point[0]  # all zeros: no step would divide them
    if row.symmetric and not row.one_sided:
        return max(-low, high) / (most - row.zero_point[0]), row.zero_point[0]
    if row.zero_point[0] == least and low == 0:
        return high / (most - least), least
    scale = (high - low) / (most - least)
    return scale, round(least - low / scale)
