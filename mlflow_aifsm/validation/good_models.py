"""Good models: five architectures, one in two ways and converted elsewhere, some quantized or pruned. None may be accused."""

from __future__ import annotations

from dataclasses import replace

from mlflow_aifsm.operations.configs import BATCH, Pt2
from mlflow_aifsm.operations.optimization import optimization
from mlflow_aifsm.operations.pruning import Magnitude
from mlflow_aifsm.operations.quantization import ORT, Dynamic, Static, WeightOnly
from mlflow_aifsm.result import Result
from mlflow_aifsm.samples import Data
from mlflow_aifsm.validation.bench import (
    PERSON,
    SUBSET,
    architecture,
    converted,
    eight_bits,
    exported,
    frozen,
    good,
    half,
    held_out,
    network,
    pruned,
    quantized,
    sparse,
)
from mlflow_aifsm.validation.models import Attention, Recurrent, Residual, digits, perceptron, trained
from mlflow_aifsm.validation.trial import good_model

UNTRAINED = {"accuracy_drop": 0.03}
"""What one pruning without training after it may cost."""


@good_model
def convolution() -> Result:
    """Convolution, batch normalization, dropout; frozen."""
    return good()


@good_model
def residual() -> Result:
    """Depthwise separable convolution with a residual connection and ReLU6; frozen."""
    return architecture(Residual)


@good_model
def recurrent() -> Result:
    """GRU; frozen."""
    return frozen(trained(Recurrent))


@good_model
def attention() -> Result:
    """Encoder layer of a transformer; frozen."""
    return architecture(Attention)


@good_model
def multilayer_perceptron() -> Result:
    """Layer normalization and GELU; frozen."""
    return architecture(perceptron)


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
    """The convolution, quantized by NNCF, activations by layer; its linear layer runs in float for its bias, which is usual."""
    return eight_bits()


@good_model
def quantized_by_the_default() -> Result:
    """The convolution, statically quantized by this tool's default: mean of each sample's extremes."""
    return quantized(Static(subset_size=SUBSET))


@good_model
def quantized_with_entropy() -> Result:
    """The convolution, its ranges found by divergence."""
    return quantized(Static(ranges="entropy", subset_size=SUBSET))


@good_model
def quantized_with_a_percentile() -> Result:
    """The convolution, its ranges the 99.99th percentile."""
    return quantized(Static(ranges="percentile", percentile=99.99, subset_size=SUBSET))


@good_model
def percentile_of_onnx_runtime() -> Result:
    """The convolution, quantized by ONNX Runtime with its own percentile, which on so few values is their extreme."""
    return quantized(ORT(calibrate_method="Percentile", per_channel=True))


@good_model
def dynamically_quantized() -> Result:
    """The convolution, its activations quantized while it runs."""
    return quantized(Dynamic())


@good_model
def weights_alone_quantized() -> Result:
    """The convolution, weights of its linear layer 4-bit integers in groups; all layers compute in float, as asked."""
    return quantized(WeightOnly())


@good_model
def partially_quantized() -> Result:
    """The convolution, which stays in float as asked, its linear layer quantized."""
    return quantized(Static(keep_float=("conv",), subset_size=SUBSET))


@good_model
def residual_quantized() -> Result:
    """The residual network with its depthwise convolution, statically quantized."""
    return quantized(Static(subset_size=SUBSET), model=architecture(Residual))


@good_model
def attention_quantized() -> Result:
    """The transformer's encoder layer, statically quantized; what its additions and normalizations hold are no weights."""
    return quantized(Static(subset_size=SUBSET), model=architecture(Attention))


@good_model
def perceptron_quantized() -> Result:
    """The perceptron with layer normalization, statically quantized."""
    return quantized(Static(subset_size=SUBSET), model=architecture(perceptron))


@good_model
def pruned_by_element() -> Result:
    """The convolution, half of its weights pruned, each alone."""
    return half()


@good_model
def pruned_by_vector() -> Result:
    """The convolution, four neighbouring inputs pruned as a whole."""
    return _tiled(Magnitude(0.2, pattern="vector:4"))


@good_model
def pruned_by_block() -> Result:
    """The convolution, four output channels by four inputs pruned as a whole."""
    return _tiled(Magnitude(0.3, pattern="block:4x4"))


@good_model
def pruned_by_group() -> Result:
    """The convolution, the same kernel position in all filters of a layer pruned as a whole."""
    return _tiled(Magnitude(0.2, pattern="group"))


@good_model
def pruned_by_channel() -> Result:
    """The convolution without one of its output channels."""
    return _tiled(Magnitude(0.125, "local", "channel", keep_dense=("fc",)))


@good_model
def two_of_four_kept() -> Result:
    """The perceptron, two of every four neighbouring inputs kept."""
    return _tiled(Magnitude(pattern="2:4"), architecture(perceptron))


@good_model
def pruned_and_trained_in_steps() -> Result:
    """The convolution, pruned as a module in three steps with training after each."""
    return sparse()


@good_model
def pruned_and_quantized() -> Result:
    """The convolution, four in ten of its weights pruned, then quantized to 8 bits, in one log."""
    given = digits()["calibration"]
    with optimization(good(), verification=held_out(), responsible=PERSON) as steps:
        steps.prune(Magnitude(0.4))
        steps.quantize(Data(given.images, name="digits", labels=given.labels), Static(subset_size=SUBSET))
    return steps.result


def _tiled(config: Magnitude, model: Result | None = None) -> Result:
    limited = replace(held_out(), limits=UNTRAINED, reason="nothing was trained after the pruning")
    return pruned(model or good(), config, limited)
