"""OpenVINO's FakeQuantize in an ONNX file, as NNCF's quantizers of a PyTorch module are exported: values stay float, on a grid.

It clips to [low, high] and rounds to one of ``levels`` values there (OpenVINO operation set, FakeQuantize-1); a runtime that
knows the operator makes codes of them. The codes are counted as that runtime would make them: from 0 on where the range begins
at 0 or above, else around 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, numpy_helper

from mlflow_aifsm.capture.codes import counted, encoded
from mlflow_aifsm.capture.onnx_graph import OnnxFile, Scope, attribute, integer
from mlflow_aifsm.capture.quantizer import WEIGHT, Quantizer
from mlflow_aifsm.errors import InputError

Array = npt.NDArray[Any]

FAKE_QUANTIZE = "FakeQuantize"
DOMAIN = "org.openvinotoolkit"
OPERANDS = 5
"""Inputs: what is quantized, ends of the range on the way in, and on the way out."""


def is_fake_quantize(node: NodeProto) -> bool:
    """Whether ``node`` is OpenVINO's operator, and no other one of that name."""
    return node.op_type == FAKE_QUANTIZE and node.domain == DOMAIN and len(node.input) == OPERANDS


def row(file: OnnxFile, scope: Scope, node: NodeProto, kind: str, layer: tuple[str, str]) -> Quantizer:
    """The quantizer that ``node`` simulates.

    Args:
        file: The file.
        scope: Where the node stands.
        node: The node.
        kind: What it quantizes.
        layer: Name and operator of the node that computes with it.

    Raises:
        InputError: If its range is computed when the file runs, or is none, or values leave it in another range.
    """
    low, high, *out = (_constant(file, scope, node, index) for index in range(1, OPERANDS))
    levels, name = integer(node, "levels", 0), node.name or node.output[0]
    if any(np.shape(end) != np.shape(left) or not np.allclose(end, left) for end, left in zip((low, high), out, strict=True)):
        # the operator may scale what it quantizes, which no integer quantizer does
        raise InputError(f"quantizer {name}", got="another range on the way out", expected="that of the way in")
    if low.shape != high.shape or levels <= 1 or not (high > low).all():
        raise InputError(f"quantizer {name} is damaged", got=f"{levels} levels", expected="a range with two levels or more")
    signed, bits = bool((low < 0).any()), int(np.ceil(np.log2(levels)))
    scale = (high - low) / (levels - 1)
    zero = (-(levels // 2) if signed else 0) - np.rint(low / scale)
    axis = next((place for place, length in enumerate(low.shape) if length > 1), None)
    dtype, numbers = (
        f"{'' if signed else 'u'}int{bits}",
        (tuple(np.ravel(scale).tolist()), tuple(np.ravel(zero).astype(int).tolist())),
    )
    made = Quantizer(node.input[0], kind, *layer, dtype, bits, axis, 0, *numbers)
    stored = scope.initializer(node.input[0])
    if stored is None or kind != WEIGHT:
        return made
    held = file.array(stored)
    return counted(replace(made, size=held.size), encoded(made, np.clip(held, low, high)))


def _constant(file: OnnxFile, scope: Scope, node: NodeProto, index: int) -> Array:
    name = node.input[index]
    stored, made_by = scope.initializer(name), scope.producer(name)
    if stored is not None:
        return file.array(stored).astype(np.float64)
    held = attribute(made_by, "value") if made_by is not None and made_by.op_type == "Constant" else None
    if held is None:
        raise InputError(f"quantizer {node.name or node.output[0]}", got="a range that is computed", expected="a stored one")
    return numpy_helper.to_array(held.t).astype(np.float64)
