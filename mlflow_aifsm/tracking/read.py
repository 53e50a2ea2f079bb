"""Reading a log back from where MLflow keeps it: a run, a logged model, a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
from mlflow.entities import Run

from mlflow_aifsm import scratch
from mlflow_aifsm.errors import NotFoundError
from mlflow_aifsm.record import Status
from mlflow_aifsm.template import LOGS
from mlflow_aifsm.tracking.connection import client, database_exists, server, speaking
from mlflow_aifsm.tracking.keys import DECLARATIONS, MANIFEST, RECORD, folder, tag
from mlflow_aifsm.tracking.search import experiments, quoted, runs


@dataclass(frozen=True, slots=True)
class StoredLog:
    """A log as it is stored: raw bytes, and what MLflow's database says beside them.

    Attributes:
        log: ``conversion`` or ``optimization``.
        folder: Local folder that holds ``record.json`` and what lies beside it.
        tags: Tags of the run; empty where the log was read from a folder.
        params: Params of the run.
        delivered: Folder or file, named by the reader, that holds what was delivered; None for the model that the run names.
        copy: The ``record.json`` beside it; None where none lies there, or it is the one that is read.
        alone: Why the log was read from a folder without its run; empty where the run was found.
    """

    log: str
    folder: Path
    run_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    delivered: Path | None = None
    copy: Path | None = None
    alone: str = ""

    @property
    def record(self) -> bytes:
        """The bytes of ``record.json``.

        Raises:
            NotFoundError: If the log was begun and never finished, so that there is none.
        """
        file = self.folder / RECORD
        if not file.is_file():
            raise NotFoundError(f"the {self.log} log of run {self.run_id} was begun and never finished", remedy="run it again")
        return file.read_bytes()

    @property
    def manifest(self) -> bytes | None:
        """The bytes of ``manifest.json``, if it is there."""
        file = self.folder / MANIFEST
        return file.read_bytes() if file.is_file() else None

    @property
    def declarations(self) -> tuple[str, ...]:
        """The declarations beside the record as JSON, oldest first; a file that is no list of them is given as it is."""
        files = sorted((self.folder / DECLARATIONS).glob("*.json"))
        return tuple(said for file in files for said in _batch(file.read_text("utf-8", "replace")))


def _batch(content: str) -> list[str]:
    try:
        said = json.loads(content)
    except ValueError:
        return [content]
    return [json.dumps(one) for one in said] if isinstance(said, list) else [content]


def run(run_id: str) -> Run:
    """The run of that id.

    Raises:
        NotFoundError: If there is none.
        TrackingError: If MLflow cannot be reached.
    """
    database_exists()
    with speaking(f"run {run_id}", missing="'mlflow runs list --experiment-id ID' lists those that do"):
        return client().get_run(run_id)


def logs_of_run(run_id: str) -> tuple[StoredLog, ...]:
    """The logs that a run holds, conversion before optimization.

    Raises:
        NotFoundError: If there is no such run, or it holds no log.
        TrackingError: If MLflow cannot be reached.
    """
    found = run(run_id)
    held = [log for log in LOGS if tag(log, "log_id") in found.data.tags]
    if not held:
        remedy = "make one with mlflow_aifsm.freeze(…, run_id=…) or mlflow_aifsm.quantize(…, run_id=…)"
        raise NotFoundError(f"run {run_id} holds no log", remedy=remedy)
    return tuple(_stored(found, log) for log in held)


def _stored(found: Run, log: str) -> StoredLog:
    destination = scratch.folder()
    run_id = found.info.run_id
    with speaking(f"artifacts of run {run_id}"):
        listed = {item.path for item in client().list_artifacts(run_id, "aifsm")}
        if folder(log) not in listed:
            return StoredLog(log, destination, run_id, found.data.tags, found.data.params)
        local = mlflow.artifacts.download_artifacts(
            run_id=run_id, artifact_path=folder(log), dst_path=str(destination), tracking_uri=mlflow.get_tracking_uri()
        )
    return StoredLog(log, Path(local), run_id, found.data.tags, found.data.params)


def model_folder(uri: str) -> Path:
    """The files of a model, downloaded where they are not local.

    Raises:
        NotFoundError: If the URI names no model.
        TrackingError: If MLflow cannot be reached.
    """
    # a registry of its own needs no database of runs
    if mlflow.get_registry_uri() == mlflow.get_tracking_uri():
        database_exists()
    with speaking(f"model {uri}", missing="the Models page of the UI lists those that do"):
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))


def run_by_output(sha256: str) -> str:
    """The newest run whose log delivered a file set of this digest; one whose log failed only where there is no other.

    Raises:
        NotFoundError: If no run of the tracking server did.
    """
    for run_id, _ in logs_by_output(sha256):
        return run_id
    raise NotFoundError(f"no run at {server()} delivered a file with sha256 {sha256[:12]}…", remedy="name the run instead")


def logs_by_output(sha256: str) -> tuple[tuple[str, str], ...]:
    """Run id and log id of each log that delivered a file set of this digest, newest first, those that failed at the end."""
    database_exists()
    with speaking("searching for the file's run"):
        found = [(entry, log) for log in LOGS for entry in _newest_first(log, "output_sha256", sha256)]
    found.sort(key=lambda one: not _finished(*one))
    return tuple((str(entry.info.run_id), str(entry.data.tags.get(tag(log, "log_id"), ""))) for entry, log in found)


def latest_by_log_id(log: str, log_id: str) -> tuple[str, str] | None:
    """Run id and record digest of the newest log of this id that was finished and did not fail, or None."""
    with speaking(f"searching for log {log_id}"):
        found = next((entry for entry in _newest_first(log, "log_id", log_id) if _finished(entry, log)), None)
    return (found.info.run_id, found.data.tags[tag(log, "record_sha256")]) if found else None


def _finished(entry: Run, log: str) -> bool:
    """A log that was only begun has no digest yet; one that failed has one, and says that it failed."""
    tags = entry.data.tags
    return bool(tags.get(tag(log, "record_sha256"))) and tags.get(tag(log, "status")) != str(Status.FAILED)


def _newest_first(log: str, name: str, value: str) -> Iterator[Run]:
    """Runs of all experiments that hold ``value`` in a tag of the log, newest first."""
    return runs(experiments(), f"tags.{tag(log, name)} = {quoted(value)}", ("attributes.start_time DESC",))


def table(stored: StoredLog, name: str) -> tuple[dict[str, object], ...]:
    """Rows of one of the log's tables; empty if it has none of that name, or a damaged one, which its manifest tells."""
    file = stored.folder / f"{name}.json"
    try:
        split = json.loads(file.read_text("utf-8"))
        return tuple(dict(zip(split["columns"], row, strict=True)) for row in split["data"])
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return ()
