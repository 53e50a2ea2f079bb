"""Faults of the weights: other ones, damaged ones, coarser ones."""

from __future__ import annotations

import numpy as np
import torch

from mlflow_aifsm.result import Result
from mlflow_aifsm.sources import Array
from mlflow_aifsm.validation.bench import converted, exported, network, reweighted
from mlflow_aifsm.validation.models import digits
from mlflow_aifsm.validation.trial import failed, fault

HIGHEST_MANTISSA_BIT = np.uint32(1 << 22)


@fault(failed("largest difference"), "ED-324 / ARP6983 (draft 5b) 6.4.3.6c: parameters")
def batch_normalization_statistics_moved() -> Result:
    """Five batches run through the network in training mode before the export, which moves its running statistics."""
    module = network().train()
    with torch.no_grad():
        for batch in torch.split(torch.from_numpy(digits()["training"].images[:320]), 64):
            module(batch)
    return converted(exported(module.eval()), network())


@fault(failed("largest difference"), "EASA Concept Paper Issue 02, CM-01: configuration management of models")
def weights_of_another_training() -> Result:
    """The network is delivered with the weights of another training run, which is about as accurate."""
    return converted(exported(network(seed=1)), network())


@fault(failed("largest difference"), "Louloudakis et al. 2023, arXiv 2306.06157")
def one_flipped_mantissa_bit() -> Result:
    """The highest mantissa bit of the largest weight of the last layer is flipped."""

    def flipped(weight: Array) -> Array:
        place = np.unravel_index(np.abs(weight).argmax(), weight.shape)
        weight.view(np.uint32)[place] ^= HIGHEST_MANTISSA_BIT
        return weight

    return converted(reweighted(exported(network()), flipped), network())


@fault(failed("largest difference"), "Louloudakis et al. 2023, arXiv 2306.06157: precision of weights lost by a converter")
def silent_half_precision_round_trip() -> Result:
    """The weights of the last layer go through float16 and back; types and shapes do not show it."""
    return converted(reweighted(exported(network()), lambda weight: weight.astype(np.float16)), network())


@fault(failed("NaN or infinite"), "ONNX safety-related profile, AI-007: numeric instability")
def nan_weight() -> Result:
    """One weight of the last layer is NaN, with which every comparison is false."""

    def spoilt(weight: Array) -> Array:
        weight.flat[0] = np.nan
        return weight

    return converted(reweighted(exported(network()), spoilt), network())
