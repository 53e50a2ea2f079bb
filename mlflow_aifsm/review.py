"""What people say about a log: declarations beside the record, which itself is never rewritten."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches

from mlflow_aifsm import audit, identity, registry
from mlflow_aifsm.codec import unstructure
from mlflow_aifsm.errors import InputError, NotFoundError, TemplateError, TrackingError
from mlflow_aifsm.fill import ACCOUNTS, declared_record
from mlflow_aifsm.lineage import VerifiedModel
from mlflow_aifsm.record import Declaration, Evidence, Record
from mlflow_aifsm.report.description import description
from mlflow_aifsm.report.formats import write
from mlflow_aifsm.tracking import keys
from mlflow_aifsm.tracking import write as tracking
from mlflow_aifsm.tracking.description import described
from mlflow_aifsm.tracking.read import run

VERIFIED = "verified"
"""Key that declares a registered version, not a log: the evidence that it passed its verification."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What a declaration changed.

    Attributes:
        logs: The logs it belongs to, as they read now.
        verified: The registered version that was declared verified, as it was stamped; None where it was not about that.
    """

    logs: tuple[Evidence, ...] = ()
    verified: VerifiedModel | None = None


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
        TrackingError: If MLflow refuses.
    """
    _check([(key, value)], by)
    return _declared(_planned(target, [(key, value)], by, log))[0]


def declare_all(target: str, values: Sequence[tuple[str, str]], by: str, log: str | None = None) -> Declared:
    """Fills several fields, all or none; see ``declare``. ``verified`` declares a registered version, and not its log.

    Raises:
        InputError: If a value or the name is empty, or a field is unknown.
        NotFoundError: If the target has no log in a run.
        TrackingError: If MLflow refuses.
    """
    _check(values, by)
    evidence = dict(values).get(VERIFIED) if identity.is_version(target) else None
    fields = [(key, value) for key, value in values if evidence is None or key != VERIFIED]
    # all keys are looked up before the first thing is written
    planned = _planned(target, fields, by, log) if fields else []
    return Declared(verified=identity.stamp(target, evidence, by) if evidence else None, logs=_declared(planned))


def _check(values: Sequence[tuple[str, str]], by: str) -> None:
    if empty := [key for key, value in values if not value.strip()]:
        raise InputError(f"empty value for {empty[0]}", remedy=f"say what it is: {empty[0]}='…'")
    if not by.strip() or by.strip().lower() in ACCOUNTS:
        raise InputError("--by", got=repr(by), expected="the name of a person who stands for the value")


def _planned(
    target: str, values: Sequence[tuple[str, str]], by: str, log: str | None
) -> list[tuple[Evidence, list[Declaration]]]:
    """The logs that are touched, each with what is declared about it."""
    logs, at = audit.read(target, log), datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    said = [(*_chosen(logs, key), value) for key, value in values]
    touched = [evidence for evidence in logs if any(evidence is chosen for chosen, _, _ in said)]
    for evidence in touched:
        if not evidence.record.run_id:
            raise NotFoundError(f"{evidence.target} has no run to write to", remedy="declare on the run that made it")
    return [(one, [Declaration(key, value, by, at) for chosen, key, value in said if chosen is one]) for one in touched]


def _declared(planned: Sequence[tuple[Evidence, Sequence[Declaration]]]) -> tuple[Evidence, ...]:
    for evidence, said in planned:
        _append(evidence.record, said)
    return tuple(_published(evidence.target, evidence.record.template.log) for evidence, _ in planned)


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


def _append(record: Record, said: Sequence[Declaration]) -> None:
    """One artifact of its own: whoever declares at the same time writes another one, and neither is lost."""
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}.json"
    content = json.dumps([unstructure(line) for line in said], sort_keys=True)
    tracking.text(record.run_id, f"{keys.folder(record.template.log)}/{keys.DECLARATIONS}/{name}", content)


def _published(target: str, log: str) -> Evidence:
    """Brings the run's index and report in line with its declarations; what an interrupted one left behind is caught up.

    MLflow writes a param once: those that exist stay, and a new one holds what was declared first, whoever writes it.

    Raises:
        TrackingError: If MLflow refuses; the declarations stand then.
    """
    try:
        return _indexed(audit.read(target, log)[0])
    except TrackingError as error:
        remedy = "; ".join(filter(None, (error.remedy, "what was declared is kept; declare it again to bring the run in line")))
        raise TrackingError(error.what, got=error.got, expected=error.expected, remedy=remedy) from error


def _indexed(evidence: Evidence) -> Evidence:
    record, log = evidence.record, evidence.record.template.log
    index = keys.index(record, record.status, evidence.sha256)
    first = declared_record(record, {said.key: said for said in reversed(evidence.declarations)}.values())
    params = keys.index(first, record.status, evidence.sha256).params
    now = run(record.run_id).data
    tracking.params(record.run_id, {key: value for key, value in params.items() if key not in now.params})
    tracking.tags(record.run_id, {**index.tags, **described(now.tags, log, description(record))})
    if version := now.tags.get(keys.tag(log, "model_version")):
        registry.follow(version, record, evidence.sha256)
    evidence = audit.read(evidence.target, log)[0]
    tracking.text(record.run_id, f"{keys.folder(log)}/{keys.REPORT}", write(evidence, "html").decode("utf-8"))
    return evidence
