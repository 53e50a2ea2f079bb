"""Faults of an optimizer: it does less, more, or something else than was asked, and does not say so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import GraphProto, numpy_helper

from mlflow_aifsm.facts import Fact, captured
from mlflow_aifsm.hooks.context import record_optimization
from mlflow_aifsm.result import Result
from mlflow_aifsm.sources import Array
from mlflow_aifsm.validation.bench import MODEL, PERSON, copied, edited, good, held_out, quantized, reweighted
from mlflow_aifsm.validation.trial import fault, finding
from mlflow_aifsm.verification.criterion import OPTIMIZATION

TABLE = "AI-FSM Model Optimization Log v1.0, Table 1"


@fault(finding("non_linearity_lost"), "onnxruntime issues 9425, 11225 and 11660")
def activation_function_removed() -> Result:
    """A ReLU is taken out of the quantized file, and the quantizer behind it gets a range that reaches below zero."""

    def bypass(graph: GraphProto) -> None:
        relu = next(node for node in graph.node if node.op_type == "Relu")
        quantizer = next(node for node in graph.node if relu.output[0] in node.input)
        quantizer.input[0] = relu.input[0]
        graph.node.remove(relu)
        _change(graph, quantizer.input[1], lambda scale: scale * 2)
        _change(graph, quantizer.input[2], lambda zero: np.full_like(zero, 128))

    return _recorded(edited(copied(quantized()), bypass))


@fault(finding("scale_unusable"), f"{TABLE}, Scale factor")
def quantizer_without_scale() -> Result:
    """A weight's scale in the quantized file is zero: the layer multiplies by nothing."""

    def damage(graph: GraphProto) -> None:
        tensors = {tensor.name for tensor in graph.initializer}
        weight = next(node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in tensors)
        _change(graph, weight.input[1], np.zeros_like)

    return _recorded(edited(copied(quantized()), damage))


@fault(finding("asked_not_found", "int8"), f"{TABLE}, Weight quantization: precision")
def fewer_bits_asked_than_delivered() -> Result:
    """The optimizer is asked for 4-bit integers and delivers 8-bit ones."""
    return _recorded(copied(quantized()), captured("asked.precision", "int4", "int4", source="argument of the optimizer"))


@fault(finding("zeros_without_pruning"), f"{TABLE}, Pruning; Hooker et al. 2019, arXiv 1911.05248")
def weights_removed_silently() -> Result:
    """Half of the weights of the last layer are set to zero, and no pruning step is on record."""

    def pruned(weight: Array) -> Array:
        weight[np.abs(weight) < np.median(np.abs(weight))] = 0
        return weight

    return _recorded(reweighted(copied(good()), pruned))


def _recorded(path: Path, *facts: Fact) -> Result:
    """A file that was optimized elsewhere, recorded and verified against the good model as users do it."""
    before = copied(good())
    with record_optimization(verified_model=MODEL, optimizer="nncf", responsible=PERSON) as log:
        log.add(*facts)
        log.output(path, against=before)
        log.verify(before, held_out(), OPTIMIZATION)
    return log.finished


def _change(graph: GraphProto, name: str, change: Callable[[Array], Array]) -> None:
    tensor = next(tensor for tensor in graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))
