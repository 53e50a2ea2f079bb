"""Faults of the data: what a converter builds in before the first layer, and what a calibration is given."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mlflow_aifsm.result import Result
from mlflow_aifsm.validation.bench import converted, exported, network, quantized, raw
from mlflow_aifsm.validation.models import BRIGHTEST, digits
from mlflow_aifsm.validation.trial import failed, fault, finding

PREPROCESSING = "Louloudakis et al. 2023, arXiv 2312.15101: faults of input and preprocessing"


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
    return quantized(np.concatenate([digits()[use].images[:60] for use in ("verification", "calibration")]))


@fault(failed("accuracy"), f"{PREPROCESSING}; Wu et al. 2020, arXiv 2004.09602, section 3.4: calibration")
def calibration_on_wrongly_scaled_data() -> Result:
    """The quantizer calibrates on pixels divided by 255 once more, so all activations saturate."""
    return quantized(digits()["calibration"].images / 255)


@fault(finding("fewer_calibration_samples", "8 samples"), "Wu et al. 2020, arXiv 2004.09602, section 3.4: calibration")
def calibration_on_too_few_samples() -> Result:
    """The quantizer is asked to read 100 samples and gets eight."""
    return quantized(digits()["calibration"].images[:8])
