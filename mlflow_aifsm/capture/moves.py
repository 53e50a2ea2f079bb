"""How a stored tensor is moved before a layer reads it: transposed or reshaped, with its values as they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from mlflow_aifsm.capture.onnx_graph import MEANINGLESS, OnnxFile, Scope, attribute, integer, node_name
from mlflow_aifsm.errors import InputError

Array = npt.NDArray[np.generic]

DECODING = frozenset({"QuantizeLinear", "DequantizeLinear", "FakeQuantize"})
"""Operators that change how a value is written, and not where it stands."""


@dataclass(frozen=True, slots=True, eq=False)
class Moves:
    """The way of a tensor to the node that reads it.

    Attributes:
        file: The file.
        scope: Where names are looked up.
        origin: Name of the tensor as it is stored.
        nodes: The nodes on the way that move elements, first to last.
    """

    file: OnnxFile
    scope: Scope
    origin: str
    nodes: tuple[NodeProto, ...]

    def applied(self, stored: Array) -> Array:
        """A tensor in its stored shape as the layer reads it.

        Raises:
            InputError: If its shape does not fit a node on the way.
        """
        for node in self.nodes:
            try:
                stored = self._moved(node, stored)
            except (ValueError, IndexError) as error:
                got = f"shape {list(stored.shape)} at {node_name(node)}"
                raise InputError(f"weight {self.origin} of {self.file.path.name} is damaged", got=got) from error
        return stored

    def _moved(self, node: NodeProto, array: Array) -> Array:
        if node.op_type == "Transpose":
            order = attribute(node, "perm")
            return array.transpose(None if order is None else list(order.ints))
        if node.op_type == "Flatten":
            return array.reshape(math.prod(array.shape[: integer(node, "axis", 1)]), -1)
        numbers = self._numbers(node)
        if node.op_type == "Reshape":
            keeps = not integer(node, "allowzero", 0)
            return array.reshape([array.shape[at] if keeps and not size else size for at, size in enumerate(numbers)])
        if node.op_type == "Unsqueeze":
            return np.expand_dims(array, numbers)
        return array.squeeze(numbers or None)

    def _numbers(self, node: NodeProto) -> tuple[int, ...]:
        """Shape or axes of ``node``: its second input, or an attribute in older operator sets."""
        held = self.scope.initializer(node.input[1]) if len(node.input) > 1 else None
        if held is not None:
            return tuple(self.file.array(held).ravel().tolist())
        old = attribute(node, "axes") or attribute(node, "shape")
        return tuple(old.ints) if old is not None else ()


def traced(file: OnnxFile, scope: Scope, name: str) -> Moves:
    """The way from what is stored to ``name``; codes count as the values they stand for."""
    found: list[NodeProto] = []
    # a subgraph may give a name of the graph around it to a copy of a copy of it, which would go round for ever
    seen: set[str] = set()
    while name not in seen and (made_by := scope.producer(name)) is not None and made_by.op_type in MEANINGLESS | DECODING:
        seen.add(name)
        if made_by.op_type in MOVING:
            found.append(made_by)
        name = made_by.input[0]
    return Moves(file, scope, name, tuple(reversed(found)))


MOVING = MEANINGLESS - {"Identity", "Cast", "CastLike"}
"""Operators that give elements another place."""
