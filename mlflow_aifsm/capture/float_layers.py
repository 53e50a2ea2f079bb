"""Which layers of a file compute in floating point, because their data, their weights or both are not quantized."""

from __future__ import annotations

from onnx import NodeProto

from mlflow_aifsm.capture.fake_quantize import is_fake_quantize
from mlflow_aifsm.capture.onnx_graph import OnnxFile, Scope, node_name
from mlflow_aifsm.capture.quantizer import Quantizer
from mlflow_aifsm.capture.quantizers import INTEGER_WEIGHTS
from mlflow_aifsm.facts import Fact, measured, not_applicable

FLOAT_LAYERS = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "FusedConv", "FusedGemm", "FusedMatMul"}
)
"""Operators that multiply weights with data, and take quantized operands through DequantizeLinear."""

INTEGER_LAYERS = frozenset({"QLinearConv", "QLinearMatMul", "QGemm", *INTEGER_WEIGHTS})
"""Operators that multiply weights with data as integers."""

WEIGHT_ONLY_LAYERS = frozenset({"MatMulNBits"})
"""Operators with quantized weights and float data."""


def float_layers(file: OnnxFile, rows: tuple[Quantizer, ...]) -> list[Fact]:
    """``quantizers.float_layers`` and ``recovery.partial`` (arXiv 2004.09602 section 5.1): layers left in floating point.

    ``data`` lists the nodes whose data and weights are both float.
    """
    if not rows:
        reason = f"no quantizer among {len(file.nodes)} nodes"
        facts = ("quantizers.float_layers", "recovery.partial")
        return [not_applicable(name, reason, [], source=file.source) for name in facts]
    by_state = _by_state(file)
    left, partial = by_state["none"], by_state["partial"]
    total = sum(len(found) for found in by_state.values())
    text = f"{len(left)} of {total} layers in float{_listed(left)}"
    text += f"; only weights or only data quantized in {len(partial)}{_listed(partial)}" if partial else ""
    names, short = [node_name(node) for node in left], f"{len(left)} of {total}"
    fact = measured("quantizers.float_layers", text, names, source=file.source, short=short if left else "none")
    if not left:
        reason = f"no layer is kept in higher precision: {text}"
        return [fact, not_applicable("recovery.partial", reason, [], source=file.source)]
    return [fact, measured("recovery.partial", f"Partial quantization: {text}", names, source=file.source, short=short)]


def integer_layers(file: OnnxFile) -> list[str]:
    """Names of the layers of ``file`` whose data and weights are both quantized."""
    return [node_name(node) for node in _by_state(file)["full"]]


def _by_state(file: OnnxFile) -> dict[str, list[NodeProto]]:
    found: dict[str, list[NodeProto]] = {"full": [], "partial": [], "none": []}
    for scope in file.scopes:
        for node in scope.nodes:
            if state := _state(scope, node):
                found[state].append(node)
    return found


def _listed(nodes: list[NodeProto], most: int = 10) -> str:
    names = [f"{node_name(node)} ({node.op_type})" for node in nodes]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f": {', '.join(names[:most])}{more}" if names else ""


def _state(scope: Scope, node: NodeProto) -> str:
    if node.op_type in INTEGER_LAYERS:
        return "full"
    if node.op_type in WEIGHT_ONLY_LAYERS:
        return "partial"
    if node.op_type not in FLOAT_LAYERS:
        return ""
    if len(node.input) > 1 and scope.initializer(scope.origin(node.input[1])) is not None:
        return "none"  # a float weight is multiplied in float, whatever the data were before
    quantized = [_dequantized(scope, name) for name in node.input[:2]]
    return "full" if all(quantized) else "partial" if any(quantized) else "none"


def _dequantized(scope: Scope, name: str) -> bool:
    made_by = scope.producer(scope.origin(name))
    return made_by is not None and (made_by.op_type == "DequantizeLinear" or is_fake_quantize(made_by))
