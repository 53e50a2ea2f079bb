"""Settings by layer, turned into settings of the tensors that ONNX Runtime's quantizer knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_aifsm.backends.onnxruntime import TYPES
from mlflow_aifsm.calibration.estimators import Estimate, estimate
from mlflow_aifsm.calibration.observer import Observation
from mlflow_aifsm.calibration.statistics import Grid
from mlflow_aifsm.capture.activations import CLIPPING
from mlflow_aifsm.capture.layer_names import selected
from mlflow_aifsm.capture.onnx_graph import OnnxFile, Scope
from mlflow_aifsm.operations.quantization import ACTIVATIONS, WEIGHTS, Static

LEVELS = {"int8": 256, "uint8": 256, "int16": 65536, "uint16": 65536}
"""Codes of each type of activations."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer with settings of its own: its weight, the tensor behind it that is quantized, and the settings."""

    weight: str
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
                by_channel = {"axis": 0} if self.config.granularities[WEIGHTS] == "channel" else {}
                symmetric = {"symmetric": self.config.schemes[WEIGHTS] == "symmetric"}
                found[layer.weight] = [{"quant_type": TYPES[layer.settings[WEIGHTS]], **symmetric, **by_channel}]
            if ACTIVATIONS in layer.settings or scheme:
                given = TYPES[layer.settings.get(ACTIVATIONS, self.config.activations)]
                symmetric = {"symmetric": (scheme or self.config.schemes[ACTIVATIONS]) == "symmetric"}
                found[layer.output] = [{"quant_type": given, **symmetric}]
        return found

    def _grid(self, layer: Layer) -> Grid:
        dtype = layer.settings.get(ACTIVATIONS, self.config.activations)
        scheme = layer.settings.get("scheme", self.config.schemes[ACTIVATIONS])
        return Grid(LEVELS[dtype], symmetric=scheme == "symmetric")


def overrides_of(file: OnnxFile, config: Static) -> Overrides:
    """The layers that ``config.overrides`` names; where two patterns name one layer, the later one holds.

    Raises:
        InputError: If a pattern names no layer.
    """
    scope = file.scopes[0]
    named = {node.name: node for node in scope.nodes}
    settings: dict[str, dict[str, Any]] = {}
    for pattern, nodes in selected(file, config.overrides, "overrides").items():
        for name in nodes:
            settings[name] = {**settings.get(name, {}), **config.overrides[pattern]}
    layers = (
        Layer(_weight(scope, list(named[name].input)), _behind(scope, named[name].output[0]), given)
        for name, given in settings.items()
        if named[name].op_type not in CLIPPING
    )
    return Overrides(config, tuple(layers))


def _weight(scope: Scope, inputs: list[str]) -> str:
    return next((name for name in inputs[1:2] if scope.initializer(name) is not None), "")


def _behind(scope: Scope, name: str) -> str:
    users = scope.used_by(name)
    return str(users[0].output[0]) if len(users) == 1 and users[0].op_type in CLIPPING else name
