"""What trials are made with: a trained network, a converter that can go wrong, and the product's own way to record it."""

from __future__ import annotations

import copy
import shutil
import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.export import Dim

from mlflow_aifsm import scratch
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact
from mlflow_aifsm.hooks.context import record_conversion, record_optimization
from mlflow_aifsm.operations.configs import BATCH, Onnx, Pt2
from mlflow_aifsm.operations.freeze import freeze
from mlflow_aifsm.operations.prune import prune
from mlflow_aifsm.operations.pruning import FineTuning, Magnitude, Pruning
from mlflow_aifsm.operations.quantization import NNCF, Dynamic, Quantization, WeightOnly
from mlflow_aifsm.operations.quantize import quantize
from mlflow_aifsm.result import Result
from mlflow_aifsm.samples import Batch, Data
from mlflow_aifsm.sources import Array
from mlflow_aifsm.validation.models import Digits, Plain, digits, fine_tuned, trained
from mlflow_aifsm.verification.criterion import CONVERSION, OPTIMIZATION, Verification

PERSON = "mlflow-aifsm validate-tool"
MODEL = "digits_1"
SUBSET = 100
"""Calibration samples that are asked for: enough for ten classes, and quick."""


def network(seed: int = 0) -> Plain:
    """A copy of the plain network, trained once a seed: a fault must not reach the next one."""
    return copy.deepcopy(_trained(seed))


@cache
def _trained(seed: int) -> Plain:
    return trained(Plain, seed)


def example() -> torch.Tensor:
    """Four images ``[4, 1, 8, 8]``."""
    return torch.from_numpy(digits()["verification"].images[:4])


def held_out(use: str = "verification") -> Verification:
    """The verification images with their labels, or those of another use, and the tool's default criterion."""
    data = digits()[use]
    return Verification(Data(data.images, name="digits", version="verification"), data.labels)


def raw() -> Verification:
    """The same images before any preprocessing, 0 … 16."""
    data = digits()["verification"]
    return Verification(Data(data.raw, name="raw digits", version="verification"), data.labels)


def frozen(module: nn.Module | str, config: Onnx | Pt2 | None = None) -> Result:
    """``module``, or the model behind a URI, frozen and verified by the product's verb, to ONNX if nothing else is asked."""
    asked = config or Onnx(dynamic_shapes=BATCH)
    named = None if isinstance(module, str) else MODEL
    return freeze(module, example(), asked, verified_model=named, verification=held_out(), responsible=PERSON)


@cache
def good() -> Result:
    """The plain network frozen and verified, once a process: what optimizations start from."""
    return frozen(network())


@cache
def architecture(build: Callable[[], nn.Module]) -> Result:
    """Another network trained, frozen and verified, once a process."""
    return frozen(trained(build))


@cache
def eight_bits() -> Result:
    """The good model quantized by NNCF, once a process: nobody may add anything to its log."""
    return quantized()


@cache
def half() -> Result:
    """The good model with half of its weights pruned, once a process: nobody may add anything to its log."""
    return pruned(good(), Magnitude(0.5))


@cache
def sparse() -> Result:
    """The plain network pruned in three steps with training after each, once a process; its run holds two logs."""
    return pruned(network(), Magnitude(0.6, steps=3), training=digits()["training"])


def forget() -> None:
    """Makes the shared models anew when they are next asked for; their logs do not outlive the store they were written to."""
    for shared in (good, architecture, eight_bits, half, sparse):
        shared.cache_clear()


def quantized(
    config: Quantization | None = None, calibration: Digits | None = None, model: Result | None = None, judged: str = ""
) -> Result:
    """The good model, or another one, quantized and verified by the product's verb, by NNCF if nothing else is asked.

    Args:
        config: What is asked.
        calibration: Samples with labels; those for calibration if None.
        model: The frozen model.
        judged: Use of the samples to verify with, ``verification`` if empty.
    """
    given = calibration or digits()["calibration"]
    data = None if isinstance(config, Dynamic | WeightOnly) else Data(given.images, name="digits", labels=given.labels)
    with_nncf = NNCF(
        subset_size=SUBSET,
        advanced_parameters={"disable_bias_correction": True, "activations_quantization_params": {"per_channel": False}},
    )
    return quantize(
        model or good(), data, config or with_nncf, verification=held_out(judged or "verification"), responsible=PERSON
    )


def pruned(
    model: nn.Module | Result, config: Pruning, verification: Verification | None = None, training: Digits | None = None
) -> Result:
    """A module, or a frozen model, pruned and verified by the product's verb.

    Args:
        model: The model.
        config: What is asked.
        verification: Data and limits; the verification images with the tool's default criterion if None.
        training: Samples for one epoch of training after each step; no training if None.
    """
    tuning = None
    if training is not None:
        tuning = FineTuning(partial(fine_tuned, data=training), 1, Data(training.images, name="digits", version="training"))
    judged, named = verification or held_out(), MODEL if isinstance(model, nn.Module) else None
    return prune(model, config, fine_tune=tuning, verified_model=named, verification=judged, responsible=PERSON)


def exported(module: nn.Module, **asked: Any) -> Path:
    """What PyTorch's exporter makes of ``module`` if the product is not asked; ``asked`` are the exporter's own keywords."""
    path = scratch.folder() / "model.onnx"
    keywords = {"dynamic_shapes": ({0: Dim.DYNAMIC},), "external_data": False, "verbose": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (example(),), str(path), **{**keywords, **asked})
    return path


def traced(module: nn.Module, **asked: Any) -> Path:
    """What the older exporter makes of it, which traces one run of the example."""
    axes = {"input_names": ["image"], "dynamic_axes": {"image": {0: "n"}}}
    return exported(module, **{**axes, "dynamo": False, "dynamic_shapes": None, **asked})


def converted(path: Path, reference: nn.Module, verification: Verification | None = None) -> Result:
    """A file that was converted elsewhere, recorded and verified against ``reference`` as users do it."""
    with record_conversion(verified_model=MODEL, converter="torch", responsible=PERSON) as log:
        log.output(path)
        log.verify(running(reference), held_out() if verification is None else verification, CONVERSION)
    return log.finished


def optimized(path: Path, *facts: Fact, before: Result | None = None) -> Result:
    """A file that was optimized elsewhere, recorded and verified against ``before``, the good model if None, as users do it."""
    reference = copied(before or good())
    with record_optimization(verified_model=MODEL, optimizer="nncf", responsible=PERSON) as log:
        log.add(*facts)
        log.output(path, against=reference)
        log.verify(reference, held_out(), OPTIMIZATION)
    return log.finished


def running(module: nn.Module) -> Callable[[Batch], Sequence[Array]]:
    """``module`` as a function from input arrays by name to output arrays."""

    def run(batch: Batch) -> Sequence[Array]:
        with torch.no_grad():
            outputs = module(*(torch.from_numpy(array) for array in batch.values()))
        return [part.numpy() for part in (outputs if isinstance(outputs, tuple) else (outputs,))]

    return run


def copied(result: Result) -> Path:
    """A copy of a delivered file, to be changed.

    Raises:
        InputError: If there is no such file.
    """
    if result.path is None:
        raise InputError(f"log {result.log_id} delivered no file")
    return Path(shutil.copy(result.path, scratch.folder()))


def edited(path: Path, change: Callable[[onnx.GraphProto], None]) -> Path:
    """The ONNX file at ``path`` with its graph changed in place."""
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)
    return path


def reweighted(path: Path, change: Callable[[Array], Array]) -> Path:
    """The ONNX file with ``change`` applied to its largest float tensor, the weight matrix of the last layer."""

    def put(graph: onnx.GraphProto) -> None:
        floats = (tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT)
        weight = max(floats, key=lambda tensor: int(np.prod(tensor.dims)))
        changed = np.ascontiguousarray(change(numpy_helper.to_array(weight).copy()), np.float32)
        weight.CopyFrom(numpy_helper.from_array(changed, weight.name))

    return edited(path, put)


def initializer_changed(graph: onnx.GraphProto, name: str, change: Callable[[Array], Array]) -> None:
    """Applies ``change`` to the stored tensor ``name`` of ``graph``, in place."""
    tensor = next(tensor for tensor in graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))


def weight_quantizer(graph: onnx.GraphProto) -> onnx.NodeProto:
    """The first node of ``graph`` that dequantizes a stored weight."""
    stored = {tensor.name for tensor in graph.initializer}
    found: onnx.NodeProto = next(node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in stored)
    return found
