"""Recorders of NNCF's functions, which take models of several frameworks: ONNX graphs, PyTorch modules, and others."""

from __future__ import annotations

import sys
from collections.abc import Generator
from importlib.metadata import version
from typing import Any

import onnx

from mlflow_aifsm.autologging.call import Call
from mlflow_aifsm.capture.environment import package_fact
from mlflow_aifsm.facts import captured, not_recorded
from mlflow_aifsm.hooks.arguments import kind
from mlflow_aifsm.hooks.external import ExternalRecording
from mlflow_aifsm.operations import rows

OBJECTS = ("model", "calibration_dataset", "validation_dataset", "dataset", "examples_inputs")
"""Arguments that are no settings."""


def quantize(log: ExternalRecording, call: Call) -> Generator[None, None, None]:
    """Records ``nncf.quantize`` and ``nncf.quantize_with_accuracy_control``."""
    model = call.arguments["model"]
    if isinstance(model, onnx.ModelProto):
        from mlflow_aifsm.autologging.nncf_onnx import quantized

        yield from quantized(log, call)
    elif _is_module(model):
        # PyTorch takes seconds to import, and an ONNX graph does not need it
        from mlflow_aifsm.autologging.nncf_module import quantized as in_module

        yield from in_module(log, call)
    else:
        yield from _unread(log, call)


def compress_weights(log: ExternalRecording, call: Call) -> Generator[None, None, None]:
    """Records ``nncf.compress_weights``."""
    model = call.arguments["model"]
    if isinstance(model, onnx.ModelProto):
        from mlflow_aifsm.autologging.nncf_onnx import compressed

        yield from compressed(log, call)
    elif _is_module(model):
        from mlflow_aifsm.autologging.nncf_module import compressed as in_module

        yield from in_module(log, call)
    else:
        yield from _unread(log, call)


def prune(log: ExternalRecording, call: Call) -> Generator[None, None, None]:
    """Records ``nncf.prune``, which takes PyTorch modules."""
    from mlflow_aifsm.autologging.nncf_pruning import pruned

    yield from pruned(log, call)


def _is_module(model: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def _unread(log: ExternalRecording, call: Call) -> Generator[None, None, None]:
    """A model of a framework whose quantizers nobody can read here: the call is told, and where the values would come from."""
    of = kind(call.arguments["model"])
    yield
    log.add(captured("quantization.framework", f"NNCF {version('nncf')}", version("nncf"), source="installed packages"))
    log.add(package_fact("quantization.packages", ("nncf",)), *rows.not_trained(call.function))
    said, shown = call.settings(OBJECTS)
    log.call("quantization.call", call.function, said, shown)
    reason = f"the call made a {of}, which cannot be read here"
    remedy = "record its ONNX file with record_optimization"
    names = ("precision", "scheme", "technique", "granularity", "transformation", "scale")
    log.add(*(not_recorded(f"quantizers.{name}", reason, remedy) for name in names))
