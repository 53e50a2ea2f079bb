"""Zeros among the weights of a delivered file, by tensor.

A code that equals its zero point stands for zero. Rounding makes zeros too, as many as the codes beside zero occur. Zeros
beyond that come from pruning; where the float file is at hand, its zeros tell them apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mlflow_aifsm.capture.layer_weights import LayerWeight, layer_weights
from mlflow_aifsm.capture.onnx_graph import OnnxFile, opened
from mlflow_aifsm.capture.quantizer import Quantizer
from mlflow_aifsm.capture.zero_patterns import Mask, pattern_of, without_rounding
from mlflow_aifsm.facts import Fact, Json, measured

NOTABLE = 0.05
"""Share of zeros in a layer from which on they call for an explanation."""

ROUNDING = 2
"""Zeros come from rounding as long as they are fewer than this many times the elements one code beside zero."""


@dataclass(frozen=True, slots=True, eq=False)
class Zeros:
    """Zeros of one weight.

    Attributes:
        tensor: Name of the weight, without what quantizers add to names.
        layer: Name of the node that multiplies it with data.
        size: Number of elements.
        zeros: How many are zero.
        beside: Codes one beside the code for zero: as many zeros come from rounding alone; 0 for float weights.
        module: Path of the module; empty where the file does not tell.
        before: Zeros of the float weight it was made from; None where that is not at hand.
        kept: How many of these are still zero.
        mask: The zeros that pruning can have made, output channels first: of codes those of the float weight that are still
            zero, or, without a float weight, those beyond what rounding makes. None where there are none.
        pattern: The word for the pattern that these hold; empty where there are none.
    """

    tensor: str
    layer: str
    size: int
    zeros: int
    beside: int = 0
    module: str = ""
    before: int | None = None
    kept: int = 0
    mask: Mask | None = None
    pattern: str = ""

    @property
    def ratio(self) -> float:
        """Share of zeros in [0, 1]."""
        return self.zeros / self.size if self.size else 0.0

    @property
    def notable(self) -> bool:
        """Whether the zeros call for an explanation: too many, and more than rounding makes."""
        if self.before is not None and self.beside:
            return self.kept >= NOTABLE * self.size > 0
        return self.ratio >= NOTABLE and self.zeros >= ROUNDING * self.beside

    @property
    def rounded(self) -> int:
        """Zeros that pruning did not make: rounding did."""
        return self.zeros - (0 if self.mask is None else int(np.count_nonzero(self.mask)))

    @property
    def lost(self) -> int:
        """Zeros of the float weight that are zero no more."""
        return (self.before or 0) - self.kept


def read_zeros(
    source: Path | OnnxFile, quantizers: tuple[Quantizer, ...] | None = None, against: Path | OnnxFile | None = None
) -> tuple[Zeros, ...]:
    """Zeros of every weight that a layer multiplies with data, quantized or not, in the order of the nodes.

    Args:
        source: The delivered file.
        quantizers: Its quantizers, if they were read already.
        against: The float file it was made from.

    Raises:
        InputError: If a file or its external data cannot be read.
    """
    file, before = opened(source), None if against is None else opened(against)
    parents = {} if before is None else _by_name(layer_weights(before))
    return tuple(_zeros(file, weight, before, _parent(weight, parents)) for weight in layer_weights(file, quantizers))


def table(zeros: Iterable[Zeros]) -> list[dict[str, Json]]:
    """One row for each weight: tensor, zeros, size, ratio in [0, 1], layer, elements one code beside zero, module, pattern.

    Where the float file was at hand, its zeros follow as ``zeros_before``, and those of them that are still zero as
    ``zeros_kept``.
    """
    names = ("tensor", "zeros", "size", "ratio", "layer", "beside", "module", "pattern")
    rows = list(zeros)
    parent = {"zeros_before": "before", "zeros_kept": "kept"} if any(row.before is not None for row in rows) else {}
    return [
        {name: getattr(row, name) for name in names}
        | {title: None if row.before is None else getattr(row, name) for title, name in parent.items()}
        for row in rows
    ]


def ratio(file: OnnxFile, zeros: tuple[Zeros, ...]) -> Fact:
    """``zeros.ratio``: the share of zeros among all weights of the file's layers."""
    total, found = sum(row.size for row in zeros), sum(row.zeros for row in zeros)
    share = found / total if total else 0.0
    return measured("zeros.ratio", counted(zeros), share, source=file.source, short=f"{share:.3f}")


def counted(zeros: Iterable[Zeros]) -> str:
    """How many weights are zero, in words: ``5 of 100 weights are zero (5.0%)``."""
    rows = list(zeros)
    total, found = sum(row.size for row in rows), sum(row.zeros for row in rows)
    share = f" ({found / total:.1%})" if found else ""
    return f"{found:,} of {total:,} weights {'is' if found == 1 else 'are'} zero{share}"


def _by_name(weights: tuple[LayerWeight, ...]) -> dict[str, LayerWeight]:
    """Weights by tensor, and by layer where a layer has one."""
    layers = Counter(weight.layer for weight in weights)
    alone = {weight.layer: weight for weight in weights if layers[weight.layer] == 1}
    return alone | {weight.tensor: weight for weight in weights}


def _parent(weight: LayerWeight, parents: Mapping[str, LayerWeight]) -> LayerWeight | None:
    found = [parents[name] for name in (weight.label, weight.tensor, weight.layer) if name in parents]
    return next((parent for parent in found if parent.size == weight.size), None)


def _zeros(file: OnnxFile, weight: LayerWeight, before: OnnxFile | None, parent: LayerWeight | None) -> Zeros:
    zero, row = weight.zero(file), weight.quantizer
    total, beside = int(np.count_nonzero(zero)), 0 if row is None else row.beside
    module = weight.module or (parent.module if parent else "")
    made = Zeros(weight.label, weight.layer, weight.size, total, beside, module)
    if before is None or parent is None:
        return _judged(made, without_rounding(zero, ROUNDING * beside)) if total >= ROUNDING * beside else made
    earlier = parent.zero(before).reshape(zero.shape)
    still = earlier & zero
    known = replace(made, before=int(np.count_nonzero(earlier)), kept=int(np.count_nonzero(still)))
    return _judged(known, zero if row is None else still)


def _judged(row: Zeros, mask: Mask) -> Zeros:
    return replace(row, mask=mask, pattern=pattern_of(mask).word) if mask.any() else row
