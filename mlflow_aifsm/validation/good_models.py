"""Good models: five architectures frozen, one in two ways, one converted elsewhere, one quantized. None may be accused."""

from __future__ import annotations

from mlflow_aifsm.operations.configs import BATCH, Pt2
from mlflow_aifsm.result import Result
from mlflow_aifsm.validation.bench import converted, exported, frozen, good, network, quantized
from mlflow_aifsm.validation.models import Attention, Recurrent, Residual, perceptron, trained
from mlflow_aifsm.validation.trial import good_model


@good_model
def convolution() -> Result:
    """Convolution, batch normalization, dropout; frozen."""
    return good()


@good_model
def residual() -> Result:
    """Depthwise separable convolution with a residual connection and ReLU6; frozen."""
    return frozen(trained(Residual))


@good_model
def recurrent() -> Result:
    """GRU; frozen."""
    return frozen(trained(Recurrent))


@good_model
def attention() -> Result:
    """Encoder layer of a transformer; frozen."""
    return frozen(trained(Attention))


@good_model
def multilayer_perceptron() -> Result:
    """Layer normalization and GELU; frozen."""
    return frozen(trained(perceptron))


@good_model
def convolution_as_pt2() -> Result:
    """The convolution, frozen to a pt2 archive of PyTorch."""
    return frozen(network(), Pt2(dynamic_shapes=BATCH))


@good_model
def converted_elsewhere() -> Result:
    """The convolution, converted without this tool, with its weights in a second file; recorded and verified."""
    return converted(exported(network(), external_data=True), network())


@good_model
def quantized_to_8_bits() -> Result:
    """The convolution, quantized after training; verified against the float model."""
    return quantized()
