"""One quantized tensor of a delivered file, and what follows from its codes, scale and zero point.

Notation of Wu et al. 2020 (arXiv 2004.09602): x_q = clip(round(s·x + z)), range [β, α]. The paper's s multiplies; the ``scale``
of ONNX, kept here, divides: s = 1/scale.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from onnx import NodeProto

WEIGHT, ACTIVATION, BIAS, CONSTANT = "weight", "activation", "bias", "constant"

ADDED = re.compile(
    r"^(?:q_output_(?P<nncf>.+?)(?:_\d+)?|(?P<ort>.+?)(?:_quantized|_QuantizeLinear_Input|(?:_DQ)?_Q[248](?:G\d+)?))$"
)
"""What NNCF and ORT's quantizers add to the name of a tensor they quantize, before it or behind."""

FLOAT8 = {"float8e4m3fn": 448, "float8e4m3fnuz": 240, "float8e5m2": 57344, "float8e5m2fnuz": 57344}
"""Largest value of each 8-bit floating-point code."""


def label(tensor: str) -> str:
    """The name ``tensor`` had in the float file: without what quantizers add to names."""
    found = ADDED.match(tensor)
    return (found["nncf"] or found["ort"]) if found else tensor


class Holder(Protocol):
    """What holds quantizers: a file, or a module in memory, which has no nodes."""

    @property
    def source(self) -> str:
        """How facts name it."""

    @property
    def nodes(self) -> tuple[NodeProto, ...]:
        """Its nodes."""


@dataclass(frozen=True, slots=True)
class Quantizer:
    """One quantized tensor.

    Attributes:
        tensor: Name of the tensor; for activations the float tensor that is quantized, where the file has it.
        kind: ``weight``, ``activation``, ``bias``, or ``constant`` for a stored operand of an operator that is no layer.
        layer: Name of the first node that uses it; ``op`` is that node's operator.
        op: Operator of ``layer``.
        dtype: Type of the codes, ``int8`` for instance. MatMulNBits stores unsigned codes; with its middle zero point they are
            told as the signed codes they stand for.
        bits: Bits of a code.
        axis: Axis along which scales differ; None if there is one scale.
        block_size: Weights that share a scale along the reduced axis; 0 if not groupwise.
        scale: ONNX scales, flattened; empty if computed at run time.
        zero_point: Zero points, one for each scale or a single one; empty if computed at run time.
        codes_min: Smallest code a weight uses; None for other kinds.
        codes_max: Largest code a weight uses; None for other kinds.
        size: Number of elements of a weight or bias; 0 for activations.
        zeros: Elements of a weight whose code is the zero point.
        beside: The larger number of elements one code beside the zero point: as many zeros come from rounding alone.
    """

    tensor: str
    kind: str
    layer: str
    op: str
    dtype: str
    bits: int
    axis: int | None = None
    block_size: int = 0
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    codes_min: int | None = None
    codes_max: int | None = None
    size: int = 0
    zeros: int = 0
    beside: int = 0

    @property
    def label(self) -> str:
        """``tensor`` without what quantizers add to names: ``conv1.weight`` for ``conv1.weight_quantized``."""
        return label(self.tensor)

    @property
    def signed(self) -> bool:
        """Whether codes are signed."""
        return not self.dtype.startswith("u")

    @property
    def code_range(self) -> tuple[int, int]:
        """Smallest and largest code of ``dtype``."""
        if self.dtype in FLOAT8:
            return -FLOAT8[self.dtype], FLOAT8[self.dtype]
        low = -(1 << (self.bits - 1)) if self.signed else 0
        return low, low + (1 << self.bits) - 1

    @property
    def dynamic(self) -> bool:
        """Whether scale and zero point are computed at run time."""
        return not self.scale

    @property
    def symmetric(self) -> bool:
        """Whether every zero point is 0, or the middle of unsigned codes (128 for uint8)."""
        middle = 0 if self.signed else 1 << (self.bits - 1)
        return not self.dynamic and (set(self.zero_point) <= {0} or set(self.zero_point) == {middle})

    @property
    def one_sided(self) -> bool:
        """Whether zero is the smallest or largest code of an activation, as after a ReLU: no sign of either scheme."""
        return self.kind == ACTIVATION and not self.dynamic and set(self.zero_point) <= set(self.code_range)

    @property
    def either(self) -> bool:
        """Whether the zero point would be the same under either scheme.

        So it is for unsigned activations that begin at 0, and for a weight of one scale whose codes reach both ends: its range
        has the middle code for zero by chance.
        """
        if self.kind == ACTIVATION:
            return self.one_sided and self.symmetric
        reached = (self.codes_min, self.codes_max) == self.code_range
        return self.kind == WEIGHT and self.symmetric and len(self.scale) == 1 and reached

    @property
    def levels(self) -> int:
        """Codes that can occur: all 2^b, or for symmetric weights 2·m + 1 where the largest code in use is m (narrow range)."""
        magnitude = self.magnitude
        return 1 << self.bits if magnitude is None else 2 * magnitude + 1

    @property
    def magnitude(self) -> int | None:
        """Largest absolute code m of a signed symmetric weight that leaves the lowest code unused, else None."""
        if self.kind != WEIGHT or not self.signed or set(self.zero_point) != {0} or self.codes_min is None:
            return None
        largest = max(-self.codes_min, self.codes_max or 0)
        return largest if 0 < largest <= self.code_range[1] else None

    @property
    def effective_bits(self) -> int:
        """Bits that the codes in use need; fewer than ``bits`` where a quantizer uses half its range."""
        if self.magnitude is not None:
            return 1 + math.ceil(math.log2(self.magnitude))
        if self.codes_min is None or self.codes_max is None:
            return self.bits
        span = max(self.codes_max, *self.zero_point) - min(self.codes_min, *self.zero_point)
        return max(1, math.ceil(math.log2(span + 1)))

    @property
    def formula(self) -> str:
        """The scale factor that applies to this tensor, by the levels it has (arXiv 2004.09602 section 3.1)."""
        if self.dynamic:
            return "s computed at run time"
        if self.dtype in FLOAT8:
            return f"s = {FLOAT8[self.dtype]}/α"
        if self.magnitude is None:
            return "s = (2^b − 1)/(α − β)"
        return "s = (2^(b−1) − 1)/α" if self.magnitude == self.code_range[1] else f"s = {self.magnitude}/max|w|"

    @property
    def granularity(self) -> str:
        """``groupwise``, ``channelwise`` or ``layerwise`` (the template's words)."""
        return "groupwise" if self.block_size else "channelwise" if self.axis is not None else "layerwise"

    @property
    def alpha(self) -> tuple[float, ...]:
        """Largest representable value for each scale, in units of the tensor; some 4-bit formats have negative scales."""
        return tuple(max(ends) for ends in self._ends())

    @property
    def beta(self) -> tuple[float, ...]:
        """Smallest representable value for each scale, in units of the tensor."""
        return tuple(min(ends) for ends in self._ends())

    def _ends(self) -> list[tuple[float, float]]:
        low, high = self.code_range
        points = self.zero_point * (len(self.scale) if len(self.zero_point) == 1 else 1)
        return [((low - point) * scale, (high - point) * scale) for point, scale in zip(points, self.scale, strict=True)]
