"""Activation functions of the float graph that a quantized file no longer computes.

A quantizer may stand for a ReLU, because its range ends at zero: tools drop the node then. If the range reaches below zero all
the same, the function is gone and nothing says so.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from onnx import NodeProto

from mlflow_aifsm.capture.onnx_graph import OnnxFile, Scope, attribute, node_name, opened
from mlflow_aifsm.capture.quantizer import ACTIVATION, Quantizer
from mlflow_aifsm.facts import Fact, Finding, measured, not_applicable, not_recorded

NAME = "quantizers.lost_non_linearities"
CLIPPING = ("Relu", "Clip")
"""Operators that a quantizer's range can stand for."""

STEP = 0.51
"""Part of a quantization step by which rounding the zero point may move the end of a range."""


def lost_non_linearities(file: OnnxFile, against: Path | OnnxFile | None, rows: tuple[Quantizer, ...]) -> Fact:
    """Which ReLU and Clip nodes of ``against`` are neither in ``file`` nor in the range of a quantizer.

    Each carries the finding ``non_linearity_lost``. The rows are the quantizers of ``file``.

    Raises:
        InputError: If ``against`` cannot be read.
    """
    if not rows:
        return not_applicable(NAME, f"no quantizer among {len(file.nodes)} nodes", [], source=file.source)
    if against is None:
        return not_recorded(
            NAME, "not compared with the float model", "name the float file: mlflow-aifsm inspect FILE --against FLOAT"
        )
    return _compared(file, opened(against), rows)


def standing_for(file: OnnxFile, before: OnnxFile) -> dict[str, str]:
    """The tensor behind each ReLU and Clip of ``before`` that ``file`` has no node for, by the tensor before it.

    A quantizer of the tensor before such a node holds the range of the tensor behind it.
    """
    functions = (node for node in before.nodes if node.op_type in CLIPPING)
    return {node.input[0]: node.output[0] for node in functions if not _kept(file, before, node)}


def _compared(file: OnnxFile, before: OnnxFile, rows: tuple[Quantizer, ...]) -> Fact:
    functions = [(scope, node) for scope in before.scopes for node in scope.nodes if node.op_type in CLIPPING]
    ranges = {row.label: row for row in rows if row.kind == ACTIVATION and not row.dynamic}
    missing = [(scope, node) for scope, node in functions if not _kept(file, before, node)]
    lost = [node_name(node) for scope, node in missing if not _held_by_range(before, scope, node, ranges)]
    if lost:
        text = f"{len(lost)} of {len(functions)} activation functions lost: {', '.join(lost)}"
        effect = "the node is gone and its quantizer's range reaches beyond it: the file computes another function"
        finding = Finding(
            "non_linearity_lost", asked=f"all {len(functions)} of {before.path.name}", measured=text, effect=effect
        )
        return measured(NAME, text, lost, source=file.source, short=f"{len(lost)} lost", findings=[finding])
    how = f"{len(functions) - len(missing)} as nodes, {len(missing)} in the range of a quantizer"
    text = f"{len(functions)} of {len(functions)} kept, compared with {before.source}: {how}"
    return measured(NAME, text, [], source=file.source, short="none")


def _kept(file: OnnxFile, before: OnnxFile, node: NodeProto) -> bool:
    """The same node, or as many of its kind as before: then a tool renamed them."""
    same = any(other.op_type == node.op_type and other.name == node.name for other in file.nodes)
    after, earlier = (Counter(other.op_type for other in one.nodes)[node.op_type] for one in (file, before))
    return (same and bool(node.name)) or after >= earlier


def _held_by_range(before: OnnxFile, scope: Scope, node: NodeProto, ranges: dict[str, Quantizer]) -> bool:
    row = ranges.get(node.output[0]) or ranges.get(node.input[0])
    if row is None:
        return False
    low, high = _bounds(before, scope, node)
    slack = STEP * max(row.scale)
    return min(row.beta) >= low - slack and max(row.alpha) <= high + slack


def _bounds(before: OnnxFile, scope: Scope, node: NodeProto) -> tuple[float, float]:
    if node.op_type == "Relu":
        return 0.0, np.inf
    return _bound(before, scope, node, ("min", 1), -np.inf), _bound(before, scope, node, ("max", 2), np.inf)


def _bound(before: OnnxFile, scope: Scope, node: NodeProto, place: tuple[str, int], unbounded: float) -> float:
    """An input since opset 11, an attribute before; a bound that is computed cannot be held by a range."""
    name, index = place
    given = attribute(node, name)
    if given is not None:
        return float(given.f)
    if index >= len(node.input) or not node.input[index]:
        return unbounded
    held = scope.initializer(node.input[index])
    return float(before.array(held).item()) if held is not None else np.nan
