"""A whole log into its run, or, where MLflow refuses, onto the disk: nothing that was made is lost."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_aifsm import flavor, registry, scratch
from mlflow_aifsm.errors import AifsmError, TrackingError
from mlflow_aifsm.record import Record, Status
from mlflow_aifsm.report.description import description
from mlflow_aifsm.result import Result
from mlflow_aifsm.tracking import keys, write
from mlflow_aifsm.tracking.connection import speaking
from mlflow_aifsm.tracking.staging import Attachments, keep, spool, stage
from mlflow_aifsm.tracking.write import Conclusion, Place, UsedData

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parcel:
    """All that is written at the end of a log.

    Attributes:
        record: The record.
        attachments: What lies beside it.
        place: The run it goes to.
        metrics: Numbers by key.
        delivered: The delivered file, or None.
        data: Data sets that were used.
        model_ids: Logged models that went in.
        registered_model_name: Name to register the delivered model under; empty for none.
        source_uri: The model it was made from.
        spool: Folder for what cannot be written.
    """

    record: Record
    attachments: Attachments
    place: Place
    metrics: Mapping[str, float] = field(default_factory=dict)
    delivered: Path | None = None
    data: Sequence[UsedData] = ()
    model_ids: Sequence[str] = ()
    registered_model_name: str = ""
    source_uri: str = ""
    spool: Path = Path()

    @property
    def log(self) -> str:
        """``conversion`` or ``optimization``."""
        return self.record.template.log

    @property
    def delivered_files(self) -> dict[str, Path]:
        """The delivered file with all that lies beside it, by path relative to its folder."""
        return {file.path: self.delivered.parent / file.path for file in self.record.output_files} if self.delivered else {}


def publish(parcel: Parcel) -> Result:
    """Writes params, model, artifacts, version, metrics and tags, in this order, and ends the run if it was started for it.

    Raises:
        TrackingError: If MLflow refuses; record and delivered file then lie on disk, and the message says where.
    """
    with _protected(parcel):
        result = _written(parcel, stage(scratch.folder(), parcel.record, parcel.attachments))
        write.end(parcel.place, failed=False)
    return result


def publish_failure(parcel: Parcel) -> None:
    """Writes the log of an operation that failed: what was known by then, without a model; a delivered file stays on disk.

    Raises:
        TrackingError: If MLflow refuses; the record then lies on disk.
    """
    record, run_id = parcel.record, parcel.place.run_id
    with _protected(parcel):
        index = keys.index(record, record.status, record.sha256)
        staged = stage(scratch.folder(), record, parcel.attachments)
        write.artifacts(run_id, parcel.log, staged)
        write.conclusion(run_id, parcel.log, Conclusion(index.tags, description(record), params=index.params))
    rescue(parcel.place, record.log_id, parcel.delivered_files, parcel.spool)


def rescue(place: Place, log_id: str, files: Mapping[str, Path], folder: Path) -> None:
    """Keeps delivered files that no model holds, says where in a warning, and ends the run as failed.

    Args:
        place: The run.
        log_id: Id of the log.
        files: Files by path relative to the delivered file's folder.
        folder: The spool.
    """
    try:
        if files:
            said = _saved(folder, log_id, files) or _saved(None, log_id, files)
            _logger.warning("log %s failed; %s", log_id, said or "its delivered file cannot be kept: the disk refuses")
    finally:
        _close(place)


def _saved(folder: Path | None, log_id: str, files: Mapping[str, Path]) -> str:
    try:
        place = folder or scratch.keep(scratch.folder())
        return f"its delivered file is kept in {keep(place / log_id, files).resolve()}"
    except OSError:
        return ""


def _written(parcel: Parcel, staged: Path) -> Result:
    record, log, run_id = parcel.record, parcel.log, parcel.place.run_id
    digest = record.sha256
    index = keys.index(record, record.status, digest)
    write.params(run_id, index.params)
    model_uri, model_id = _model(parcel, staged, digest)
    write.inputs(run_id, parcel.data, parcel.model_ids)
    write.artifacts(run_id, log, staged)
    # a version is made when all its evidence is there: what stands in a registry is taken for finished
    version = None
    if parcel.registered_model_name and model_uri:
        version = registry.register(parcel.registered_model_name, model_uri, record, digest, parcel.source_uri)
    numbers = {keys.tag(log, keys.NUMBERS): keys.numbers(parcel.metrics)}
    tags, tables = {**index.tags, **numbers, **_delivered(record, model_uri, version)}, tuple(parcel.attachments.tables)
    last = Conclusion(tags, description(record), metrics=parcel.metrics, model_id=model_id, tables=tables)
    with _withdrawn(version, log):
        write.conclusion(run_id, log, last)
    _mark_older(record)
    return Result(parcel.delivered, run_id, record.log_id, model_uri, version.uri if version else "", record)


def _mark_older(record: Record) -> None:
    """Says on the run of a log that this one supersedes which one did; the log itself stays as it was made."""
    if record.supersedes is None:
        return
    try:
        write.tags(record.supersedes.run_id, {keys.tag(record.template.log, keys.SUPERSEDED_BY): record.run_id})
    except AifsmError as error:
        _logger.warning("log %s is written; the one that it supersedes does not say so: %s", record.log_id, error)


def _delivered(record: Record, model_uri: str, version: registry.Version | None) -> dict[str, str]:
    """Tags on the model that was delivered; of two logs in a run the last one's precision is that of the run."""
    log = record.template.log
    tags = {
        keys.tag(log, "model_uri"): model_uri,
        keys.tag(log, "model_version"): version.uri if version else "",
        registry.PRECISION: registry.precision(record),
    }
    return {key: value for key, value in tags.items() if value}


@contextmanager
def _withdrawn(version: registry.Version | None, log: str) -> Iterator[None]:
    """Marks a version as failed where its run cannot be concluded."""
    try:
        yield
    except BaseException:
        if version is not None:
            with suppress(Exception):
                write.version_tags(version.name, version.version, {keys.tag(log, "status"): str(Status.FAILED)})
        raise


def _model(parcel: Parcel, staged: Path, digest: str) -> tuple[str, str | None]:
    record, run_id = parcel.record, parcel.place.run_id
    if parcel.delivered is None:
        return "", None
    name = parcel.registered_model_name or f"{parcel.log}-{record.log_id}"
    with speaking(f"logging the model of {record.log_id}"):
        info = flavor.log_model(
            parcel.delivered,
            _model_name(name),
            run_id=run_id,
            step=keys.STEP[parcel.log],
            extras=(staged / keys.RECORD, staged / keys.MANIFEST),
            facts={"log_id": record.log_id, "run_id": run_id, "record_sha256": digest, "sha256": record.output_sha256},
            tags={
                keys.tag(parcel.log, "log_id"): record.log_id,
                registry.PRECISION: registry.precision(record) or "not recorded",
            },
        )
    return f"models:/{info.model_id}", str(info.model_id)


def _model_name(name: str) -> str:
    """``name`` as MLflow allows it for a logged model, which is stricter than for a registered one."""
    return "".join("-" if letter in "/:.%\"'" else letter for letter in name)


def _close(place: Place) -> None:
    """Ends the run as failed, where that can be said; what went wrong before is what the caller must see."""
    with suppress(Exception):
        write.end(place, failed=True)


@contextmanager
def _protected(parcel: Parcel) -> Iterator[None]:
    """Whatever breaks while a log is written, an interrupt too, leaves it on disk and its run ended."""
    try:
        yield
    except Exception as error:
        raise _lost(parcel, error) from error
    except BaseException as interrupt:
        _logger.warning("%s", _lost(parcel, interrupt))
        raise


def _lost(parcel: Parcel, error: BaseException) -> AifsmError:
    """Keeps what was made, ends the run as failed, and gives the error that says both."""
    try:
        return _kept(parcel, error)
    finally:
        _close(parcel.place)


def _kept(parcel: Parcel, error: BaseException) -> AifsmError:
    """Keeps what was made on disk and says where: in the spool, or, where that is full or closed, in a temporary folder."""
    kept = _spooled(parcel, parcel.spool) or _spooled(parcel, None)
    reason = error.what if isinstance(error, AifsmError) else f"{type(error).__name__}: {error}"
    remedy = error.remedy if isinstance(error, AifsmError) else ""
    words = "; ".join(filter(None, (kept, remedy)))
    return TrackingError(f"log {parcel.record.log_id} was not logged: {reason}", remedy=words)


def _spooled(parcel: Parcel, folder: Path | None) -> str:
    """Where record and delivered files are kept, as a sentence; empty where the disk refuses."""
    files = parcel.delivered_files
    try:
        place = folder or scratch.keep(scratch.folder())
        place = spool(place / parcel.record.log_id, parcel.record, parcel.attachments, files).resolve()
    except Exception as error:  # noqa: BLE001
        _logger.debug("log %s cannot be kept in %s: %s", parcel.record.log_id, folder or "a temporary folder", error)
        return ""
    return f"record and delivered file are kept in {place}" if files else f"the record is kept in {place}"
