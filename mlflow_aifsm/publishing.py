"""A whole log into its run, or, where MLflow refuses, onto the disk: nothing that was made is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_aifsm import flavor, registry, scratch
from mlflow_aifsm.errors import AifsmError, TrackingError
from mlflow_aifsm.record import Record
from mlflow_aifsm.result import Result
from mlflow_aifsm.tracking import keys, write
from mlflow_aifsm.tracking.connection import speaking
from mlflow_aifsm.tracking.staging import Attachments, spool, stage
from mlflow_aifsm.tracking.write import Place, UsedData


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
    def delivered_files(self) -> list[Path]:
        """The delivered file with all that lies beside it."""
        return [self.delivered.parent / file.path for file in self.record.output_files] if self.delivered else []


def publish(parcel: Parcel) -> Result:
    """Writes params, model, artifacts, metrics and tags, in this order, and ends the run if it was started for the log.

    Raises:
        TrackingError: If MLflow refuses; record and delivered file then lie on disk, and the message says where.
    """
    try:
        result = _written(parcel, stage(scratch.folder(), parcel.record, parcel.attachments))
        write.end(parcel.place, failed=False)
    except Exception as error:
        kept = _kept(parcel, error)
        _close(parcel)
        raise kept from error
    return result


def publish_failure(parcel: Parcel) -> None:
    """Writes the log of an operation that failed: what was known by then, without a model.

    Raises:
        TrackingError: If MLflow refuses; the record then lies on disk.
    """
    record, run_id = parcel.record, parcel.place.run_id
    try:
        index = keys.index(record, record.status, record.sha256)
        staged = stage(scratch.folder(), record, parcel.attachments)
        write.params(run_id, index.params)
        write.artifacts(run_id, parcel.log, staged, ())
        write.conclusion(run_id, index.tags, {}, 0, None)
    except Exception as error:
        raise _kept(parcel, error) from error
    finally:
        _close(parcel)


def _written(parcel: Parcel, staged: Path) -> Result:
    record, log, run_id = parcel.record, parcel.log, parcel.place.run_id
    digest = record.sha256
    index = keys.index(record, record.status, digest)
    write.params(run_id, index.params)
    model_uri, model_id = _model(parcel, staged, digest)
    version_uri = ""
    if parcel.registered_model_name and model_uri:
        version_uri = registry.register(parcel.registered_model_name, model_uri, record, digest, parcel.source_uri).uri
    write.inputs(run_id, parcel.data, parcel.model_ids)
    write.artifacts(run_id, log, staged, list(parcel.attachments.tables))
    places = {keys.tag(log, "model_uri"): model_uri, keys.tag(log, "model_version"): version_uri}
    tags = {**index.tags, **{key: uri for key, uri in places.items() if uri}}
    write.conclusion(run_id, tags, parcel.metrics, keys.STEP[log], model_id)
    return Result(parcel.delivered, run_id, record.log_id, model_uri, version_uri, record)


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
            tags={keys.tag(parcel.log, "log_id"): record.log_id, "aifsm.precision": registry.precision(record)},
        )
    return f"models:/{info.model_id}", str(info.model_id)


def _model_name(name: str) -> str:
    """``name`` as MLflow allows it for a logged model, which is stricter than for a registered one."""
    return "".join("-" if letter in "/:.%\"'" else letter for letter in name)


def _close(parcel: Parcel) -> None:
    """Ends the run as failed, where that can be said; what went wrong before is what the caller must see."""
    with suppress(AifsmError):
        write.end(parcel.place, failed=True)


def _kept(parcel: Parcel, error: Exception) -> AifsmError:
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
    except OSError:
        return ""
    return f"record and delivered file are kept in {place}" if files else f"the record is kept in {place}"
