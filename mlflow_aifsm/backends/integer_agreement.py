"""Whether an integer file computes, layer by layer, what the trained fake-quantized module computes.

Each part of the file between two quantizers gets what the module had there, and must give the codes that the module gave,
within one: two right computations sum in another order, and a value on the border of two codes may fall to either side. Run
from end to end, one such code changes all behind it: the distance of the outputs then grows with depth, whatever the file is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.utils import _pytree as pytree

from mlflow_aifsm.backends.fake_quantized import Example, observing, run
from mlflow_aifsm.backends.integer_export import IntegerFile
from mlflow_aifsm.sources import Array
from mlflow_aifsm.verification.session import PROVIDER, session_options

Place = tuple[str, int]
"""A quantizer, and which of its runs in one forward pass."""


@dataclass(slots=True)
class Agreement:
    """Codes of one quantized activation beside those of the trained module.

    Attributes:
        quantizer: NNCF's name of its quantizer.
        tensor: The tensor in the file.
        step: Size of a step, in units of the tensor.
        codes: Number of codes that were compared.
        different: Codes that are others.
        largest: Largest difference, in steps.
    """

    quantizer: str
    tensor: str
    step: float
    codes: int = 0
    different: int = 0
    largest: int = 0

    def add(self, codes: Array, expected: Array) -> None:
        """Adds one batch of codes and those that were expected."""
        gap = np.abs(codes.astype(np.int64) - expected.astype(np.int64))
        self.codes += gap.size
        self.different += int(np.count_nonzero(gap))
        self.largest = max(self.largest, int(gap.max(initial=0)))


@dataclass(frozen=True, slots=True)
class Compared:
    """The agreement of a whole file.

    Attributes:
        rows: One for each quantized activation.
        outputs: Largest difference of the outputs where the last codes are the module's, in output units.
        samples: Number of samples.
    """

    rows: tuple[Agreement, ...]
    outputs: float
    samples: int


@dataclass(frozen=True, slots=True)
class _Cut:
    """A quantizer in the file: the tensor, its codes, and what its DequantizeLinear gives; scale and zero point."""

    tensor: str
    codes: str
    values: str
    scale: Array
    zero: Array


def compared(file: IntegerFile, model: nn.Module, batches: Iterable[Example]) -> Compared:
    """Compares the file with the trained module on batches of inputs.

    Args:
        file: The file.
        model: The fake-quantized module in evaluation mode, on the CPU.
        batches: Inputs as the module takes them.
    """
    graph = onnx.load(file.path)
    fed = [value.name for value in graph.graph.input]
    cuts = _cuts(graph, file.activations)
    session = _cut_session(graph, cuts)
    rows = {place: Agreement(place[0], cut.tensor, float(cut.scale.max())) for place, cut in cuts.items()}
    outputs, samples = 0.0, 0
    for batch in batches:
        values, given = _module_values(model, batch, cuts)
        tensors = [leaf.numpy() for leaf in pytree.tree_leaves(batch) if isinstance(leaf, torch.Tensor)]
        found = session.run(None, {**dict(zip(fed, tensors, strict=True)), **values})
        for place, codes in zip(cuts, found, strict=False):
            rows[place].add(codes, _codes(values[cuts[place].values], cuts[place]))
        outputs = max(
            [
                outputs,
                *(float(np.abs(one - wanted).max(initial=0)) for one, wanted in zip(found[len(cuts) :], given, strict=True)),
            ]
        )
        samples += len(tensors[0])
    return Compared(tuple(rows.values()), outputs, samples)


def _module_values(model: nn.Module, batch: Example, cuts: Mapping[Place, _Cut]) -> tuple[dict[str, Array], list[Array]]:
    """What the cut graph is fed with, by name, and the module's outputs."""
    seen: dict[str, Array] = {}
    runs: Counter[str] = Counter()

    def look(name: str, _: torch.Tensor, made: torch.Tensor) -> None:
        if (name, runs[name]) in cuts:
            seen[cuts[name, runs[name]].values] = made.detach().numpy()
        runs[name] += 1

    results: list[Any] = []
    handle = model.register_forward_hook(lambda _, __, made: results.append(made))
    try:
        with observing(model, look):
            run(model, batch)
    finally:
        handle.remove()
    leaves = [leaf.numpy() for leaf in pytree.tree_leaves(results[0]) if isinstance(leaf, torch.Tensor)]
    return seen, leaves


def _cuts(graph: onnx.ModelProto, activations: Mapping[str, tuple[str, ...]]) -> dict[Place, _Cut]:
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    behind = {node.input[0]: node.output[0] for node in graph.graph.node if node.op_type == "DequantizeLinear"}
    made = {node.input[0]: node for node in reversed(graph.graph.node) if node.op_type == "QuantizeLinear"}
    found = {}
    for place, tensor in _places(activations):
        node = made[tensor]
        ends = (numpy_helper.to_array(stored[one]).reshape(-1) for one in node.input[1:3])
        found[place] = _Cut(tensor, node.output[0], behind[node.output[0]], *ends)
    return found


def _places(activations: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[Place, str]]:
    for name, tensors in activations.items():
        yield from (((name, run_of_it), tensor) for run_of_it, tensor in enumerate(tensors))


def _cut_session(graph: onnx.ModelProto, cuts: Mapping[Place, _Cut]) -> onnxruntime.InferenceSession:
    """The file with each activation cut behind its codes: these are given out, and what stands for them is fed."""
    behind = {cut.values for cut in cuts.values()}
    for node in [node for node in graph.graph.node if node.output[0] in behind]:
        graph.graph.node.remove(node)
    first = [helper.make_empty_tensor_value_info(cut.codes) for cut in cuts.values()]
    last = list(graph.graph.output)
    del graph.graph.output[:]
    graph.graph.output.extend([*first, *last])
    graph.graph.input.extend(helper.make_tensor_value_info(cut.values, TensorProto.FLOAT, None) for cut in cuts.values())
    return onnxruntime.InferenceSession(graph.SerializeToString(), session_options(optimize=False), providers=[PROVIDER])


def _codes(values: Array, cut: _Cut) -> Array:
    scale, zero = cut.scale.astype(np.float64), cut.zero.astype(np.int64)
    if scale.size > 1:
        shape = (1, -1, *(1 for _ in values.shape[2:]))
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return np.rint(values.astype(np.float64) / scale).astype(np.int64) + zero
