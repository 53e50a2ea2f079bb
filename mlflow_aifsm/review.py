"""What people say about a log: lines appended beside the record, which itself is never rewritten."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from mlflow_aifsm import audit
from mlflow_aifsm.errors import InputError, NotFoundError, TemplateError
from mlflow_aifsm.fill import ACCOUNTS
from mlflow_aifsm.record import Declaration, Evidence, unstructure
from mlflow_aifsm.report.formats import write
from mlflow_aifsm.tracking import keys
from mlflow_aifsm.tracking import write as tracking
from mlflow_aifsm.tracking.read import run


def declare(target: str, key: str, value: str, by: str, log: str | None = None) -> Evidence:
    """Fills a field that a person must fill, and returns the log as it reads then.

    A value that the file can tell is not replaced: it stays, and a contradiction becomes a finding.

    Args:
        target: Run id, URI, folder or file.
        key: The field's key, or its last parts where they are unambiguous (``responsible``).
        value: What is declared.
        by: Name of the person who declares it.
        log: ``conversion`` or ``optimization``, where the target has both and the key does not tell.

    Raises:
        InputError: If the value or the name is empty, or the field is unknown.
        NotFoundError: If the target has no log in a run.
    """
    if not value.strip():
        raise InputError(f"empty value for {key}", remedy=f"say what it is: {key}='…'")
    if not by.strip() or by.strip().lower() in ACCOUNTS:
        raise InputError("--by", got=repr(by), expected="the name of a person who stands for the value")
    evidence, full = _chosen(target, key, log)
    said = Declaration(full, value, by, datetime.now(UTC).astimezone().isoformat(timespec="seconds"))
    _append(evidence, said)
    return _published(target, evidence.record.template.log)


def _chosen(target: str, key: str, log: str | None) -> tuple[Evidence, str]:
    matches, reasons = [], []
    for evidence in audit.read(target, log):
        try:
            matches.append((evidence, evidence.record.template.field(key).key))
        except TemplateError as error:
            reasons.append(error)
    if len(matches) != 1:
        raise InputError(f"field '{key}'", expected="a key of one log; 'mlflow-aifsm templates' lists them") from next(iter(reasons), None)
    return matches[0]


def _append(evidence: Evidence, said: Declaration) -> None:
    record = evidence.record
    if not record.run_id:
        raise NotFoundError(f"{evidence.target} has no run to write to", remedy="declare on the run that made it")
    lines = [json.dumps(unstructure(line), ensure_ascii=False, sort_keys=True) for line in (*evidence.declarations, said)]
    path = f"{keys.folder(record.template.log)}/{keys.DECLARATIONS}"
    tracking.text(record.run_id, path, "\n".join(lines) + "\n")


def _published(target: str, log: str) -> Evidence:
    """Brings the index and the report of the run in line with its lines; params that exist stay, for MLflow writes them once."""
    evidence = audit.read(target, log)[0]
    record = evidence.record
    index = keys.index(record, record.status, evidence.sha256)
    held = run(record.run_id).data.params
    tracking.params(record.run_id, {key: value for key, value in index.params.items() if key not in held})
    tracking.tags(record.run_id, index.tags)
    evidence = audit.read(target, log)[0]
    tracking.text(record.run_id, f"{keys.folder(log)}/{keys.REPORT}", write(evidence, "html").decode("utf-8"))
    return evidence
