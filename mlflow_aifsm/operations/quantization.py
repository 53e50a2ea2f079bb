"""What is asked of a post-training quantization: in the words of the field, or in a tool's own keywords.

``Static``, ``Dynamic`` and ``WeightOnly`` say what the file shall be; a backend that cannot do it is refused before it starts.
``NNCF`` and ``ORT`` hold the keywords of ``nncf.quantize`` and ``onnxruntime.quantization.quantize_static``, verbatim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mlflow_aifsm.operations.checks import between, check_parts, names, one_of, positive

WEIGHTS, ACTIVATIONS = "weights", "activations"
INTEGERS = ("int8", "uint8", "int16", "uint16")
NARROW = ("int4", "uint4")
SCHEMES = ("symmetric", "asymmetric")
GRANULARITIES = ("layer", "channel", "group")
RANGES = ("max_abs", "min_max", "mean_min_max", "percentile", "entropy", "mse")
BACKENDS = ("auto", "onnxruntime", "nncf")
RUNTIMES = ("onnxruntime", "openvino")
BIAS = (None, True, False, "auto")
WEIGHT_ONLY_BITS = (2, 4, 8)
GROUPS = (16, 32, 64, 128, 256)
"""Sizes of a group that ONNX Runtime's MatMulNBits takes."""


@dataclass(frozen=True, slots=True)
class Static:
    """Integer quantization of weights and activations with calibrated ranges (Wu et al. 2020, arXiv 2004.09602).

    Args:
        weights: ``int8``, ``uint8``, ``int16``, ``uint16``, ``int4`` or ``uint4``.
        activations: ``uint8``, ``int8``, ``uint16`` or ``int16``.
        scheme: ``symmetric`` for both; ``asymmetric`` for activations, with weights symmetric, because a zero point of theirs
            would cost time (section 3.1 there); or ``{"weights": …, "activations": …}``.
        granularity: That of the weights, ``channel`` or ``layer``, with activations by layer, which runtimes have kernels for;
            or ``{"weights": …, "activations": …}``.
        ranges: How the range of an activation is found: ``max_abs``, ``min_max``, ``mean_min_max`` (mean over samples of each
            sample's extremes, NNCF's own default), ``percentile``, ``entropy`` (KL divergence) or ``mse``.
        percentile: Share of absolute values that a range keeps, in percent, for ``percentile``.
        subset_size: Number of calibration samples to read.
        overrides: Settings by layer: ``{"layer4.*": {"activations": "uint16"}}``; keys as in ``keep_float``, settings are
            ``weights``, ``activations``, ``scheme`` and ``ranges``.
        keep_float: Layers that stay in floating point: module paths (``layer4.conv2``), node names or operator types, with the
            wildcards ``*`` and ``?``.
        accuracy_target: Largest drop of accuracy, ratio in (0, 1): the most sensitive layers stay in float until it is met on
            the calibration data, by their labels, or, without labels, by agreement with the float model.
        bias_correction: Whether biases make up for the mean error of quantized layers; ``"auto"`` measures with and without and
            delivers the better one; None for the backend's default.
        backend: ``onnxruntime``, ``nncf``, or ``auto`` for the one that ``runs_on`` runs in integers.
        runs_on: The runtime that defaults are chosen for: ``onnxruntime`` or ``openvino``.

    Raises:
        InputError: If a word is not one of those above, or a number is out of its range.
    """

    weights: str = "int8"
    activations: str = "uint8"
    scheme: str | Mapping[str, str] = "asymmetric"
    granularity: str | Mapping[str, str] = "channel"
    ranges: str = "mean_min_max"
    percentile: float = 99.99
    subset_size: int = 300
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    keep_float: tuple[str, ...] = ()
    accuracy_target: float | None = None
    bias_correction: bool | Literal["auto"] | None = None
    backend: str = "auto"
    runs_on: str = "onnxruntime"

    def __post_init__(self) -> None:
        one_of("weights", self.weights, (*INTEGERS, *NARROW))
        one_of("activations", self.activations, INTEGERS)
        check_parts("scheme", self.scheme, SCHEMES, (WEIGHTS, ACTIVATIONS))
        check_parts("granularity", self.granularity, GRANULARITIES, (WEIGHTS, ACTIVATIONS))
        one_of("ranges", self.ranges, RANGES)
        positive("subset_size", self.subset_size)
        one_of("backend", self.backend, BACKENDS)
        one_of("runs_on", self.runs_on, RUNTIMES)
        one_of("bias_correction", self.bias_correction, BIAS)
        between("percentile", self.percentile, 50, 100)
        if self.accuracy_target is not None:
            between("accuracy_target", self.accuracy_target, 0, 1)
        object.__setattr__(self, "keep_float", names("keep_float", self.keep_float))
        for layer, settings in self.overrides.items():
            _check_override(layer, settings)

    @property
    def schemes(self) -> dict[str, str]:
        """The scheme of weights and that of activations."""
        if isinstance(self.scheme, str):
            return {WEIGHTS: "symmetric", ACTIVATIONS: self.scheme}
        return {WEIGHTS: "symmetric", ACTIVATIONS: "asymmetric", **self.scheme}

    @property
    def granularities(self) -> dict[str, str]:
        """The granularity of weights and that of activations."""
        if isinstance(self.granularity, str):
            return {WEIGHTS: self.granularity, ACTIVATIONS: "layer"}
        return {WEIGHTS: "channel", ACTIVATIONS: "layer", **self.granularity}


@dataclass(frozen=True, slots=True)
class Dynamic:
    """Integer quantization whose activation ranges are found while the model runs; it takes no calibration data.

    Args:
        weights: ``uint8`` or ``int8``.
        scheme: Scheme of the weights.
        granularity: Granularity of the weights, ``layer`` or ``channel``.
        keep_float: Layers that stay in floating point, as in ``Static``.

    Raises:
        InputError: If a word is not one of those above.
    """

    weights: str = "uint8"
    scheme: str = "symmetric"
    granularity: str = "layer"
    keep_float: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        one_of("weights", self.weights, ("uint8", "int8"))
        one_of("scheme", self.scheme, SCHEMES)
        one_of("granularity", self.granularity, ("layer", "channel"))
        object.__setattr__(self, "keep_float", names("keep_float", self.keep_float))


@dataclass(frozen=True, slots=True)
class WeightOnly:
    """Weight quantization: weights of linear layers become integers in groups, activations stay float. It takes no data.

    Args:
        bits: 2, 4 or 8.
        group_size: Weights along the reduced axis that share a scale: 16, 32, 64, 128 or 256.
        scheme: ``symmetric`` or ``asymmetric``.
        keep_float: Layers that stay in floating point, as in ``Static``.

    Raises:
        InputError: If a setting is not one of those above.
    """

    bits: int = 4
    group_size: int = 32
    scheme: str = "symmetric"
    keep_float: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        one_of("bits", self.bits, WEIGHT_ONLY_BITS)
        one_of("group_size", self.group_size, GROUPS)
        one_of("scheme", self.scheme, SCHEMES)
        object.__setattr__(self, "keep_float", names("keep_float", self.keep_float))


@dataclass(frozen=True, slots=True)
class NNCF:
    """Post-training quantization with ``nncf.quantize``; its own keywords, verbatim, None for NNCF's default.

    Args:
        preset: ``"performance"``, ``"mixed"`` or ``nncf.QuantizationPreset``.
        target_device: ``"ANY"``, ``"CPU"`` … or ``nncf.TargetDevice``.
        subset_size: Number of calibration samples to use.
        fast_bias_correction: Whether the fast algorithm corrects biases, where bias correction is on.
        model_type: ``"transformer"`` or ``nncf.ModelType``.
        ignored_scope: ``nncf.IgnoredScope`` or its keywords.
        advanced_parameters: ``nncf.AdvancedQuantizationParameters`` or its keywords, nested ones as mappings.

    Raises:
        InputError: If ``subset_size`` is no positive integer.
    """

    preset: Any = None
    target_device: Any = None
    subset_size: int = 300
    fast_bias_correction: bool = True
    model_type: Any = None
    ignored_scope: Any = None
    advanced_parameters: Any = None

    def __post_init__(self) -> None:
        positive("subset_size", self.subset_size)


@dataclass(frozen=True, slots=True)
class ORT:
    """Post-training quantization with ``onnxruntime.quantization.quantize_static``; its own keywords, verbatim.

    Enumerations may be given by name: ``"QInt8"``, ``"QDQ"``, ``"Entropy"``. All samples of the data are read, as that function
    does.

    Args:
        quant_format: ``"QDQ"`` or ``"QOperator"``.
        op_types_to_quantize: Operator types to quantize; all that the function knows if None.
        per_channel: Whether weights have a scale by channel.
        reduce_range: Whether weights use 7 bits.
        activation_type: ``"QInt8"``, ``"QUInt8"``, ``"QInt16"`` or ``"QUInt16"``.
        weight_type: The same, and ``"QInt4"`` or ``"QUInt4"``.
        nodes_to_quantize: Node names; all if None.
        nodes_to_exclude: Node names.
        use_external_data_format: Whether weights are written beside the file.
        calibrate_method: ``"MinMax"``, ``"Entropy"``, ``"Percentile"`` or ``"Distribution"``.
        extra_options: The function's own further options.
    """

    quant_format: Any = "QDQ"
    op_types_to_quantize: Any = None
    per_channel: bool = False
    reduce_range: bool = False
    activation_type: Any = "QInt8"
    weight_type: Any = "QInt8"
    nodes_to_quantize: Any = None
    nodes_to_exclude: Any = None
    use_external_data_format: bool = False
    calibrate_method: Any = "MinMax"
    extra_options: Any = None


Quantization = Static | Dynamic | WeightOnly | NNCF | ORT


def _check_override(layer: str, settings: Mapping[str, Any]) -> None:
    known = {"weights": (*INTEGERS, *NARROW), "activations": INTEGERS, "scheme": SCHEMES, "ranges": RANGES}
    for setting, word in settings.items():
        one_of(f"setting of overrides['{layer}']", setting, tuple(known))
        one_of(f"{setting} of overrides['{layer}']", word, known[setting])
