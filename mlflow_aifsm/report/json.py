"""The record as data, with what is known of it today: status, digest of the stored file, declarations, checks."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_aifsm.codec import dumps, unstructure
from mlflow_aifsm.facts import Json
from mlflow_aifsm.record import Check, Declaration, Evidence, Record, Status


@dataclass(frozen=True, slots=True)
class Report:
    """What ``mlflow-aifsm report --format json`` writes: a record, and what is known of it on the day of the report.

    Attributes:
        record: The record with the declarations laid over it; its own reader reads it.
        status: The log's status: broken integrity before all else.
        sha256: Digest of ``record.json`` as it is stored.
        declarations: What people said beside the record.
        checks: What was looked at again.
    """

    record: Record
    status: Status
    sha256: str
    declarations: tuple[Declaration, ...]
    checks: tuple[Check, ...]


def data(evidence: Evidence) -> Json:
    """The evidence as JSON data, as `Report` defines it."""
    return unstructure(Report(evidence.record, evidence.status, evidence.sha256, evidence.declarations, evidence.checks))


def write(evidence: Evidence) -> bytes:
    """The evidence as UTF-8 JSON; same evidence, same bytes."""
    return dumps(data(evidence))


def as_text(content: Json) -> str:
    """JSON data for a terminal or a pipe."""
    return dumps(content).decode("utf-8").rstrip("\n")
