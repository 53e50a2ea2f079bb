"""Faults of the data: what a converter builds in before the first layer, and what a calibration is given."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mlflow_aifsm.operations.quantization import Static
from mlflow_aifsm.result import Result
from mlflow_aifsm.validation.bench import SUBSET, converted, exported, network, quantized, raw
from mlflow_aifsm.validation.models import BRIGHTEST, Digits, digits
from mlflow_aifsm.validation.trial import failed, fault, finding

CALIBRATION = "Wu et al. 2020, arXiv 2004.09602, section 3.4: calibration"
PREPROCESSING = "Louloudakis et al. 2023, arXiv 2312.15101: faults of input and preprocessing"
THREE = 3
"""The one class of a calibration."""


class Prepared(nn.Module):
    """A network behind its preprocessing, as a converter builds it into the file."""

    def __init__(self, divisor: float = BRIGHTEST, *, transposed: bool = False) -> None:
        super().__init__()
        self.inner, self.divisor, self.transposed = network(), divisor, transposed

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Class scores ``[n, 10]`` of raw images ``[n, 1, 8, 8]``, 0 … 16."""
        scaled = image / self.divisor
        return self.inner(scaled.transpose(2, 3) if self.transposed else scaled)  # type: ignore[no-any-return]


@fault(failed("largest difference"), PREPROCESSING)
def wrong_normalization() -> Result:
    """The converter builds a division by 255 into the file, where the network was trained on pixels divided by 16."""
    return converted(exported(Prepared(255.0).eval()), Prepared().eval(), raw())


@fault(failed("largest difference"), PREPROCESSING)
def transposed_input() -> Result:
    """The converter takes rows for columns; the image is square, so no shape shows it."""
    return converted(exported(Prepared(transposed=True).eval()), Prepared().eval(), raw())


@fault(finding("data_reused", "samples are in both"), "Automotive SPICE 4.0, MLE.4 BP2; EASA Concept Paper Issue 02, DM-06")
def verification_data_reused_for_calibration() -> Result:
    """Half of the calibration samples are verification samples; every number of the verification stays good."""
    halves = [digits()[use].part(slice(60)) for use in ("verification", "calibration")]
    mixed = Digits(np.concatenate([half.images for half in halves]), np.concatenate([half.labels for half in halves]))
    return quantized(calibration=mixed)


@fault(finding("data_reused", "100 samples are in both"), "Automotive SPICE 4.0, MLE.4 BP2; EASA Concept Paper Issue 02, DM-06")
def calibration_data_reused_for_verification() -> Result:
    """The model is verified on the samples that it was calibrated with, under another name and version."""
    return quantized(Static(subset_size=SUBSET), judged="calibration")


@fault(failed("accuracy"), f"{PREPROCESSING}; {CALIBRATION}")
def calibration_on_wrongly_scaled_data() -> Result:
    """The quantizer calibrates on pixels divided by 255 once more, so all activations saturate."""
    given = digits()["calibration"]
    return quantized(calibration=Digits(given.images / 255, given.labels))


@fault(finding("fewer_calibration_samples", "8 samples"), CALIBRATION)
def calibration_on_too_few_samples() -> Result:
    """The quantizer is asked to read 100 samples and gets eight."""
    return quantized(calibration=digits()["calibration"].part(slice(8)))


@fault(finding("fewer_calibration_samples", "1 sample"), CALIBRATION)
def calibration_on_one_sample() -> Result:
    """One image stands for all; on this network the accuracy does not even suffer."""
    return quantized(Static(subset_size=SUBSET), digits()["calibration"].part(slice(1)))


@fault(finding("one_class_calibration", "1 class"), CALIBRATION)
def calibration_on_one_class() -> Result:
    """All images for calibration show a three, as many of them as were asked for; the accuracy does not suffer."""
    given = digits()["calibration"]
    return quantized(Static(subset_size=10), given.part(given.labels == THREE))


@fault(finding("constant_calibration_data", "image", "one value everywhere"), CALIBRATION)
def calibration_on_zeros() -> Result:
    """All images for calibration are black, as from a camera whose cap is on."""
    given = digits()["calibration"]
    return quantized(Static(subset_size=SUBSET), Digits(np.zeros_like(given.images), given.labels))
