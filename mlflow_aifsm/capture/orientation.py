"""How a layer's weight is stored, and how it is looked at: output channels first, as pruning patterns are defined on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Orientation:
    """The axes of a stored weight.

    Attributes:
        transposed: Whether inputs come first: ``[in, out/groups, …]``, as in a transposed convolution or a MatMul.
        groups: Groups of a transposed convolution, or matrices that are stacked.
    """

    transposed: bool = False
    groups: int = 1

    def out_first(self, stored: Array) -> Array:
        """A stored weight as ``[out, in/groups, …]``."""
        if not self.transposed:
            return stored
        parts = stored.reshape(self.groups, -1, *stored.shape[1:]).swapaxes(1, 2)
        return parts.reshape(-1, *parts.shape[2:])

    def stored(self, out_first: Array) -> Array:
        """The inverse of ``out_first``."""
        if not self.transposed:
            return out_first
        parts = out_first.reshape(self.groups, -1, *out_first.shape[1:]).swapaxes(1, 2)
        return np.ascontiguousarray(parts.reshape(-1, *parts.shape[2:]))
