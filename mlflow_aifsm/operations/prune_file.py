"""Pruning of a frozen ONNX file: by magnitude, in one step, without training."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mlflow_aifsm.backends import onnx_prune
from mlflow_aifsm.backends import pruned as fitting
from mlflow_aifsm.backends.pruned import named
from mlflow_aifsm.calls import call_fact
from mlflow_aifsm.capture.layer_weights import LayerWeight
from mlflow_aifsm.capture.onnx_graph import file_set, opened
from mlflow_aifsm.digests import set_digest
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.operations.pruned import Pruned
from mlflow_aifsm.operations.pruning import Given, Magnitude, Pruning
from mlflow_aifsm.operations.quantize_step import replay, told
from mlflow_aifsm.operations.steps import Step
from mlflow_aifsm.recording import Recording

CALL = "pruning.call"
REMEDY = "prune the PyTorch module before it is frozen; MLflow keeps its layers with serialization_format='pickle'"
MANY = 3
"""Entries that a cell prints of an argument that differs by tensor."""


def check(path: Path, config: Pruning, given: Given) -> None:
    """Refuses what a frozen file cannot have.

    Raises:
        InputError: If the config asks for gradients, steps or training, or does not fit the weights.
    """
    if not isinstance(config, Magnitude):
        raise InputError("a frozen file has no gradients", got=type(config).__name__, expected="Magnitude", remedy=REMEDY)
    asked = {"steps": config.steps != 1, "batch_norm_adaptation": config.batch_norm_adaptation != 0}
    if trained := [*given.names, *(name for name, wanted in asked.items() if wanted)]:
        raise InputError("a frozen file is not trained", got=", ".join(trained), expected="a config alone", remedy=REMEDY)
    _chosen(path, config)


def _chosen(path: Path, config: Pruning) -> tuple[LayerWeight, ...]:
    weights = onnx_prune.prunable(path)
    chosen = named({one.tensor: onnx_prune.aliases(one) for one in weights}, config.layers, config.keep_dense)
    found = tuple(one for one in weights if one.tensor in chosen)
    file = opened(path)
    shapes = {one.tensor: one.zero(file).shape for one in found}
    matrices = {name: (shape[0], int(np.prod(shape[1:]))) for name, shape in shapes.items()}
    fitting.check(matrices, config.tiles, config.share, config.scope)
    return found


def prune(log: Recording, path: Path, config: Pruning, number: int) -> tuple[Path, Pruned, Step]:
    """Prunes a copy of the file.

    Args:
        log: The log.
        path: The float file.
        config: What is asked; checked already.
        number: Which call of the optimization this is; in the first one nothing has changed the weights yet.

    Raises:
        InputError: If the config does not fit the weights.
    """
    weights, file = _chosen(path, config), opened(path)
    log.note(*filter(None, [onnx_prune.left_out(file).text]))
    made, applied = onnx_prune.prune_file(file, [one.tensor for one in weights], config.tiles, config.share, config.scope)
    scores = {one.tensor: np.abs(one.values(file)) for one in weights} if number == 1 else None
    framework = f"mlflow-aifsm {version('mlflow-aifsm')} on NumPy {np.__version__}"
    pruned = Pruned(config, (applied,), framework, ("mlflow-aifsm", "numpy", "onnx"), scores)
    what, arguments = told(config), applied.arguments
    call = call_fact(log.source, CALL, applied.function, arguments, shown(arguments), replay(config), what)
    return made, pruned, Step("prune", what, number, set_digest(file_set(made)), call, {"pruned": applied.amount})


def shown(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments as the cell prints them: lists of tensors, and numbers by tensor, by how many there are."""
    return {name: _brief(name, value) for name, value in arguments.items()}


def _brief(name: str, value: Any) -> Any:
    listed = isinstance(value, dict) and len(value) > MANY
    return f"{len(value)} weights" if name == "tensors" or listed else value
