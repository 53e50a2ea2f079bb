"""A QDQ graph with its constants at hand: biases that can be changed, and parts that can be run alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mlflow_aifsm.sources import Array

BIAS = 2
"""Place of the bias among the inputs of a layer."""


class QdqGraph:
    """A quantized model in memory.

    Args:
        model: The model; biases are changed in it.
    """

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.nodes = list(model.graph.node)
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._makers = {name: node for node in self.nodes for name in node.output}
        self._place = {id(node): place for place, node in enumerate(self.nodes)}

    def is_quantized(self, node: NodeProto) -> bool:
        """Whether data and weight of a layer come from codes."""
        return all(self._dequantizer(name) is not None for name in node.input[:2])

    def bias(self, node: NodeProto) -> TensorProto | None:
        """The stored bias of a layer: integer codes behind a DequantizeLinear, or floats; None if there is none."""
        name = node.input[BIAS] if len(node.input) > BIAS else ""
        dequantizer = self._dequantizer(name)
        return self._stored.get(dequantizer.input[0] if dequantizer is not None else name)

    def add_to_bias(self, node: NodeProto, change: Array) -> None:
        """Adds ``change`` (one value an output channel, in output units) to the bias, in its own codes."""
        tensor, dequantizer = self.bias(node), self._dequantizer(node.input[BIAS])
        if tensor is None:
            return
        before = numpy_helper.to_array(tensor)
        if dequantizer is None:
            after = before + change.astype(before.dtype)
        else:
            steps = np.rint(change / numpy_helper.to_array(self._stored[dequantizer.input[1]]).astype(np.float64))
            limits = np.iinfo(before.dtype)
            after = np.clip(before.astype(np.int64) + steps, limits.min, limits.max).astype(before.dtype)
        tensor.CopyFrom(numpy_helper.from_array(after, tensor.name))

    def cut_before(self, node: NodeProto, behind: str = "") -> str:
        """The last tensor of codes before ``node`` that all later nodes get their data from; empty if there is none.

        Args:
            node: The node.
            behind: A cut that the new one must lie behind.
        """
        least = self._place[id(self._makers[behind])] if behind else -1
        cuts = [place for place in self._cuts() if least < place < self._place[id(node)]]
        return str(self.nodes[cuts[-1]].output[0]) if cuts else ""

    def part(self, tensor: str, start: str = "") -> bytes:
        """The model that computes ``tensor`` from its inputs, or from the codes of the tensor ``start``, serialized."""
        needed, wanted = set(), [tensor]
        while wanted:
            name = wanted.pop()
            maker = None if name == start else self._makers.get(name)
            if maker is not None and id(maker) not in needed:
                needed.add(id(maker))
                wanted += maker.input
        part = ModelProto(ir_version=self.model.ir_version, opset_import=self.model.opset_import)
        part.graph.name = self.model.graph.name
        part.graph.node.extend(node for node in self.nodes if id(node) in needed)
        used = {name for node in part.graph.node for name in node.input}
        part.graph.input.extend(value for value in self.model.graph.input if value.name in used)
        if start:
            part.graph.input.append(helper.make_tensor_value_info(start, self._code_type(start), None))
        part.graph.initializer.extend(stored for name, stored in self._stored.items() if name in used)
        part.graph.output.append(onnx.ValueInfoProto(name=tensor))
        return bytes(part.SerializeToString())

    def _dequantizer(self, name: str) -> NodeProto | None:
        maker = self._makers.get(name)
        return maker if maker is not None and maker.op_type == "DequantizeLinear" else None

    def _code_type(self, name: str) -> int:
        quantizer = self._makers[name]
        zero = self._stored.get(quantizer.input[2]) if len(quantizer.input) > 2 else None  # noqa: PLR2004
        return int(zero.data_type) if zero is not None else int(TensorProto.UINT8)

    def _cuts(self) -> list[int]:
        """Places of quantizers whose codes are the only data that nodes behind them read from before."""
        last = self._last_reads()
        alive: set[str] = {value.name for value in self.model.graph.input}
        cuts = []
        for place, node in enumerate(self.nodes):
            if alive & set(node.input):
                alive |= set(node.output)
            alive -= {name for name in alive if last.get(name, -1) <= place}
            if node.op_type == "QuantizeLinear" and alive == {node.output[0]}:
                cuts.append(place)
        return cuts

    def _last_reads(self) -> Mapping[str, int]:
        end = len(self.nodes)
        reads = {name: place for place, node in enumerate(self.nodes) for name in node.input}
        return {**reads, **{value.name: end for value in self.model.graph.output}}
