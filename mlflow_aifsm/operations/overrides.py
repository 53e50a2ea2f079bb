"""Settings by layer, turned into settings of the tensors that ONNX Runtime's quantizer knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnx import NodeProto

from mlflow_aifsm.backends.graph_rewrites import PRODUCTS
from mlflow_aifsm.backends.onnxruntime import LAYERS, PASSING, QUANTIZABLE, TYPES
from mlflow_aifsm.calibration.estimators import Estimate, estimate
from mlflow_aifsm.calibration.observer import Observation
from mlflow_aifsm.calibration.statistics import Grid
from mlflow_aifsm.capture.activations import CLIPPING
from mlflow_aifsm.capture.layer_names import selected
from mlflow_aifsm.capture.onnx_graph import OnnxFile, Scope, integer
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.operations.quantization import ACTIVATIONS, WEIGHTS, Static

LEVELS = {"int8": 256, "uint8": 256, "int16": 65536, "uint16": 65536}
"""Codes of each type of activations."""

OF_OUTPUT = (ACTIVATIONS, "scheme", "ranges")
"""Settings that are about the tensor behind a layer."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer with settings of its own.

    Attributes:
        weight: Its stored weight; empty if it has none.
        axis: The weight's axis of output channels.
        output: The tensor behind it that is quantized; empty if that stays in float, or has the quantization of another.
        settings: What is asked for it.
    """

    weight: str
    axis: int
    output: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Overrides:
    """All layers with settings of their own, over those of the whole file."""

    config: Static
    layers: tuple[Layer, ...] = ()

    def estimates(self, observation: Observation) -> dict[str, Estimate]:
        """Ranges of the activations that have another method, type or scheme than the rest."""
        found: dict[str, Estimate] = {}
        for layer in self.layers:
            if layer.settings.keys() & {"ranges", "scheme", ACTIVATIONS} and layer.output in observation.tensors:
                alone = Observation({layer.output: observation.tensors[layer.output]}, observation.inputs, observation.seen)
                method = layer.settings.get("ranges", self.config.ranges)
                found |= estimate(alone, method, self._grid(layer), self.config.percentile)
        return found

    @property
    def tensors(self) -> dict[str, list[dict[str, Any]]]:
        """``TensorQuantOverrides`` of ONNX Runtime."""
        found: dict[str, list[dict[str, Any]]] = {}
        for layer in self.layers:
            scheme = layer.settings.get("scheme")
            if WEIGHTS in layer.settings and layer.weight:
                by_channel = {"axis": layer.axis} if self.config.granularities[WEIGHTS] == "channel" else {}
                symmetric = {"symmetric": self.config.schemes[WEIGHTS] == "symmetric"}
                found[layer.weight] = [{"quant_type": TYPES[layer.settings[WEIGHTS]], **symmetric, **by_channel}]
            if layer.output and (ACTIVATIONS in layer.settings or scheme):
                given = TYPES[layer.settings.get(ACTIVATIONS, self.config.activations)]
                symmetric = {"symmetric": (scheme or self.config.schemes[ACTIVATIONS]) == "symmetric"}
                found[layer.output] = [{"quant_type": given, **symmetric}]
        return found

    @property
    def asked(self) -> dict[str, dict[str, str]]:
        """Type and scheme that each tensor shall have."""
        found: dict[str, dict[str, str]] = {}
        for layer in self.layers:
            if WEIGHTS in layer.settings and layer.weight:
                found[layer.weight] = {"dtype": layer.settings[WEIGHTS]}
            output = {"dtype": layer.settings.get(ACTIVATIONS, ""), "scheme": layer.settings.get("scheme", "")}
            if layer.output and any(output.values()):
                found[layer.output] = {name: word for name, word in output.items() if word}
        return found

    @property
    def methods(self) -> dict[str, str]:
        """Range estimators other than that of the whole file, by tensor."""
        return {layer.output: layer.settings["ranges"] for layer in self.layers if "ranges" in layer.settings}

    def _grid(self, layer: Layer) -> Grid:
        dtype = layer.settings.get(ACTIVATIONS, self.config.activations)
        scheme = layer.settings.get("scheme", self.config.schemes[ACTIVATIONS])
        return grid_of(dtype, scheme)


def grid_of(dtype: str, scheme: str) -> Grid:
    """What a range of activations of this type is divided into."""
    return Grid(LEVELS[dtype], symmetric=scheme == "symmetric")


def overrides_of(file: OnnxFile, config: Static) -> Overrides:
    """The layers that ``config.overrides`` names; where two patterns name one layer, the later one holds.

    A layer that ``keep_float`` names too stays in float, so that ``Conv`` may mean all convolutions but those.

    Raises:
        InputError: If a pattern names no layer, or none that can have what is asked.
    """
    kept = {name for nodes in selected(file, config.keep_float, "keep_float").values() for name in nodes}
    settings: dict[str, dict[str, Any]] = {}
    for pattern, nodes in selected(file, config.overrides, "overrides").items():
        left = [name for name in nodes if name not in kept]
        if not left:
            got, remedy = f"overrides['{pattern}'] and keep_float", "take it out of one of them"
            raise InputError(f"'{nodes[0]}' cannot be quantized and stay in float", got=got, remedy=remedy)
        _check(pattern, [_layer(file, name, {}) for name in left], config.overrides[pattern])
        for name in left:
            settings[name] = {**settings.get(name, {}), **config.overrides[pattern]}
    return Overrides(config, tuple(_layer(file, name, given) for name, given in settings.items()))


def _layer(file: OnnxFile, name: str, settings: Mapping[str, Any]) -> Layer:
    scope = file.scopes[0]
    node = next(node for node in scope.nodes if node.name == name)
    stored = node.op_type in LAYERS and len(node.input) > 1 and scope.initializer(node.input[1]) is not None
    output = _behind(scope, node.output[0])
    last = node.op_type in PRODUCTS and output in {value.name for value in file.model.graph.output}
    own = node.op_type in QUANTIZABLE - PASSING and not last
    return Layer(node.input[1] if stored else "", _channels(scope, node) if stored else 0, output if own else "", settings)


def _check(pattern: str, layers: list[Layer], asked: Mapping[str, Any]) -> None:
    """Refuses a setting that none of the layers can have: it would be lost without a word."""
    for setting, word in asked.items():
        if not any(layer.output if setting in OF_OUTPUT else layer.weight for layer in layers):
            what = "a quantized output of its own" if setting in OF_OUTPUT else "a stored weight"
            raise InputError(f"{setting} of overrides['{pattern}']", got=repr(word), expected=f"a layer with {what}")


def _channels(scope: Scope, node: NodeProto) -> int:
    if node.op_type == "MatMul":
        weight = scope.initializer(node.input[1])
        return max(len(weight.dims) - 1, 0) if weight is not None else 0
    return 0 if node.op_type == "Conv" or integer(node, "transB", 0) else 1


def _behind(scope: Scope, name: str) -> str:
    users = scope.used_by(name)
    return str(users[0].output[0]) if len(users) == 1 and users[0].op_type in CLIPPING else name
