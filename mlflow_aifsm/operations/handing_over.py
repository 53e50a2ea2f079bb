"""What the command line hands over of a result: a copy of the delivered file, and the outcome as data."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mlflow_aifsm.capture import frozen
from mlflow_aifsm.codec import unstructure
from mlflow_aifsm.digests import sha256_file
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Json
from mlflow_aifsm.result import Result

ELSEWHERE = "name another place with -o"


def prepared(output: str) -> None:
    """Makes sure that ``output`` can be written, before work starts that would be lost.

    Raises:
        InputError: If it cannot.
    """
    folder = Path(output) if _is_folder(output) else Path(output).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}", remedy=ELSEWHERE) from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"cannot write {output}: {folder} is read-only", remedy=ELSEWHERE)


def copied(result: Result, output: str) -> Path:
    """A copy of the delivered file at ``output``, its external data beside it under their own names.

    Args:
        result: The outcome of a verb.
        output: File, or folder: one that exists, or a name that ends with a slash.

    Raises:
        InputError: If there is no file, or it cannot be written without spoiling another model.
    """
    if result.path is None:
        raise InputError(f"log {result.log_id} delivered no file")
    delivered = result.path
    target = Path(output) / delivered.name if _is_folder(output) else Path(output)
    beside = {target.parent / file.path: file.sha256 for file in frozen.file_set(delivered)[1:]}
    for path, digest in beside.items():
        if path.exists() and sha256_file(path) != digest:
            remedy = f"name a folder of its own with -o; the model is logged as {result.model_uri}"
            raise InputError(f"{path} holds weights of another model", remedy=remedy)
    try:
        shutil.copyfile(delivered, target)
        for path in beside:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(delivered.parent / path.relative_to(target.parent), path)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}", remedy=ELSEWHERE) from error
    return target


def outcome(result: Result, path: Path | None) -> Json:
    """The outcome as JSON data.

    Args:
        result: The outcome of a verb.
        path: Copy of the delivered file, where one was asked for; that of the result ends with the process.
    """
    record = result.record
    counted, gaps, verification = len(record.template.counted), [row.key for row in record.gaps], result.verification
    return {
        "run_id": result.run_id,
        "log": record.template.log,
        "log_id": result.log_id,
        "path": None if path is None else str(path),
        "sha256": record.output_sha256,
        "model_uri": result.model_uri,
        "version_uri": result.version_uri,
        "status": str(record.status),
        "answered": counted - len(gaps),
        "fields": counted,
        "unanswered": gaps,
        "findings": [unstructure(finding) for finding in result.findings],
        "verified": None if verification is None else verification.verdict,
    }


def _is_folder(output: str) -> bool:
    return output.endswith("/") or Path(output).is_dir()
