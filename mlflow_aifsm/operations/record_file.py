"""A file that something else made, logged afterwards: what it tells is measured, what only its making knew is not recorded."""

from __future__ import annotations

from pathlib import Path

from mlflow_aifsm import lineage, scratch
from mlflow_aifsm.capture import frozen, quantizers
from mlflow_aifsm.capture.file_kind import FileKind, kind_of
from mlflow_aifsm.digests import set_digest
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import not_recorded
from mlflow_aifsm.hooks.context import record_optimization
from mlflow_aifsm.operations import adopted, delivery, float_model
from mlflow_aifsm.operations.from_files import Asked, existing
from mlflow_aifsm.operations.start import Start
from mlflow_aifsm.result import Result
from mlflow_aifsm.verification.criterion import OPTIMIZATION

ELSEWHERE = "the file was made elsewhere, by an optimization that nobody recorded"
UNSEEN = ("quantization.framework", "quantization.packages", "quantization.call", "calibration.method", "environment.host")
"""Facts of an optimization that only its making knew."""


def record(file: Path, kind: str | None, against: str | None, asked: Asked) -> Result:
    """Logs ``file`` into the run ``asked.run_id``, finished or not.

    Args:
        file: ONNX with its external data beside it; of a conversion also pt2 or TorchScript.
        kind: ``conversion`` or ``optimization``; None for an optimization where ``against`` is given or the file is quantized,
            else a conversion.
        against: Path or URI of the float ONNX model that an optimized file was made from.
        asked: The run, and what else the log shall say.

    Raises:
        InputError: If a file is missing, damaged or no frozen model, or the arguments contradict each other.
        NotFoundError: If the run or a model does not exist.
        TrackingError: If MLflow refuses.
    """
    if (kind or _kind(file, against)) == "optimization":
        return _optimization(file, against, asked)
    if against is not None:
        raise InputError("a conversion has no float ONNX file", got=against, expected="none", remedy="leave --against out")
    where = {name: value for name, value in asked.where.items() if name != "verified_model"}
    return adopted.freeze_file(file, lineage.named(asked.verified_model), asked.verification, where)


def _kind(file: Path, against: str | None) -> str:
    quantized = kind_of(file) is FileKind.ONNX and bool(quantizers.read(file))
    return "optimization" if against is not None or quantized else "conversion"


def _optimization(file: Path, against: str | None, asked: Asked) -> Result:
    verification = asked.verification
    if verification is not None and against is None:
        raise InputError("an optimized file is verified beside the float one", remedy="add --against FLOAT")
    # what is measured, verified and logged must not change in between
    taken, start = frozen.copied(file, scratch.folder()), _start(against, asked.verified_model)
    before = start.path
    where = {**asked.where, "verified_model": start.model if start.frozen else asked.verified_model}
    with record_optimization(input_id=start.frozen.input_id if start.frozen else "", **where) as log:
        if start.frozen is not None:
            delivery.take(log, start)
        log.output(taken, against=before)
        log.add(*(not_recorded(name, ELSEWHERE) for name in UNSEEN))
        log.note(f"The file {file.name} was made by another tool; it was taken byte for byte.")
        if verification is not None and before is not None:
            log.verify(before, verification, OPTIMIZATION)
    return log.finished


def _start(against: str | None, verified_model: str | None) -> Start:
    if against is None:
        return Start()
    found = float_model.opened(existing(against), verified_model)
    return Start(found, model=found.model, sha256=set_digest(found.files))
