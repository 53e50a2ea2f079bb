"""The record as data, with what is known of it today: status, digest of the stored file, declarations, checks."""

from __future__ import annotations

from mlflow_aifsm.codec import dumps, loads, unstructure
from mlflow_aifsm.facts import Json
from mlflow_aifsm.record import Evidence


def write(evidence: Evidence) -> bytes:
    """The evidence as UTF-8 JSON; ``record`` is what `Record.to_json` gives, so its own reader reads it."""
    return dumps({
        "record": loads(evidence.record.to_json()),
        "status": str(evidence.status),
        "sha256": evidence.sha256,
        "declarations": unstructure(evidence.declarations),
        "checks": unstructure(evidence.checks),
    })  # fmt: skip


def as_text(content: Json) -> str:
    """JSON data for a terminal or a pipe."""
    return dumps(content).decode("utf-8").rstrip("\n")
