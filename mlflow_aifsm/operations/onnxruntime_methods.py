"""The calibration that a call of ``quantize_static`` asked for, in the words of the log."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow_aifsm.backends.quantized import Quantized
from mlflow_aifsm.facts import Json

METHODS = {
    "MinMax": ("min_max", "Minimum and maximum value seen during calibration"),
    "Entropy": ("entropy", "Entropy (KL divergence), as asked of ONNX Runtime"),
    "Percentile": ("percentile", "Percentile of the distribution of absolute values"),
    "Distribution": ("distribution", "Distribution (for 8-bit floating point), as asked of ONNX Runtime"),
}
"""Calibration methods of ONNX Runtime: the log's word, and its phrase."""
AVERAGED = {
    False: ("mean_min_max", "Mean over samples of each sample's minimum and maximum"),
    True: ("moving_average", "Moving average of the minimum and maximum seen during calibration"),
}
"""What its ``CalibMovingAverage`` makes of minimum and maximum, without and with ``CalibMaxIntermediateOutputs``."""


def asked_of_onnxruntime(done: Quantized) -> tuple[str, str]:
    """The method that ONNX Runtime was asked for, in the log's word and in a phrase."""
    asked = str(done.arguments["calibrate_method"])
    short, words = METHODS.get(asked, (asked.lower(), asked))
    given: Mapping[str, Json] = done.arguments.get("extra_options") or {}
    options = {name: value for name, value in given.items() if name.startswith("Calib")}
    if short == "min_max" and options.get("CalibMovingAverage"):
        short, words = AVERAGED[bool(options.get("CalibMaxIntermediateOutputs"))]
    return short, words + (f", with {', '.join(f'{name}={value}' for name, value in options.items())}" if options else "")
