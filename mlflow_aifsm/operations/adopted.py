"""A file that another tool froze, taken as it is: copied byte for byte, measured, and logged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow_aifsm import scratch
from mlflow_aifsm.capture import frozen
from mlflow_aifsm.digests import set_digest
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact, State, measured, not_recorded
from mlflow_aifsm.hooks.context import record_conversion
from mlflow_aifsm.lineage import VerifiedModel
from mlflow_aifsm.measurement import Measurement
from mlflow_aifsm.result import Result
from mlflow_aifsm.verification.criterion import CONVERSION, Verification

ELSEWHERE = "the file was made elsewhere, by a conversion that nobody recorded"


def is_file(model: Any) -> bool:
    """Whether ``model`` names a file, and not a module or a model of MLflow."""
    return isinstance(model, Path) or (
        isinstance(model, str) and not model.startswith(("models:/", "runs:/")) and "://" not in model
    )


def check_alone(example_inputs: Any, config: Any) -> None:
    """Refuses what only an export could use.

    Raises:
        InputError: If an example or a config is given.
    """
    for name, given in (("example_inputs", example_inputs), ("config", config)):
        if given is not None:
            raise InputError(f"{name} for a frozen file", got=repr(given)[:80], expected="None", remedy="it is taken as it is")


def freeze_file(
    path: Path, verified: VerifiedModel | None, verification: Verification | None, where: Mapping[str, Any]
) -> Result:
    """Takes the frozen file at ``path`` with its external data, and logs what it tells.

    Raises:
        InputError: If it is missing, damaged, hostile or no frozen file; nothing was logged then.
    """
    files = frozen.file_set(path)
    with record_conversion(verified_model=verified, **where) as log:
        # what is measured, verified and logged must not change in between
        copied = frozen.copied(path, scratch.folder())
        if verified is None or not verified.sha256:
            log.input(files, set_digest(files))
        measurement = log.output(copied)
        log.add(*_conversion(measurement))
        log.note(f"The frozen file {path.name} was made by another tool; it was taken byte for byte.")
        if verification is not None:
            log.verify(None, verification, CONVERSION)
    return log.finished


def _conversion(measurement: Measurement) -> list[Fact]:
    """What the file tells of its conversion: its producer. The rest only the one who converted it knows."""
    producer = next((fact for fact in measurement.facts if fact.name == "graph.producer"), None)
    unknown = [not_recorded(name, ELSEWHERE) for name in ("converter.packages", "converter.call", "environment.host")]
    if producer is None or producer.state is not State.MEASURED:
        return [not_recorded("converter.framework", f"{ELSEWHERE}, and it names no producer"), *unknown]
    text = f"{producer.value.text}, as the file names its producer"
    return [measured("converter.framework", text, producer.value.data, source=producer.source.origin), *unknown]
