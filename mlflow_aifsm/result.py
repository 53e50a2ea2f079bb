"""What a verb gives back: the delivered file, where it was logged, and its record."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow_aifsm.facts import Finding
from mlflow_aifsm.record import Record, VerificationResult
from mlflow_aifsm.report import result
from mlflow_aifsm.report.summary import summary
from mlflow_aifsm.tracking.connection import server


@dataclass(frozen=True, slots=True)
class Result:
    """Outcome of a finished log.

    Attributes:
        path: The delivered file, in a folder that lives as long as the process; ``model_uri`` outlives it. None if none.
        run_id: Run that holds the log.
        log_id: Id of the log.
        model_uri: MLflow's logged model, ``models:/m-…``; empty if no file was delivered.
        version_uri: Registered version, ``models:/<name>/<version>``; empty if none was asked for.
        record: The record.
        model: The module that was pruned, in memory; None where there is none.
    """

    path: Path | None
    run_id: str
    log_id: str
    model_uri: str
    version_uri: str
    record: Record
    model: Any = field(default=None, repr=False, compare=False)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings of the record."""
        return self.record.findings

    @property
    def verification(self) -> VerificationResult | None:
        """The verification's result, with ``.passed``; None if none was run."""
        return self.record.verification

    def __str__(self) -> str:
        return summary(self.record, self.model_uri, self.version_uri)

    def _repr_html_(self) -> str:
        return result.html(self.record, self.model_uri, self.version_uri, _page(self.run_id))


def _page(run_id: str) -> str:
    """Address of the run in MLflow's UI; empty where MLflow has no server, whose UI would show it."""
    address = server()
    return f"{address.rstrip('/')}/#/runs/{run_id}" if address.startswith(("http://", "https://")) else ""
