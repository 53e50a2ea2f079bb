"""``freeze``: a trained model becomes a frozen one, with its Model Conversion Log."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from mlflow_aifsm import identity, lineage, scratch
from mlflow_aifsm.backends import exporters, pt2, torchscript
from mlflow_aifsm.backends.exporters import Exported
from mlflow_aifsm.capture.environment import package_fact
from mlflow_aifsm.capture.training import Training
from mlflow_aifsm.facts import Json, captured
from mlflow_aifsm.hooks.context import record_conversion
from mlflow_aifsm.lineage import Relation, VerifiedModel
from mlflow_aifsm.operations import adopted, sources
from mlflow_aifsm.operations.configs import BATCH, Onnx, Pt2
from mlflow_aifsm.operations.generators import kept
from mlflow_aifsm.operations.sources import SourceModel
from mlflow_aifsm.recording import Recording
from mlflow_aifsm.result import Result
from mlflow_aifsm.verification.criterion import CONVERSION, Verification

PACKAGES = {"pt2": ("torch",), "torchscript": ("torch", "onnx"), "dynamo": ("torch", "onnx", "onnxscript")}
"""What each exporter depends on directly."""


@kept()
def freeze(
    model: Any,
    example_inputs: Any = None,
    config: Onnx | Pt2 | None = None,
    *,
    verified_model: str | None = None,
    training: Training | None = None,
    verification: Verification | None = None,
    changed: str = "",
    responsible: str | None = None,
    log_id: str | None = None,
    run_id: str | None = None,
    nested: bool | None = None,
    registered_model_name: str | None = None,
) -> Result:
    """Freezes a PyTorch model, verifies the file, and logs both with the Model Conversion Log (AI-FSM PhIMT0002).

    An active MLflow run is joined and not ended; without one, a run is started for the log. A model in training mode is frozen
    as a copy in evaluation mode, which the log says; the caller's model stays as it is.

    A file that another tool froze (tf2onnx, a scikit-learn converter, a vendor's) is taken byte for byte: what it tells is
    measured, and what only the conversion knew, its arguments and its host, is declared or shown as not recorded.

    Args:
        model: A module, an exported program, the ``models:/`` or ``runs:/`` URI of an MLflow PyTorch model, or the path of a
            frozen file: ONNX, pt2 or TorchScript.
        example_inputs: Inputs the model can be called with: a tensor or array, a tuple of them, or a dict by argument name,
            keyword-only arguments too. The logged input example if None and ``model`` is a URI.
        config: What to freeze to, and what to ask of the exporter: ``Onnx`` (default) or ``Pt2``; None for a frozen file.
        verified_model: URI of the verified learning model; ``model`` itself where that is a URI.
        training: What training used, as ``Training.of`` reads it from the training loop's objects; the training run's params
            tell the rest.
        verification: Held-out data and criterion; the largest difference to ``model`` decides. A frozen file has no model to be
            compared with: its own outputs are judged, or those of the target device against them.
        changed: What changed the model since it was verified, a pruning or a training for instance; the log shows it.
        responsible: The person who converts.
        log_id: Id of the log; a log of the same id is superseded. Derived from model and run if None.
        run_id: Run to write to, finished or not.
        nested: Whether to write to a child run; None for where the run holds a conversion log already.
        registered_model_name: Name to register the frozen model under.

    Returns:
        The frozen file, where it was logged, and the record.

    Raises:
        InputError: If model, example or id do not fit; nothing was logged then.
        NotFoundError: If the model or the run does not exist.
        ConversionError: If the exporter fails; the run then holds a log that says so.
        TrackingError: If MLflow refuses; frozen file and record are then kept on disk.

    Example:
        >>> frozen = freeze("models:/digits/1", verification=Verification(images))  # doctest: +SKIP
        >>> frozen.verification.passed  # doctest: +SKIP
        True
    """
    where: dict[str, Any] = {"responsible": responsible, "log_id": log_id, "run_id": run_id, "nested": nested}
    where["registered_model_name"] = registered_model_name
    if adopted.is_file(model):
        adopted.check_alone(example_inputs, config)
        return adopted.freeze_file(Path(model), lineage.named(verified_model), verification, where)
    asked = config or Onnx()
    uri = verified_model or (model if isinstance(model, str) else None)
    verified = lineage.named(uri) or lineage.of_project()
    origin = lineage.resolve(model) if isinstance(model, str) and model != uri else verified
    source = sources.opened(model, example_inputs, origin)
    _check_shapes(source, asked)
    related = _related(verified, origin, source, isinstance(model, str))
    if changed and related is not None:
        related = replace(related, relation=Relation.CHANGED)
    with record_conversion(verified_model=related, **where) as log:
        if origin is not None and isinstance(model, str):
            log.input(origin.files, origin.sha256, origin.model_id)
        else:
            log.input((), source.sha256)
        convert(log, source, asked, _replay(origin, example_inputs, asked) if isinstance(model, str) else None)
        if changed and (given := log.facts.get("input.id")) is not None:
            log.add(identity.changed(given, changed))
        if training is not None:
            log.trained(training)
        if verification is not None:
            log.verify(source.reference, verification, CONVERSION)
    return log.finished


def _related(
    verified: VerifiedModel | None, origin: VerifiedModel | None, source: SourceModel, loaded: bool
) -> VerifiedModel | None:
    """The verified model, with how what is converted relates to its files."""
    if verified is None or not verified.sha256:
        return verified
    if loaded and origin is not None and origin.sha256 == verified.sha256:
        return replace(verified, relation=Relation.LOADED)
    return sources.related(verified, source.sha256)


def _replay(origin: VerifiedModel | None, example_inputs: Any, asked: Onnx | Pt2) -> Json:
    """What converts again: the model's URI and the config; None where the example or the shapes live in the caller's memory."""
    plain = asked.dynamic_shapes is None or isinstance(asked.dynamic_shapes, str)
    if origin is None or example_inputs is not None or not plain:
        return None
    return {"model": origin.uri, "kind": type(asked).__name__, "settings": asdict(asked)}


def _check_shapes(source: SourceModel, asked: Onnx | Pt2) -> None:
    """Refuses before a run is started what an exporter would refuse in it."""
    if asked.dynamic_shapes == BATCH:
        exporters.check_batch(source.args, source.kwargs)
    if isinstance(asked, Onnx) and asked.exporter == "torchscript":
        torchscript.dynamic_axes(asked.dynamic_shapes, source.args, source.kwargs, source.names)


def convert(log: Recording, source: SourceModel, asked: Onnx | Pt2, replay: Json, made: Exported | None = None) -> None:
    """Converts ``source`` and hands file, call and what the source shows to ``log``.

    Args:
        log: The conversion log.
        source: What is converted.
        asked: What it is converted to.
        replay: What converts again; None where that is not known.
        made: The file, where it was made already.

    Raises:
        ConversionError: If the exporter fails.
    """
    tool = asked.exporter if isinstance(asked, Onnx) else "pt2"
    log.add(*source.facts)
    log.note(*source.notes)
    log.add(captured("converter.framework", f"PyTorch {torch.__version__}", str(torch.__version__), source="torch.__version__"))
    log.add(package_fact("converter.packages", PACKAGES[tool]))
    if isinstance(asked, Onnx) and asked.opset is not None:
        log.add(captured("asked.opset", f"opset {asked.opset}", asked.opset, source="argument config"))
    if isinstance(source.model, ExportedProgram) and asked.dynamic_shapes is not None:
        log.note("Dynamic shapes were asked for; an exported program keeps the axes that it was exported with.")
    exported = made or exported_file(source, asked)
    log.call("converter.call", exported.function, exported.arguments, exported.given, replay)
    if exported.stripped:
        log.note(f"Stack traces with source paths were taken out of {exported.stripped} nodes of the frozen file.")
    log.output(exported.path)


def exported_file(source: SourceModel, asked: Onnx | Pt2) -> Exported:
    """The frozen file that ``asked`` makes of ``source``, in a folder of its own.

    Raises:
        ConversionError: If the exporter fails.
    """
    given, shapes, strip = (source.model, source.args, source.kwargs), asked.dynamic_shapes, asked.strip_source_paths
    path = scratch.folder() / ("model.pt2" if isinstance(asked, Pt2) else "model.onnx")
    if isinstance(asked, Pt2):
        return pt2.to_pt2(*given, path, dynamic_shapes=shapes, strip_source_paths=strip)
    if asked.exporter == "torchscript":
        return torchscript.to_onnx(*given, path, names=source.names, opset=asked.opset, dynamic_shapes=shapes)
    return exporters.to_onnx(*given, path, opset=asked.opset, dynamic_shapes=shapes, strip_source_paths=strip)
