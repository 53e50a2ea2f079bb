"""``Dynamic`` and ``WeightOnly``: quantizations that take no calibration data."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from mlflow_aifsm.backends import onnxruntime
from mlflow_aifsm.backends.quantized import Quantized
from mlflow_aifsm.capture.layer_names import selected
from mlflow_aifsm.capture.onnx_graph import opened
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import not_applicable
from mlflow_aifsm.operations.asked import asked
from mlflow_aifsm.operations.outcome import Outcome, Task, kept_reasons, uncorrected
from mlflow_aifsm.operations.quantization import Dynamic, WeightOnly

PACKAGES = ("onnxruntime", "onnx")


def quantize_dynamic(task: Task, config: Dynamic) -> Outcome:
    """Makes a file whose activation ranges are found at run time.

    Raises:
        InputError: If ``keep_float`` names no layer, or there are calibration data, which nothing would read.
        OptimizationError: If ONNX Runtime refuses.
    """
    keep = _kept(task, config.keep_float)
    done = onnxruntime.dynamic(
        task.path,
        {
            "per_channel": config.granularity == "channel",
            "weight_type": onnxruntime.TYPES[config.weights],
            **({"nodes_to_exclude": list(keep)} if keep else {}),
            "extra_options": {"WeightSymmetric": config.scheme == "symmetric"},
        },
    )
    reason = "no calibration: the range of each activation is computed while the model runs"
    return _outcome(done, config, keep, reason)


def quantize_weights(task: Task, config: WeightOnly) -> Outcome:
    """Makes a file whose linear layers have integer weights.

    Raises:
        InputError: If ``keep_float`` names no layer, or there are calibration data, which nothing would read.
        OptimizationError: If ONNX Runtime refuses.
    """
    keep = _kept(task, config.keep_float)
    symmetric = config.scheme == "symmetric"
    keywords: dict[str, Any] = {"bits": config.bits, "block_size": config.group_size, "is_symmetric": symmetric}
    done = onnxruntime.weight_only(task.path, {**keywords, **({"nodes_to_exclude": list(keep)} if keep else {})})
    return _outcome(done, config, keep, "no calibration: activations stay in floating point")


def _kept(task: Task, patterns: tuple[str, ...]) -> dict[str, str]:
    if task.samples is not None:
        raise InputError("calibration data", got=task.samples.name, expected="none: this quantization reads no data")
    return kept_reasons(selected(opened(task.path), patterns, "keep_float"))


def _outcome(done: Quantized, config: Dynamic | WeightOnly, keep: dict[str, str], reason: str) -> Outcome:
    calibration = not_applicable("calibration.method", reason, source="this operation")
    return Outcome(
        done,
        f"ONNX Runtime {version('onnxruntime')}",
        PACKAGES,
        (calibration, *asked(config), uncorrected()),
        reasons=keep,
        kept=tuple(keep),
    )
