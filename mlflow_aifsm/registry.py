"""Registered versions that say what they are: log, status, digests, and which version they were made from."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import mlflow

from mlflow_aifsm.errors import NotFoundError
from mlflow_aifsm.facts import State
from mlflow_aifsm.record import Record
from mlflow_aifsm.report.description import description, told
from mlflow_aifsm.tracking import keys
from mlflow_aifsm.tracking.connection import client, speaking
from mlflow_aifsm.tracking.write import version_tags as set_version_tags

PRECISION = "aifsm.precision"
"""Tag of runs, logged models and registered versions: the precision of the delivered model in short."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a registered model."""

    name: str
    version: str

    @property
    def uri(self) -> str:
        """``models:/<name>/<version>``."""
        return f"models:/{self.name}/{self.version}"


def register(name: str, model_uri: str, record: Record, record_sha256: str, source_uri: str) -> Version:
    """Registers a logged model under ``name``, as a new version with tags and a description.

    Args:
        name: Registered model, made if it does not exist.
        model_uri: The logged model.
        record: Its record.
        record_sha256: Digest of the record as it is stored.
        source_uri: The registered version, or logged model, it was made from.

    Raises:
        TrackingError: If the registry refuses.
    """
    tags = version_tags(record, record_sha256, source_uri)
    with speaking(f"registering {name}"):
        made = mlflow.register_model(model_uri, name, tags=tags)
        client().update_model_version(name, made.version, description=page(record, source_uri))
    return Version(name, str(made.version))


def follow(uri: str, record: Record, record_sha256: str) -> None:
    """Brings tags and description of a registered version in line with its log; a version that was deleted has none.

    Raises:
        TrackingError: If the registry refuses.
    """
    name, _, version = uri.removeprefix("models:/").rpartition("/")
    with suppress(NotFoundError), speaking(f"registered model {uri}", missing="it was deleted"):
        source_uri = client().get_model_version(name, version).tags.get("aifsm.made_from", "")
        set_version_tags(name, version, version_tags(record, record_sha256, source_uri))
        client().update_model_version(name, version, description=page(record, source_uri))


def version_tags(record: Record, record_sha256: str, source_uri: str) -> dict[str, str]:
    """What a registered version carries: identity, status and digests of its log, its precision, where it came from."""
    log = record.template.log
    tags = {
        f"aifsm.{log}.log_id": record.log_id,
        f"aifsm.{log}.run_id": record.run_id,
        f"aifsm.{log}.status": str(record.status),
        f"aifsm.{log}.record_sha256": record_sha256,
        f"aifsm.{log}.input_id": _brief(record, f"aifsm.{log}.input_id"),
        f"aifsm.{log}.input_sha256": record.input_sha256,
        f"aifsm.{log}.output_sha256": record.output_sha256,
        PRECISION: precision(record),
        "aifsm.made_from": source_uri,
    }
    return {key: value for key, value in tags.items() if value}


def page(record: Record, source_uri: str) -> str:
    """What the registry's page of a version shows, in Markdown: what the run's page shows, then where it is from."""
    made_from = f"made from {told(source_uri)} · " if source_uri else ""
    delivered = f"sha256 `{record.output_sha256}` · " if record.output_sha256 else ""
    return "\n\n".join((
        *description(record),
        f"{made_from}{delivered}run `{record.run_id}`",
        f"`mlflow-aifsm report {record.run_id} --log {record.template.log}`",
    ))  # fmt: skip


def precision(record: Record) -> str:
    """Precision of the delivered model in short, as the file tells; empty where its log does not say."""
    return _brief(record, "aifsm.ptq.precision") or _brief(record, "aifsm.conversion.precision")


def _brief(record: Record, key: str) -> str:
    entry = record.entries.get(key)
    if entry is None or entry.state in (State.NOT_APPLICABLE, State.NOT_RECORDED):
        return ""
    return keys.fitting(entry.value.brief, keys.TAG_LIMIT, record.template.log)
