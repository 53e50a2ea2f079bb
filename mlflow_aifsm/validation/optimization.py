"""Faults of an optimizer: it does less, more, or something else than was asked, and does not say so."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto

from mlflow_aifsm.facts import captured
from mlflow_aifsm.result import Result
from mlflow_aifsm.sources import Array
from mlflow_aifsm.validation.bench import (
    copied,
    edited,
    eight_bits,
    good,
    initializer_changed,
    optimized,
    reweighted,
    weight_quantizer,
)
from mlflow_aifsm.validation.trial import fault, finding

TABLE = "AI-FSM Model Optimization Log v1.0, Table 1"


@fault(finding("non_linearity_lost"), "onnxruntime issues 9425, 11225 and 11660")
def activation_function_removed() -> Result:
    """A ReLU is taken out of the quantized file, and the quantizer behind it gets a range that reaches below zero."""

    def bypass(graph: GraphProto) -> None:
        relu = next(node for node in graph.node if node.op_type == "Relu")
        quantizer = next(node for node in graph.node if relu.output[0] in node.input)
        quantizer.input[0] = relu.input[0]
        graph.node.remove(relu)
        initializer_changed(graph, quantizer.input[1], lambda scale: scale * 2)
        initializer_changed(graph, quantizer.input[2], lambda zero: np.full_like(zero, 128))

    return optimized(edited(copied(eight_bits()), bypass))


@fault(finding("scale_unusable"), f"{TABLE}, Scale factor")
def quantizer_without_scale() -> Result:
    """A weight's scale in the quantized file is zero: the layer multiplies by nothing."""

    def damage(graph: GraphProto) -> None:
        initializer_changed(graph, weight_quantizer(graph).input[1], np.zeros_like)

    return optimized(edited(copied(eight_bits()), damage))


@fault(finding("asked_not_found", "int8"), f"{TABLE}, Weight quantization: precision")
def fewer_bits_asked_than_delivered() -> Result:
    """An optimizer is asked for 4-bit integers throughout and delivers 8-bit ones."""
    return optimized(copied(eight_bits()), captured("asked.precision", "int4", "int4", source="argument of the optimizer"))


@fault(finding("zeros_without_pruning"), f"{TABLE}, Pruning; Hooker et al. 2019, arXiv 1911.05248")
def weights_removed_silently() -> Result:
    """Half of the weights of the last layer are set to zero, and no pruning step is on record."""

    def pruned(weight: Array) -> Array:
        weight[np.abs(weight) < np.median(np.abs(weight))] = 0
        return weight

    return optimized(reweighted(copied(good()), pruned))
