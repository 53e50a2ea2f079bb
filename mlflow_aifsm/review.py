"""What people say about a log: lines appended beside the record, which itself is never rewritten."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from difflib import get_close_matches

from mlflow_aifsm import audit, identity, registry
from mlflow_aifsm.codec import unstructure
from mlflow_aifsm.errors import InputError, NotFoundError, TemplateError
from mlflow_aifsm.fill import ACCOUNTS
from mlflow_aifsm.record import Declaration, Evidence
from mlflow_aifsm.report.formats import write
from mlflow_aifsm.tracking import keys
from mlflow_aifsm.tracking import write as tracking
from mlflow_aifsm.tracking.read import run

VERIFIED = "verified"
"""Key that declares a registered version, not a log: the evidence that it passed its verification."""


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
    return declare_all(target, [(key, value)], by, log)[0]


def declare_all(target: str, values: Sequence[tuple[str, str]], by: str, log: str | None = None) -> tuple[Evidence, ...]:
    """Fills several fields, all or none, and returns the logs they belong to as they read then; see ``declare``.

    Raises:
        InputError: If a value or the name is empty, or a field is unknown.
        NotFoundError: If the target has no log in a run.
    """
    _check(values, by)
    if identity.is_version(target) and (evidence := dict(values).get(VERIFIED)):
        identity.stamp(target, evidence, by)
        values = [(key, value) for key, value in values if key != VERIFIED]
    return _declared(target, values, by, log) if values else ()


def _check(values: Sequence[tuple[str, str]], by: str) -> None:
    if empty := [key for key, value in values if not value.strip()]:
        raise InputError(f"empty value for {empty[0]}", remedy=f"say what it is: {empty[0]}='…'")
    if not by.strip() or by.strip().lower() in ACCOUNTS:
        raise InputError("--by", got=repr(by), expected="the name of a person who stands for the value")


def _declared(target: str, values: Sequence[tuple[str, str]], by: str, log: str | None) -> tuple[Evidence, ...]:
    logs, at = audit.read(target, log), datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    said = [(*_chosen(logs, key), value) for key, value in values]
    touched = [evidence for evidence in logs if any(evidence is chosen for chosen, _, _ in said)]
    for evidence in touched:
        _append(evidence, [Declaration(key, value, by, at) for chosen, key, value in said if chosen is evidence])
    return tuple(_published(target, evidence.record.template.log) for evidence in touched)


def _chosen(logs: Sequence[Evidence], key: str) -> tuple[Evidence, str]:
    matches = []
    for evidence in logs:
        with suppress(TemplateError):
            matches.append((evidence, evidence.record.template.field(key).key))
    if len(matches) == 1:
        return matches[0]
    if matches:
        meant = " or ".join(full for _, full in matches)
        raise InputError(
            f"field '{key}' is in both logs", expected=meant, remedy="write it in full, or name the log with --log"
        )
    known = [row.key for evidence in logs for row in evidence.record.template.fields]
    near = [full for full in known if key in full] or get_close_matches(key, known, n=3, cutoff=0)
    raise InputError(f"unknown field '{key}'", expected=" or ".join(near), remedy="'mlflow-aifsm templates' lists all")


def _append(evidence: Evidence, said: Sequence[Declaration]) -> None:
    record = evidence.record
    if not record.run_id:
        raise NotFoundError(f"{evidence.target} has no run to write to", remedy="declare on the run that made it")
    lines = [json.dumps(unstructure(line), sort_keys=True) for line in (*evidence.declarations, *said)]
    path = f"{keys.folder(record.template.log)}/{keys.DECLARATIONS}"
    tracking.text(record.run_id, path, "\n".join(lines) + "\n")


def _published(target: str, log: str) -> Evidence:
    """Brings the run's index and report in line with its lines; params that exist stay, for MLflow writes them once."""
    evidence = audit.read(target, log)[0]
    record = evidence.record
    index = keys.index(record, record.status, evidence.sha256)
    now = run(record.run_id).data
    tracking.params(record.run_id, {key: value for key, value in index.params.items() if key not in now.params})
    tracking.tags(record.run_id, index.tags)
    if version := now.tags.get(keys.tag(log, "model_version")):
        registry.follow(version, record, evidence.sha256)
    evidence = audit.read(target, log)[0]
    tracking.text(record.run_id, f"{keys.folder(log)}/{keys.REPORT}", write(evidence, "html").decode("utf-8"))
    return evidence
