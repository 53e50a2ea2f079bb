"""What an optimization starts from: a frozen ONNX model under any of its names, or a PyTorch model to be frozen on the way."""

from __future__ import annotations

import inspect
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
from mlflow_aifsm.samples import Batch, Samples
from mlflow_aifsm.tracking.keys import RECORD

EXAMPLES = 2
"""Samples of an example batch: with one, the exporter would take the batch axis for a constant."""
GIVEN = "pass example_inputs="


@dataclass(frozen=True, slots=True)
class FloatModel:
    """The float file, what it was made of, and its place in the chain.

    Attributes:
        path: The file.
        files: Its file set.
        model: The verified learning model at the beginning of the chain.
        source_uri: The registered version or logged model that the file is; empty for a file of nobody's.
        model_id: Its logged model.
        input_id: The conversion that made it, or that made what an earlier optimization started from.
        parent: Record of the optimization that made it, where one did.
    """

    path: Path
    files: tuple[FileDigest, ...]
    model: VerifiedModel | None
    source_uri: str = ""
    model_id: str = ""
    input_id: str = ""
    parent: Record | None = None


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


def example(samples: Samples | None, model: Any = None) -> Any:
    """Example inputs for a freeze: the first samples of the calibration data.

    Args:
        samples: The calibration data.
        model: The module. How many inputs its ``forward`` requires says which parts of an item are inputs and which is a label.

    Returns:
        An array ``[n, …]``; for several inputs a tuple of them, or a dict by name where the data have names.

    Raises:
        InputError: If there are no data, or they do not fit ``forward``.
    """
    first = None if samples is None else _first(samples.first(EXAMPLES), _required(model))
    if first is None:
        raise InputError("a PyTorch model is frozen on the way", expected="example_inputs, or data", remedy=GIVEN)
    arrays = {name: _single(array) for name, array in first.items()}
    _try(model, arrays)
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    return tuple(arrays.values()) if _numbered(arrays) else arrays


def _first(samples: Samples, required: tuple[str, ...]) -> Batch | None:
    """The first batch by the names the data give; where they give none, by number, as many as are ``required``."""
    try:
        first = next((batch for batch, _ in samples.batches(EXAMPLES, ())), None)
        if first is None or not _numbered(first) or not required:
            return first
        numbers = [str(number) for number in range(len(required))]
        return next(batch for batch, _ in samples.batches(EXAMPLES, numbers))
    except InputError as error:
        expected = f"what forward takes: {', '.join(required)}" if required else "inputs with a common first axis"
        raise InputError("the data do not tell an example input", got=error.got, expected=expected, remedy=GIVEN) from error


def _numbered(arrays: Batch) -> bool:
    return set(arrays) == {str(number) for number in range(len(arrays))}


def _required(model: Any) -> tuple[str, ...]:
    """Inputs that ``forward`` of a module cannot do without; empty where nothing tells."""
    forward = getattr(model, "forward", None)
    if forward is None:
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(forward).parameters.values()
    return tuple(one.name for one in parameters if one.default is inspect.Parameter.empty and one.kind in kinds)


def _try(model: Any, arrays: Batch) -> None:
    """Runs a module on an example: items of a function may be samples or batches, and the module alone can tell them apart."""
    import torch

    from mlflow_aifsm.capture.evaluation_mode import evaluation_copy

    if not isinstance(model, torch.nn.Module):
        return
    tensors = {name: torch.as_tensor(array) for name, array in arrays.items()}
    named = len(arrays) > 1 and not _numbered(arrays)
    ready, _ = evaluation_copy(model)
    try:
        with torch.no_grad():
            ready(**tensors) if named else ready(*tensors.values())
    except Exception as error:
        got, reason = ", ".join(f"shape {list(array.shape)}" for array in arrays.values()), " ".join(str(error).split())[:200]
        what = f"the model does not take the first calibration samples: {type(error).__name__}: {reason}"
        raise InputError(what, got=got, expected="what forward takes", remedy=GIVEN) from error


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
    raise InputError("cannot optimize this model", got=repr(model)[:80], expected=expected)


def _from_result(result: Result, verified: VerifiedModel | None) -> FloatModel:
    if result.path is None:
        raise InputError(f"log {result.log_id} delivered no file", expected="a result with a frozen file")
    if result.path.suffix != ".onnx":
        raise InputError(
            f"log {result.log_id} delivered {result.path.name}", expected="an ONNX file", remedy="freeze to Onnx()"
        )
    made, model_id = result.version_uri or result.model_uri, result.model_uri.removeprefix("models:/")
    return _known(result.path, result.record, verified, made, model_id)


def _from_uri(found: VerifiedModel, verified: VerifiedModel | None) -> FloatModel:
    entry = found.flavors.get("onnx")
    if entry is None or found.folder is None:
        raise InputError(
            f"model {found.uri}", got=f"flavors {', '.join(found.flavors)}", expected="a model of flavor onnx; freeze it first"
        )
    path, record = found.folder / str(entry["data"]), found.folder / EXTRAS / RECORD
    if record.is_file():
        return _known(path, Record.from_json(record.read_bytes()), verified, found.uri, found.model_id)
    conversion = str(found.flavors.get("aifsm", {}).get("log_id", ""))
    model = verified or VerifiedModel("" if conversion else found.uri, found.id)
    return FloatModel(path, file_set(path), model, found.uri, found.model_id, conversion)


def _known(path: Path, record: Record, verified: VerifiedModel | None, uri: str, model_id: str) -> FloatModel:
    """A file that a log made; one that an optimization made goes by what that one started from, as the template asks."""
    model = verified or VerifiedModel("", record.subject)
    given = record.entry_of("input.id") if record.template.log == "optimization" else None
    if given is None:
        return FloatModel(path, file_set(path), model, uri, model_id, record.log_id)
    conversion = given.value.text if given.value.text != record.subject else ""
    return FloatModel(path, file_set(path), model, uri, model_id, conversion, record)
