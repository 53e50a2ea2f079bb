"""Whether the codes of each weight are those of the float weight it was made from: clip(round(w/scale) + z), by element.

Scale and range come out of the same file, so that they agree proves nothing. The float weights lie in another file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto

from mlflow_aifsm.capture.codes import points, spread, stored
from mlflow_aifsm.capture.float_layers import FLOAT_LAYERS
from mlflow_aifsm.capture.onnx_graph import OnnxFile, Scope, node_name, opened
from mlflow_aifsm.capture.quantizer import WEIGHT, Quantizer
from mlflow_aifsm.facts import Fact, Finding, Json, measured, not_applicable, not_recorded

Array = npt.NDArray[Any]

NAME = "quantizers.weight_codes"

PIECE = 1 << 16
"""Elements compared at a time: as many as stay in a processor's cache."""

STEPS = 4
"""Floating-point steps by which w/scale may be off: tools divide or multiply by 1/scale, in float32 or float64."""

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)

NAMED = 5
"""Weights with other codes that the text names; the data has all."""

NORMALIZATION = "BatchNormalization"
RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
"""Layers with several weights, which their name alone does not tell apart."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Codes of one weight beside those that its float weight gives.

    Attributes:
        codes: Number of codes.
        different: Codes that are others.
        largest: Largest difference, in codes.
        border: Codes that agree although exact arithmetic gives the neighbour: w/scale lies in the middle between both.
        clipped: Elements whose float weight lies outside the representable range.
    """

    codes: int = 0
    different: int = 0
    largest: int = 0
    border: int = 0
    clipped: int = 0

    def plus(self, other: Agreement) -> Agreement:
        """Both parts of a weight, or both weights, as one."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in ("codes", "different", "border", "clipped")}
        return Agreement(**sums, largest=max(self.largest, other.largest))


def weight_codes(file: OnnxFile, against: Path | OnnxFile | None, rows: tuple[Quantizer, ...]) -> Fact:
    """Codes of every quantized weight of ``file`` beside those its float weight in ``against`` gives, one tensor at a time.

    A code that differs carries the finding ``weight_codes_differ``; a weight without a float weight is named, not left out.
    Weights are found by name, else by the name of the layer that reads them, as stored or transposed. The rows are the
    quantizers of ``file``.

    Raises:
        InputError: If a file or its external data cannot be read.
    """
    weights = [row for row in rows if row.kind == WEIGHT]
    if not weights:
        reason = f"no quantized weight among {len(file.nodes)} nodes"
        return not_applicable(NAME, reason, {}, source=file.source)
    if against is None:
        remedy = "name the float file: mlflow-aifsm inspect FILE --against FLOAT"
        return not_recorded(NAME, "not compared with the float weights", remedy)
    before = opened(against)
    labels = Counter(row.label for row in weights)
    outcomes = {row.label if labels[row.label] == 1 else row.tensor: _compared(file, before, row) for row in weights}
    found = {label: outcome for label, outcome in outcomes.items() if isinstance(outcome, Agreement)}
    return _told(file, before, found, {label: why for label, why in outcomes.items() if isinstance(why, str)})


def _compared(file: OnnxFile, before: OnnxFile, row: Quantizer) -> Agreement | str:
    """How the codes of ``row`` agree with the float weight, or why they cannot be compared."""
    if row.dynamic or row.dtype.startswith("float"):
        return "its scale is computed at run time" if row.dynamic else f"its codes are of type {row.dtype}"
    place = _float_weight(before, row)
    if place is None:
        return f"no float weight of this name or layer and size in {before.path.name}"
    if _folded(file, before, *place):
        return "batch normalization was folded into it after the float file was written"
    if _unfolded(file, row, *place):
        return "the float file has batch normalization folded into it, which stands behind the layer in this one"
    codes, weight = np.atleast_1d(stored(file, row)), before.array(place[1])
    outcomes = []
    for layout in _layouts(weight, codes.shape):
        outcomes.append(agreement(row, codes, layout))
        if not outcomes[-1].different:
            break
    return min(outcomes, key=lambda one: one.different)


def _float_weight(before: OnnxFile, row: Quantizer) -> tuple[Scope, TensorProto] | None:
    candidates = [(scope, row.label) for scope in before.scopes]
    for scope in before.scopes:
        layers = [node for node in scope.nodes if node.op_type in FLOAT_LAYERS - RECURRENT and node_name(node) == row.layer]
        candidates += [(scope, node.input[1]) for node in layers]
    for scope, name in candidates:
        held = scope.initializer(scope.origin(name))
        if held is not None and held.data_type in FLOATS and np.prod(held.dims) == row.size:
            return scope, held
    return None


def _folded(file: OnnxFile, before: OnnxFile, scope: Scope, held: TensorProto) -> bool:
    """Whether a batch normalization behind the layer of ``held`` is no node of ``file`` any more."""
    behind = any(_normalized(scope, layer) for layer in scope.used_by(held.name))
    after, earlier = (Counter(node.op_type for node in one.nodes)[NORMALIZATION] for one in (file, before))
    return behind and after < earlier


def _unfolded(file: OnnxFile, row: Quantizer, scope: Scope, held: TensorProto) -> bool:
    """Whether a batch normalization right behind the layer that ``row`` is of stands behind none of the float weight."""
    layers = [(one, node) for one in file.scopes for node in one.nodes if node_name(node) == row.layer]
    here = any(_normalized(one, node) for one, node in layers)
    return here and not any(_normalized(scope, layer) for layer in scope.used_by(held.name))


def _normalized(scope: Scope, layer: NodeProto) -> bool:
    return any(user.op_type == NORMALIZATION for user in scope.used_by(layer.output[0]))


def _layouts(weight: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """The float weight in the shape of its codes: as it is, transposed as a Gemm or a packed matrix holds it, or reshaped."""
    turned = weight.swapaxes(-1, -2) if weight.ndim > 1 else weight
    same = [layout for layout in (weight, turned) if layout.shape == shape]
    yield from same
    if not same:
        yield weight.reshape(shape)


def agreement(row: Quantizer, codes: Array, weight: Array) -> Agreement:
    """How the integer ``codes`` of ``row`` agree with the float ``weight`` of the same shape.

    A code agrees that lies within half a code of w/scale + z, clipped to the range of codes; STEPS floating-point steps of the
    quotient are allowed for rules of rounding and precision, which differ between tools.
    """
    scales = np.broadcast_to(spread(np.asarray(row.scale), row, codes.shape), codes.shape)
    middles = np.broadcast_to(points(row, codes.shape), codes.shape)
    step = STEPS * float(np.finfo(weight.dtype if weight.dtype == np.float16 else np.float32).eps)
    total, rows = Agreement(), max(1, PIECE * len(codes) // max(codes.size, 1))
    for start in range(0, len(codes), rows):
        part = slice(start, start + rows)
        total = total.plus(_piece(codes[part], weight[part], scales[part], middles[part], (*_ends(row), step)))
    return total


def _piece(codes: Array, weight: Array, scales: Array, middles: Array, limits: tuple[float, float, float]) -> Agreement:
    low, high, step = limits
    exact = np.divide(weight, scales, out=np.zeros(codes.shape), where=scales != 0, dtype=float, casting="unsafe") + middles
    gap = np.abs(codes - np.clip(exact, low, high))
    slack = step * (np.abs(exact) + np.abs(middles) + 1)
    same = gap <= 0.5 + slack
    border = np.count_nonzero(same & (codes != np.rint(np.clip(exact, low, high))))
    clipped = np.count_nonzero((exact < low - 0.5 - slack) | (exact > high + 0.5 + slack))
    largest = 0 if same.all() else int(np.ceil(np.nan_to_num(gap[~same]).max() - 0.5))
    return Agreement(codes.size, int(np.count_nonzero(~same)), largest, int(border), int(clipped))


def _ends(row: Quantizer) -> tuple[int, int]:
    """The tightest of the full, narrow and half ranges that quantizers clip to which holds all codes in use."""
    low, high = row.code_range
    if not row.signed or set(row.zero_point) != {0} or row.codes_min is None or row.codes_max is None:
        return low, high
    for end in ((high + 1) // 2, high):
        if -end <= row.codes_min and row.codes_max <= end:
            return -end, end
    return low, high


def _told(file: OnnxFile, before: OnnxFile, found: dict[str, Agreement], missing: dict[str, str]) -> Fact:
    total = len(found) + len(missing)
    named = "; ".join(f"{label} ({reason})" for label, reason in missing.items())
    if not found:
        return not_recorded(NAME, f"none of {total} weights could be compared: {named}", "name the float file it was made from")
    whole = Agreement()
    for one in found.values():
        whole = whole.plus(one)
    wrong = sorted((label for label in found if found[label].different), key=lambda label: -found[label].different)
    text = _summary(whole, wrong, f"{len(found)} of {total} weights", before.source, found)
    text += f"; not compared: {named}" if missing else ""
    data: dict[str, Json] = {**asdict(whole), "weights": total, "compared": len(found), "not_compared": missing}
    data["by_weight"] = {label: asdict(found[label]) for label in wrong}
    short = f"{whole.different} differ" if wrong else "agree" if not missing else f"{len(found)} of {total} agree"
    effect = "the codes are not the float weights rounded to these scales: rounding was learned, weights or codes were changed"
    asked = f"the codes of the float weights in {before.path.name}"
    findings = [Finding("weight_codes_differ", asked=asked, measured=text, effect=effect)] if wrong else []
    return measured(NAME, text, data, source=file.source, short=short, findings=findings)


def _summary(whole: Agreement, wrong: list[str], compared: str, source: str, found: dict[str, Agreement]) -> str:
    text = f"{compared}: all {whole.codes:,} codes are those of the float weights in {source}"
    if wrong:
        most = [f"{label} ({_extent(found[label])})" for label in wrong[:NAMED]]
        text = f"{compared}: {whole.different:,} of {whole.codes:,} codes differ from those of the float weights in {source}: "
        text += ", ".join(most) + (f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else "")
    if whole.border:
        lies = "1 lies" if whole.border == 1 else f"{whole.border:,} lie"
        text += f"; {lies} on the border of two codes within floating-point rounding, where either is right"
    if whole.clipped:
        text += f"; float weights beyond the range, clipped to its ends: {whole.clipped:,}"
    return text


def _extent(one: Agreement) -> str:
    return f"{one.different:,} of {one.codes:,}, largest by {one.largest} code{'' if one.largest == 1 else 's'}"
