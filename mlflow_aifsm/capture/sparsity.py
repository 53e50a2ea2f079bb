"""Zeros among the weights of a delivered file, by tensor.

A code that equals its zero point stands for zero. Rounding makes zeros too, as many as the codes beside zero
occur. Zeros beyond that come from pruning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlflow_aifsm.capture.float_layers import FLOAT_LAYERS
from mlflow_aifsm.capture.onnx_graph import OnnxFile, node_name, opened
from mlflow_aifsm.capture.quantizer import WEIGHT, Quantizer
from mlflow_aifsm.capture.quantizers import read
from mlflow_aifsm.facts import Fact, Finding, Json, measured, not_applicable, not_recorded

NOTABLE = 0.05
"""Share of zeros in a layer from which on they call for an explanation."""

ROUNDING = 2
"""Zeros come from rounding as long as they are fewer than this many times the elements one code beside zero."""

ONE_WEIGHT = frozenset({"Conv", "ConvTranspose", "Gemm"})
"""Operators whose second input is a weight; that of MatMul may be data."""


@dataclass(frozen=True, slots=True)
class Zeros:
    """Zeros of one weight: tensor, layer that uses it, number of elements, how many are zero, how many one code beside."""

    tensor: str
    layer: str
    size: int
    zeros: int
    beside: int = 0

    @property
    def ratio(self) -> float:
        """Share of zeros in [0, 1]."""
        return self.zeros / self.size if self.size else 0.0

    @property
    def notable(self) -> bool:
        """Whether the zeros call for an explanation: too many, and more than rounding makes."""
        return self.ratio >= NOTABLE and self.zeros >= ROUNDING * self.beside


def read_zeros(source: Path | OnnxFile, quantizers: tuple[Quantizer, ...] | None = None) -> tuple[Zeros, ...]:
    """Zeros of every weight that a layer multiplies with data, quantized or not.

    Args:
        source: The delivered file.
        quantizers: Its quantizers, if they were read already.

    Raises:
        InputError: If the file or its external data cannot be read.
    """
    file = opened(source)
    rows = read(file) if quantizers is None else quantizers
    coded = [Zeros(row.label, row.layer, row.size, row.zeros, row.beside) for row in rows if row.kind == WEIGHT]
    return (*coded, *_float(file, {row.tensor for row in rows}))


def table(zeros: tuple[Zeros, ...]) -> list[dict[str, Json]]:
    """One row for each weight: tensor, zeros, size, ratio in [0, 1], layer, elements one code beside zero."""
    names = ("tensor", "zeros", "size", "ratio", "layer", "beside")
    return [{name: getattr(row, name) for name in names} for row in zeros]


def facts(
    source: Path | OnnxFile,
    quantizers: tuple[Quantizer, ...] | None = None,
    *,
    pruning_logged: bool = False,
    zeros: tuple[Zeros, ...] | None = None,
    before: tuple[Zeros, ...] = (),
) -> list[Fact]:
    """``zeros.ratio``, and ``pruning.patterns`` as far as zeros alone tell it.

    Args:
        source: The delivered file.
        quantizers: Its quantizers, if they were read already.
        pruning_logged: Whether a pruning step is on record; if not, notable zeros carry a finding ``zeros_without_pruning``.
        zeros: Its zeros, if they were counted already.
        before: Zeros of the float file it was made from: zeros of codes whose float weights are not zero come from rounding, or
            the codes are not those of the weights, which is looked at elsewhere.

    Raises:
        InputError: If the file or its external data cannot be read.
    """
    file = opened(source)
    rows = read_zeros(file, quantizers) if zeros is None else zeros
    total, found = sum(row.size for row in rows), sum(row.zeros for row in rows)
    ratio = found / total if total else 0.0
    share = f" ({ratio:.1%})" if found else ""
    counted = f"{found:,} of {total:,} weights {'is' if found == 1 else 'are'} zero{share}"
    fact = measured("zeros.ratio", counted, ratio, source=file.source, short=f"{ratio:.3f}")
    unpruned = {row.tensor for row in before if row.ratio < NOTABLE}
    return [fact, _pattern(file, rows, counted, unpruned, pruning_logged=pruning_logged)]


def _pattern(file: OnnxFile, rows: tuple[Zeros, ...], counted: str, unpruned: set[str], *, pruning_logged: bool) -> Fact:
    rounded = {row.tensor for row in rows if row.beside and row.tensor in unpruned}
    notable, computed = [row for row in rows if row.notable and row.tensor not in rounded], _computed(file)
    if notable:
        worst = max(notable, key=lambda row: row.ratio)
        return _unexplained(f"{counted}, {worst.ratio:.1%} in {worst.tensor}", pruning_logged=pruning_logged)
    if computed:
        reason = f"the weights of {', '.join(computed)} are computed when the file runs, so their zeros are not in it"
        return not_recorded("pruning.patterns", reason, "remove masks and reparametrizations before the export")
    rounding = ", no more than rounding makes" if any(row.ratio >= NOTABLE for row in rows) else ""
    return not_applicable("pruning.patterns", f"no pruning: {counted}{rounding}", [], source=file.source)


def _unexplained(text: str, *, pruning_logged: bool) -> Fact:
    effect = "somebody removed weights, and the log does not say how"
    finding = Finding("zeros_without_pruning", asked="a pruning step on record", measured=text, effect=effect)
    remedy = "prune with mlflow_aifsm.prune, which records criterion and pattern"
    reason = f"zeros found ({text}), pattern not analysed"
    return not_recorded("pruning.patterns", reason, remedy, () if pruning_logged else (finding,))


def _computed(file: OnnxFile) -> list[str]:
    """Layers whose weight is neither stored nor decoded from stored codes, as behind a mask or a reparametrization."""
    found = []
    for scope in file.scopes:
        for node in (node for node in scope.nodes if node.op_type in ONE_WEIGHT):
            made_by = scope.producer(origin := scope.origin(node.input[1]))
            if made_by is not None and made_by.op_type != "DequantizeLinear" and scope.initializer(origin) is None:
                found.append(node_name(node))
    return found


def _float(file: OnnxFile, coded: set[str]) -> Iterator[Zeros]:
    seen = set(coded)
    for scope in file.scopes:
        for node in (node for node in scope.nodes if node.op_type in FLOAT_LAYERS):
            for name in node.input[:3] if node.op_type in ("LSTM", "GRU", "RNN") else node.input[:2]:
                origin = scope.origin(name)
                held = scope.initializer(origin)
                if held is not None and origin not in seen:
                    seen.add(origin)
                    values = file.array(held)
                    yield Zeros(origin, node_name(node), int(values.size), int(values.size - np.count_nonzero(values)))
