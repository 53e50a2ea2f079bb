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
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from mlflow_aifsm.backends.quantized import saved
from mlflow_aifsm.facts import Json
from mlflow_aifsm.samples import Batch, Samples
from mlflow_aifsm.sources import Array
from mlflow_aifsm.verification.augmented import AugmentedSession
from mlflow_aifsm.verification.session import OnnxSession, session_options

LAYERS = ("Conv", "ConvTranspose", "Gemm")
"""Operators with a bias input."""
BIAS = 2
BATCH = 8

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
        samples: Calibration samples; read once for the float model, and once a layer.
        progress: Called with the layers done and their number.

    Raises:
        InputError: If samples or files do not fit.
    """
    model, session = onnx.load(quantized), OnnxSession(quantized)
    graph = _Graph(model)
    layers = [node for node in model.graph.node if node.op_type in LAYERS and graph.is_quantized(node)]
    correctable = [node for node in layers if graph.bias(node) is not None]
    means = _float_means(reference, [node.name for node in correctable], samples)
    largest = (0.0, "")
    for number, node in enumerate(correctable, 1):
        found = _means(graph.until(node), node.output[0], session, samples)
        change = np.median(means[node.name] - found, axis=0)
        graph.add_to_bias(node, change)
        largest = max(largest, (float(np.abs(change).max()), node.name))
        if progress is not None:
            progress(number, len(correctable))
    names = tuple(node.name for node in correctable)
    return Corrected(saved(model), names, largest, tuple(node.name for node in layers if node.name not in names))


class _Graph:
    """A QDQ graph with its constants at hand."""

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._makers = {name: node for node in model.graph.node for name in node.output}

    def is_quantized(self, node: NodeProto) -> bool:
        return all(self._dequantizer(name) is not None for name in node.input[:2])

    def bias(self, node: NodeProto) -> TensorProto | None:
        """The stored bias: integer codes behind a DequantizeLinear, or floats."""
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

    def until(self, node: NodeProto) -> bytes:
        """The part of the model that computes the first output of ``node``, serialized."""
        needed, wanted = set(), list(node.output[:1])
        while wanted:
            maker = self._makers.get(wanted.pop())
            if maker is not None and id(maker) not in needed:
                needed.add(id(maker))
                wanted += maker.input
        part = ModelProto(ir_version=self._model.ir_version, opset_import=self._model.opset_import)
        part.graph.name = self._model.graph.name
        part.graph.node.extend(one for one in self._model.graph.node if id(one) in needed)
        used = {name for one in part.graph.node for name in one.input}
        part.graph.input.extend(value for value in self._model.graph.input if value.name in used)
        part.graph.initializer.extend(tensor for name, tensor in self._stored.items() if name in used)
        part.graph.output.append(onnx.ValueInfoProto(name=node.output[0]))
        return bytes(part.SerializeToString())

    def _dequantizer(self, name: str) -> NodeProto | None:
        maker = self._makers.get(name)
        return maker if maker is not None and maker.op_type == "DequantizeLinear" else None


def _float_means(reference: Path, names: list[str], samples: Samples) -> dict[str, Array]:
    """Mean of each output channel of the named layers, ``[samples, channels]`` by layer."""
    outputs = {node.name: node.output[0] for node in onnx.load(reference, load_external_data=False).graph.node}
    wanted = {outputs[name]: name for name in names}
    session = AugmentedSession(reference, list(wanted))
    parts: dict[str, list[Array]] = {name: [] for name in names}
    for batch in _batches(session, samples):
        for tensor, values in session.run(batch).items():
            parts[wanted[tensor]].append(_channel_means(values))
    return {name: np.concatenate(part) for name, part in parts.items()}


def _means(part: bytes, tensor: str, session: OnnxSession, samples: Samples) -> Array:
    run = onnxruntime.InferenceSession(part, session_options(optimize=True, threads=None), providers=["CPUExecutionProvider"])
    fed = {spec.name for spec in run.get_inputs()}
    found = []
    for batch in _batches(session, samples):
        values = run.run([tensor], {name: array for name, array in batch.items() if name in fed})[0]
        found.append(_channel_means(values))
    return np.concatenate(found)


def _batches(session: OnnxSession, samples: Samples) -> Iterator[Batch]:
    names, size = [spec.name for spec in session.inputs], session.fixed_batch or BATCH
    for batch, _ in samples.batches(size, names, session.ranks):
        if len(next(iter(batch.values()))) == size or session.fixed_batch is None:
            yield session.fit(batch)


def _channel_means(values: Array) -> Array:
    """Means over all axes but the first, the samples, and the second, the channels."""
    return np.asarray(values.astype(np.float64).mean(axis=tuple(range(2, values.ndim))))
