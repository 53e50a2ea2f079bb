"""Faults of quantizers as they are installed: what is asked of them in their own words, and silently not done."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
from onnx import GraphProto

from mlflow_aifsm import scratch
from mlflow_aifsm.facts import captured
from mlflow_aifsm.operations.quantization import NNCF, ORT, Dynamic, Static
from mlflow_aifsm.result import Result
from mlflow_aifsm.validation.bench import (
    SUBSET,
    architecture,
    copied,
    edited,
    eight_bits,
    initializer_changed,
    optimized,
    quantized,
    weight_quantizer,
)
from mlflow_aifsm.validation.models import Separable, perceptron
from mlflow_aifsm.validation.trial import fault, finding

TABLE = "AI-FSM Model Optimization Log v1.0, Table 1"
SLOWER = "onnxruntime issues 6732, 20052, 12854, 24374 and 26143: models of integers slower than those of floats"


@fault(finding("calibration_not_as_claimed", "min_max"), "onnxruntime issue 9597: 128 bins for 128 levels leave no choice")
def entropy_that_is_minimum_and_maximum() -> Result:
    """ONNX Runtime is asked for entropy calibration; its default looks at one candidate, the observed range."""
    return quantized(ORT(calibrate_method="Entropy"))


@fault(finding("calibration_clips", "10 % in relu"), "onnxruntime issue 10571; Wu et al. 2020, arXiv 2004.09602, section 3.4")
def percentile_that_clips() -> Result:
    """Ranges keep 90 percent of the values; decisions hardly change, and the accuracy stays within its limit."""
    return quantized(Static(ranges="percentile", percentile=90, subset_size=SUBSET))


@fault(finding("non_linearity_lost", "relu"), "onnxruntime issues 9425, 11225 and 11660")
def activation_function_lost_by_the_quantizer() -> Result:
    """ONNX Runtime is asked for ranges that are symmetric: it takes the ReLU out, and the range reaches below zero."""
    return quantized(ORT(extra_options={"CalibTensorRangeSymmetric": True}))


@fault(finding("weight_codes_differ", "conv.weight"), f"{TABLE}, Scale factor")
def scale_doubled() -> Result:
    """The scale of the convolution's weight is doubled in the quantized file: every weight counts twice."""

    def double(graph: GraphProto) -> None:
        initializer_changed(graph, weight_quantizer(graph).input[1], lambda scale: scale * 2)

    return optimized(edited(copied(eight_bits()), double))


@fault(finding("asked_not_found", "layerwise in 1"), f"{TABLE}, Quantization granularity")
def scales_by_channel_asked_and_one_by_layer_delivered() -> Result:
    """Dynamic quantization is asked for scales by channel; ONNX Runtime gives the convolution a single one."""
    return quantized(Dynamic(granularity="channel"))


@fault(finding("asked_not_found", "uint8"), f"{TABLE}, Weight quantization: precision; NNCF: mode, backup_mode")
def four_bits_asked_and_eight_delivered() -> Result:
    """NNCF is asked to compress half of the weights to 4-bit integers; all get 8 bits, and it says nothing of it."""
    asked = captured("asked.precision", "weights int4", {"weights": ["int4"]}, source="argument of the optimizer")
    return optimized(_compressed(), asked, before=architecture(perceptron))


@fault(finding("runs_in_float", "2 of 2"), SLOWER)
def sixteen_bits_that_run_in_float() -> Result:
    """Activations become 16-bit integers in the file; ONNX Runtime has no kernels for them and computes in float."""
    return quantized(Static(activations="int16", subset_size=SUBSET))


@fault(finding("runs_in_float", "4 of 4"), f"{SLOWER}; NNCF issue 123: activations by channel")
def activations_by_channel_that_run_in_float() -> Result:
    """NNCF's defaults on depthwise convolutions give activations scales by channel, which ONNX Runtime computes in float."""
    return quantized(NNCF(subset_size=SUBSET), model=architecture(Separable))


def _compressed() -> Path:
    # NNCF takes seconds to import, and a list of the trials does not need it
    import nncf

    model = onnx.load(copied(architecture(perceptron)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_ASYM, ratio=0.5, group_size=16)
    path = scratch.folder() / "model.onnx"
    onnx.save(done, path)
    return path
