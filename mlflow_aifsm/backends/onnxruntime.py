"""ONNX Runtime's quantizers: a float ONNX file in, a quantized one out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    calibrate,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.calibrate import TensorData, TensorsData, load_tensors_data, save_tensors_data
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from mlflow_aifsm import scratch
from mlflow_aifsm.backends.graph_rewrites import (
    is_readable,
    linear_as_product,
    named,
    outputs_in_float,
    readable,
    without_value_info,
)
from mlflow_aifsm.backends.quantized import Quantized, differing, failed, plain, resolved, saved
from mlflow_aifsm.backends.silence import Filter, root_logger_kept, silent, told
from mlflow_aifsm.capture.frozen import copied
from mlflow_aifsm.errors import InputError

with root_logger_kept():
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

Batch = dict[str, Any]
Ranges = Mapping[str, tuple[float, float]]

KINDS: Mapping[str, type[Enum]] = {
    "quant_format": QuantFormat,
    "activation_type": QuantType,
    "weight_type": QuantType,
    "calibrate_method": CalibrationMethod,
}
"""Keywords that are enumerations."""

PLACES = ("model_input", "model_output", "calibration_data_reader", "calibration_cache_path")
"""Arguments that say where things are, not what is asked."""

TYPES: Mapping[str, QuantType] = {
    "int8": QuantType.QInt8,
    "uint8": QuantType.QUInt8,
    "int16": QuantType.QInt16,
    "uint16": QuantType.QUInt16,
    "int4": QuantType.QInt4,
    "uint4": QuantType.QUInt4,
}
"""Types of codes by their usual names."""


QUANTIZABLE = frozenset({*QDQRegistry, *QLinearOpsRegistry})
"""Operator types around which ``quantize_static`` may place quantizers."""

PASSING = frozenset(
    {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Resize", "MaxPool", "AveragePool", "Slice", "Pad"}
    | {"Split", "Gather", "GatherElements", "TopK"}
)
"""Operators whose output has the quantization of their input."""

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that multiply weights with data."""

_ADVICE = Filter(logging.ERROR, Path(onnxruntime.__file__).parent)
"""ONNX Runtime advises through the root logger, to run a preprocessing that is not needed for instance."""


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Samples in the form that ONNX Runtime's calibrators read."""

    def __init__(self, samples: Iterable[Batch]) -> None:
        self._samples = iter(samples)

    def get_next(self) -> Batch | None:
        return next(self._samples, None)


def static(path: Path, samples: Iterable[Batch], keywords: Mapping[str, Any]) -> tuple[Quantized, Ranges]:
    """Calls ``quantize_static`` with its own calibration.

    Args:
        path: The float file.
        samples: Calibration samples by input name, each ``[1, …]``.
        keywords: Keywords of ``quantize_static``; None stands for its default.

    Returns:
        The file, and the ranges as ONNX Runtime's calibrator wrote them into its cache, by tensor; it has more of them than
        the file has quantizers.

    Raises:
        InputError: If a keyword's value is not one that ONNX Runtime knows.
        OptimizationError: If it refuses or fails.
    """
    given = {name: _native(name, value) for name, value in keywords.items() if value is not None}
    with scratch.temporary() as folder:
        cache = folder / "ranges.json"
        done = _called(path, scratch.folder(), given, _Reader(samples), calibration_cache_path=cache)
        return done, cached_ranges(cache)


def cached_ranges(cache: Path) -> Ranges:
    """The ranges that ONNX Runtime's calibrator wrote into its cache, by tensor."""
    found = load_tensors_data(cache)
    return {name: (float(np.min(found[name].lowest)), float(np.max(found[name].highest))) for name in found}


def placed(path: Path, ranges: Ranges, keywords: Mapping[str, Any]) -> Quantized:
    """Calls ``quantize_static`` with ranges that are known, through its calibration cache.

    A matrix product at the end of the graph keeps its output in float: its class scores would be rounded, and what is above the
    range would be equal.

    Args:
        path: The float file.
        ranges: β and α by name of each activation tensor that may be quantized.
        keywords: Keywords of ``quantize_static``.

    Raises:
        OptimizationError: If ONNX Runtime refuses or fails.
    """
    known = {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.items()}
    with scratch.temporary() as folder:
        cache = folder / "ranges.json"
        save_tensors_data(TensorsData(CalibrationMethod.MinMax, known), cache)
        done = _called(path, folder, _with_relus(keywords, ranges), None, calibration_cache_path=cache)
        model = outputs_in_float(onnx.load(done.path), onnx.load(path, load_external_data=False))
    return Quantized(saved(model), done.function, done.arguments, done.shown)


def _with_relus(keywords: Mapping[str, Any], ranges: Ranges) -> dict[str, Any]:
    """``keywords`` that keep ReLUs where a tensor alone is symmetric: its range reaches below 0 and cannot stand for one."""
    options = keywords.get("extra_options", {})
    alone = [one for name, [one] in options.get("TensorQuantOverrides", {}).items() if name in ranges]
    kept = {"QDQKeepRemovableActivations": True} if any(one.get("symmetric") for one in alone) else {}
    return {**keywords, "extra_options": {**options, **kept}}


def dynamic(path: Path, keywords: Mapping[str, Any]) -> Quantized:
    """Calls ``quantize_dynamic``.

    Shapes noted in the graph are left out first: it changes a weight's layout and would contradict them. Linear layers are
    written as product and sum first, as it does itself, but under names of its own, by which no layer could be left out.

    Raises:
        OptimizationError: If ONNX Runtime refuses or fails.
    """
    name, delivered = "onnxruntime.quantization.quantize_dynamic", scratch.folder() / "model.onnx"
    try:
        with _quiet():
            model = without_value_info(linear_as_product(readable(named(onnx.load(path)))))
            quantize_dynamic(model, str(delivered), **deepcopy(dict(keywords)))
            onnx.checker.check_model(str(delivered))  # its sorting does not look into branches
    except Exception as error:
        raise failed(name, error) from error
    arguments = resolved(quantize_dynamic, keywords, PLACES)
    return Quantized(delivered, name, plain(arguments), plain(differing(quantize_dynamic, arguments)))


def weight_only(path: Path, keywords: Mapping[str, Any]) -> Quantized:
    """Calls ``MatMulNBitsQuantizer`` on the graph with each linear layer written as a product and a sum, which it can read.

    Raises:
        OptimizationError: If ONNX Runtime refuses or fails.
    """
    name = "onnxruntime.quantization.matmul_nbits_quantizer.MatMulNBitsQuantizer"
    try:
        with _quiet():
            quantizer = MatMulNBitsQuantizer(linear_as_product(readable(named(onnx.load(path)))), **keywords)
            quantizer.process()
    except Exception as error:
        raise failed(name, error) from error
    arguments = resolved(MatMulNBitsQuantizer.__init__, keywords, ("model", "self"))
    shown = differing(MatMulNBitsQuantizer.__init__, arguments)
    return Quantized(saved(quantizer.model.model), name, plain(arguments), plain(shown))


def _called(path: Path, folder: Path, given: dict[str, Any], reader: _Reader | None, **places: Path) -> Quantized:
    """``quantize_static`` into ``folder``; what it would write beside the file, under one name at each call, lies elsewhere."""
    name, delivered = "onnxruntime.quantization.quantize_static", folder / "model.onnx"
    try:
        with _quiet(), scratch.temporary() as beside:
            quantize_static(_readable(path, beside), str(delivered), reader, **given, **places)
            onnx.checker.check_model(str(delivered))  # its sorting does not look into branches
    except InputError:  # of the samples
        raise
    except Exception as error:
        raise failed(name, error) from error
    arguments = resolved(quantize_static, given, PLACES)
    return Quantized(delivered, name, plain(arguments), plain(differing(quantize_static, arguments)))


def _readable(path: Path, folder: Path) -> str | onnx.ModelProto:
    """The file as ``quantize_static`` can read it: a copy in ``folder``, or rewritten."""
    if not is_readable(onnx.load(path, load_external_data=False)):
        return readable(onnx.load(path))
    # a copy, as onnx refuses external data that have a second name
    return str(copied(path, folder))


def _native(name: str, value: Any) -> Any:
    kind = KINDS.get(name)
    if kind is None or isinstance(value, kind):
        return value
    try:
        return kind[str(value)]
    except KeyError as error:
        expected = ", ".join(repr(one.name) for one in kind)
        raise InputError(f"keyword {name} of quantize_static", got=repr(value), expected=expected) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back ONNX Runtime's advice, and where nobody looks what its calibrators print, in this thread alone."""
    logging.root.addFilter(_ADVICE)  # adds it once
    vars(calibrate)["print"] = told
    with silent():
        yield
