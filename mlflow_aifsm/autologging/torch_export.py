"""Recorder of ``torch.onnx.export``: the module as it went in, and the file, or the program in memory, that came out."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

from mlflow_aifsm import scratch
from mlflow_aifsm.autologging import in_memory, quantized_file
from mlflow_aifsm.autologging.call import Call
from mlflow_aifsm.autologging.compared import converted_module, take_module
from mlflow_aifsm.autologging.float_file import remember
from mlflow_aifsm.backends.exporters import Exported
from mlflow_aifsm.capture import torch_module
from mlflow_aifsm.errors import ConversionError, InputError
from mlflow_aifsm.hooks.external import ExternalRecording
from mlflow_aifsm.operations.configs import Onnx
from mlflow_aifsm.operations.freeze import convert
from mlflow_aifsm.operations.sources import SourceModel

OBJECTS = ("model", "args", "kwargs", "f")
"""Arguments that are no settings."""


def export(log: ExternalRecording, call: Call) -> Generator[None, None, None]:
    """Records ``torch.onnx.export`` with either exporter; of a module that was quantized in memory the file has a log, too."""
    arguments = call.arguments
    source = _source(arguments["model"], arguments["args"], arguments["kwargs"] or {})
    take_module(log, source.model, source.sha256)
    made = in_memory.found(source.model, source.sha256)
    converted_module(log, source.sha256, changed=made.how if made else in_memory.unrecorded(source.model))
    yield
    said, shown = call.settings(OBJECTS)
    exported = Exported(_file(arguments["f"], call.result), call.function, said, shown, 0)
    exporter = "dynamo" if arguments["dynamo"] else "torchscript"
    convert(log, source, Onnx(opset=arguments["opset_version"], exporter=exporter), None, exported)
    remember(log)
    if log.measurement is not None:
        in_memory.exported(source.sha256, exported.path, log.measurement.sha256)
    yield
    if made is not None and made.quantized:
        quantized_file.deliver(log.finished, made)


def _source(model: Any, args: Any, kwargs: Any) -> SourceModel:
    """What was read from the model before the call; a scripted function has neither layers nor parameters."""
    placed = args if isinstance(args, tuple) else (args,)
    try:
        digest = torch_module.state_digest(model)
    except InputError:
        digest = ""
    return SourceModel(model, placed, dict(kwargs), tuple(torch_module.facts(model)), (), digest)


def _file(target: Any, result: Any) -> Path:
    """Where the call left the model: its file, or what it returned or wrote to memory, in a file of its own.

    Raises:
        ConversionError: If it left none.
    """
    if isinstance(target, str | os.PathLike):
        return Path(os.fsdecode(target))
    path = scratch.folder() / "model.onnx"
    if result is not None and hasattr(result, "save"):
        result.save(str(path))
    elif hasattr(target, "getvalue"):
        path.write_bytes(target.getvalue())
    else:
        raise ConversionError("the export left no file that can be read", expected="argument f, or a returned program")
    return path
