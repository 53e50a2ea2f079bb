"""What an optimization starts from: a frozen ONNX model under any of its names, or a PyTorch model to be frozen on the way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mlflow_aifsm import lineage, scratch
from mlflow_aifsm.capture.onnx_graph import file_set
from mlflow_aifsm.digests import FileDigest
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.flavor import EXTRAS
from mlflow_aifsm.lineage import VerifiedModel
from mlflow_aifsm.record import Record
from mlflow_aifsm.result import Result
from mlflow_aifsm.samples import Samples
from mlflow_aifsm.tracking.keys import RECORD

EXAMPLES = 2
"""Samples of an example batch: with one, the exporter would take the batch axis for a constant."""


@dataclass(frozen=True, slots=True)
class FloatModel:
    """The float file, what it was made of, and its place in the chain.

    Attributes:
        path: The file.
        files: Its file set.
        model: The verified learning model at the beginning of the chain.
        source_uri: The registered version or logged model that the file is; empty for a file of nobody's.
        model_id: Its logged model.
        input_id: The conversion that made it.
    """

    path: Path
    files: tuple[FileDigest, ...]
    model: VerifiedModel | None
    source_uri: str = ""
    model_id: str = ""
    input_id: str = ""


def is_torch(model: Any) -> bool:
    """Whether ``model`` is a PyTorch model that must be frozen first: a module, an exported program, or the URI of one.

    Raises:
        NotFoundError: If a URI names no model.
    """
    if isinstance(model, str) and model.startswith(("models:/", "runs:/")):
        flavors = lineage.resolve(model).flavors
        return "onnx" not in flavors and "pytorch" in flavors
    kinds = {kind.__module__.partition(".")[0] + "." + kind.__qualname__ for kind in type(model).__mro__}
    return bool(kinds & {"torch.Module", "torch.ExportedProgram"})


def example(samples: Samples | None) -> Any:
    """Example inputs for a freeze: the first samples of the calibration data.

    Raises:
        InputError: If there are none.
    """
    first = None if samples is None else next(samples.first(EXAMPLES).batches(EXAMPLES, ()), None)
    if first is None:
        raise InputError(
            "a PyTorch model is frozen on the way", expected="example_inputs, or data", remedy="pass example_inputs="
        )
    arrays = {name: _single(array) for name, array in first[0].items()}
    if set(arrays) == {str(number) for number in range(len(arrays))}:
        return tuple(arrays.values()) if len(arrays) > 1 else next(iter(arrays.values()))
    return arrays if len(arrays) > 1 else next(iter(arrays.values()))


def _single(array: Any) -> Any:
    """Doubles as float32, as the run casts them too."""
    return array.astype(np.float32) if array.dtype == np.float64 else array


def opened(model: Any, verified_model: str | None) -> FloatModel:
    """The file behind ``model``.

    Args:
        model: Result of a freeze, path or URI of an ONNX model, or an ``onnx.ModelProto``.
        verified_model: URI or id of the verified learning model, where ``model`` does not tell.

    Raises:
        InputError: If it is no frozen ONNX model.
        NotFoundError: If a URI names no model.
    """
    verified = lineage.named(verified_model)
    if isinstance(model, Result):
        return _from_result(model, verified)
    if isinstance(model, onnx.ModelProto):
        path = scratch.folder() / "model.onnx"
        onnx.save(model, path)
        return FloatModel(path, file_set(path), verified)
    if isinstance(model, str) and model.startswith(("models:/", "runs:/")):
        return _from_uri(lineage.resolve(model), verified)
    if isinstance(model, str | Path) and Path(model).is_file():
        return FloatModel(Path(model), file_set(Path(model)), verified)
    expected = "the result of freeze, the path or URI of a model, an onnx.ModelProto, or a PyTorch module"
    raise InputError("cannot quantize this model", got=repr(model)[:80], expected=expected)


def _from_result(result: Result, verified: VerifiedModel | None) -> FloatModel:
    if result.path is None:
        raise InputError(f"log {result.log_id} delivered no file", expected="a result with a frozen file")
    if result.path.suffix != ".onnx":
        raise InputError(
            f"log {result.log_id} delivered {result.path.name}", expected="an ONNX file", remedy="freeze to Onnx()"
        )
    model = verified or VerifiedModel("", result.record.subject)
    made, model_id = result.version_uri or result.model_uri, result.model_uri.removeprefix("models:/")
    return FloatModel(result.path, file_set(result.path), model, made, model_id, result.log_id)


def _from_uri(found: VerifiedModel, verified: VerifiedModel | None) -> FloatModel:
    entry = found.flavors.get("onnx")
    if entry is None or found.folder is None:
        raise InputError(
            f"model {found.uri}", got=f"flavors {', '.join(found.flavors)}", expected="a model of flavor onnx; freeze it first"
        )
    path = found.folder / str(entry["data"])
    conversion = str(found.flavors.get("aifsm", {}).get("log_id", ""))
    model = verified or VerifiedModel("" if conversion else found.uri, _subject(found))
    return FloatModel(path, file_set(path), model, found.uri, found.model_id, conversion)


def _subject(found: VerifiedModel) -> str:
    """The verified learning model that a frozen model was made of, as its record says; its own id where it has no record."""
    record = found.folder / EXTRAS / RECORD if found.folder else None
    return Record.from_json(record.read_bytes()).subject if record and record.is_file() else found.id
