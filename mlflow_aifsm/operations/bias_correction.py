"""Empirical bias correction of a QDQ file: outputs of a quantized layer are off on average, and its bias can make up for that.

Layer by layer from the inputs on, the mean error of each output channel is measured on calibration samples, with all layers
before it quantized and corrected already, and taken off the layer's bias (Nagel et al. 2019, arXiv 1906.04721, section 4.2 and
appendix D). Of each sample's mean error the **median** over the samples is taken, not their mean: where a range clips, a few
samples with large activations have large errors, and a mean would shift all other samples for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import NodeProto

from mlflow_aifsm.backends.qdq_graph import QdqGraph
from mlflow_aifsm.backends.quantized import saved
from mlflow_aifsm.calibration.activations import Activations
from mlflow_aifsm.capture.onnx_graph import subgraphs
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Json
from mlflow_aifsm.samples import Batch, Samples
from mlflow_aifsm.sources import Array
from mlflow_aifsm.verification.session import PROVIDER, OnnxSession, session_options

LAYERS = ("Conv", "ConvTranspose", "Gemm")
"""Operators with a bias input."""
BATCH = 8
MOST_BYTES = 2**28
"""Bytes of codes that are held between layers; a tensor with more of them is computed again for each layer."""

Progress = Callable[[int, int | None], None] | None


@dataclass(frozen=True, slots=True)
class Corrected:
    """A file with corrected biases.

    Attributes:
        path: The file.
        layers: Names of the layers whose bias was changed.
        largest: Largest change of a bias in units of the layer's output, and the layer it was in.
        without_bias: Quantized layers that have no bias to correct.
    """

    path: Path
    layers: tuple[str, ...]
    largest: tuple[float, str]
    without_bias: tuple[str, ...]

    @property
    def data(self) -> dict[str, Json]:
        """All of it as JSON."""
        largest = {"change": self.largest[0], "layer": self.largest[1]}
        return {"layers": list(self.layers), "largest": largest, "without_bias": list(self.without_bias)}


def corrected(quantized: Path, reference: Path, samples: Samples, progress: Progress = None) -> Corrected:
    """``quantized`` with the bias of each of its quantized layers corrected.

    Args:
        quantized: A QDQ file, its layers named as in ``reference``.
        reference: The float file.
        samples: Calibration samples.
        progress: Called with the layers done and their number.

    Raises:
        InputError: If samples or files do not fit, or the graph has branches.
    """
    graph = QdqGraph(onnx.load(quantized))
    layers = [node for node in graph.nodes if node.op_type in LAYERS and graph.is_quantized(node)]
    correctable = [node for node in layers if graph.bias(node) is not None]
    if not correctable:
        return Corrected(quantized, (), (0.0, ""), tuple(node.name for node in layers))
    _check_branches(graph.nodes)
    means = _float_means(reference, [node.name for node in correctable], samples)
    flow, largest = _Flow(graph, OnnxSession(quantized), samples), (0.0, "")
    for number, node in enumerate(correctable, 1):
        flow.advance(node)
        found = np.concatenate([_channel_means(values) for values in flow.run(node.output[0])])
        change = np.median(means[node.name] - found, axis=0)
        graph.add_to_bias(node, change)
        largest = max(largest, (float(np.abs(change).max()), node.name))
        if progress is not None:
            progress(number, len(correctable))
    names = tuple(node.name for node in correctable)
    return Corrected(saved(graph.model), names, largest, tuple(node.name for node in layers if node.name not in names))


def _check_branches(nodes: list[NodeProto]) -> None:
    if found := next((node for node in nodes if any(subgraphs(node))), None):
        remedy = "use bias_correction=False"
        raise InputError(
            "biases of a graph with branches cannot be corrected", got=f"{found.op_type} '{found.name}'", remedy=remedy
        )


class _Flow:
    """The samples on their way through the graph: at its inputs, or as codes at the last tensor that all data pass through.

    So a layer costs the nodes since that tensor, not all before it.
    """

    def __init__(self, graph: QdqGraph, session: OnnxSession, samples: Samples) -> None:
        self._graph, self._session, self._samples = graph, session, samples
        self._at, self._codes = "", list[Array]()

    def advance(self, node: NodeProto) -> None:
        """Moves the samples on to the last such tensor before ``node``, as long as their codes stay small."""
        cut = self._graph.cut_before(node, self._at)
        if not cut:
            return
        codes, size = [], 0
        for values in self.run(cut):
            codes.append(values)
            size += values.nbytes
            if size > MOST_BYTES:
                return
        self._at, self._codes = cut, codes

    def run(self, tensor: str) -> Iterator[Array]:
        """Values of ``tensor`` batch by batch, graph optimizations on."""
        part = self._graph.part(tensor, self._at)
        session = onnxruntime.InferenceSession(part, session_options(optimize=True), providers=[PROVIDER])
        fed = {spec.name for spec in session.get_inputs()}
        for batch in self._batches():
            yield np.asarray(session.run([tensor], {name: array for name, array in batch.items() if name in fed})[0])

    def _batches(self) -> Iterator[Batch]:
        return ({self._at: codes} for codes in self._codes) if self._at else _batches(self._session, self._samples)


def _float_means(reference: Path, names: list[str], samples: Samples) -> dict[str, Array]:
    """Mean of each output channel of the named layers, ``[samples, channels]`` by layer."""
    outputs = {node.name: node.output[0] for node in onnx.load(reference, load_external_data=False).graph.node}
    wanted = {outputs[name]: name for name in names}
    session = Activations(reference, list(wanted))
    parts: dict[str, list[Array]] = {name: [] for name in names}
    for batch in _batches(session, samples):
        for tensor, values in session.run(batch).items():
            parts[wanted[tensor]].append(_channel_means(values))
    if not all(parts.values()):
        expected = f"at least {session.fixed_batch or 1}, the batch of the model"
        raise InputError("too few samples to correct biases", got=f"{samples.count} samples", expected=expected)
    return {name: np.concatenate(part) for name, part in parts.items()}


def _batches(session: OnnxSession, samples: Samples) -> Iterator[Batch]:
    names, size = [spec.name for spec in session.inputs], session.fixed_batch or BATCH
    for batch, _ in samples.batches(size, names, session.ranks):
        if len(next(iter(batch.values()))) == size or session.fixed_batch is None:
            yield session.fit(batch)


def _channel_means(values: Array) -> Array:
    """Means over all axes but the first, the samples, and the second, the channels."""
    return np.asarray(values.astype(np.float64).mean(axis=tuple(range(2, values.ndim))))
