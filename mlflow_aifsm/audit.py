"""A target into evidence: the stored record, the lines beside it, and what holds when everything is looked at again.

A target is a run id, a ``runs:/`` or ``models:/`` URI, a model folder, a folder with a record, or a delivered file, whose run
is found by its digest. Nothing is trusted: record, artifacts, delivered files, params and tags are compared with each other.
Where a folder or a file is named, it is that one's bytes that are looked at, not those of the model that the run keeps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mlflow_aifsm.capture.frozen import file_set
from mlflow_aifsm.codec import loads, structure
from mlflow_aifsm.digests import FileDigest, differences, manifest, set_digest, sha256_bytes
from mlflow_aifsm.errors import InputError, NotFoundError, RecordError
from mlflow_aifsm.fill import declared_record
from mlflow_aifsm.flavor import EXTRAS
from mlflow_aifsm.record import Check, Declaration, Evidence, Record
from mlflow_aifsm.template import LOGS
from mlflow_aifsm.tracking import keys
from mlflow_aifsm.tracking.read import StoredLog, logs_of_run, model_folder, run, run_by_output, table

TABLES = ("steps", "quantizers", "sparsity", "layers", "calibration", "distributions", "learned")
"""Tables that a log may have beside its record."""
FILE_LIKE = re.compile(r"[/\\]|\.[A-Za-z]\w*$")
"""A target with a separator or a suffix was meant as a path: no run id has either."""


def read(target: str, log: str | None = None) -> tuple[Evidence, ...]:
    """The evidence of each log that ``target`` has, conversion before optimization.

    Args:
        target: Run id, URI, folder or file.
        log: ``conversion`` or ``optimization`` to read only that one.

    Raises:
        NotFoundError: If there is no such target, or it has no log.
        RecordError: If a record cannot be read.
        TrackingError: If MLflow cannot be reached.
    """
    if log is not None and log not in LOGS:
        raise InputError(f"log '{log}'", expected=" or ".join(LOGS))
    found = [stored for stored in _stored(target) if log in (None, stored.log)]
    if not found:
        remedy = "leave --log away to see the one it has" if log else "name the run that made it"
        raise NotFoundError(f"{target} has no {log or ''} log", remedy=remedy)
    return tuple(_evidence(stored, target) for stored in found)


def load_record(target: str, log: str | None = None) -> Record:
    """The record of ``target`` with the declarations laid over it; the optimization's where a run has both logs.

    Raises:
        NotFoundError: If there is no such target, or it has no log.
        RecordError: If the record cannot be read.
        TrackingError: If MLflow cannot be reached.
    """
    return read(target, log)[-1].record


def exit_code(logs: tuple[Evidence, ...]) -> int:
    """Exit code for several logs: the gravest, 5 before 4 before 3 before 0."""
    return max(evidence.status.exit_code for evidence in logs)


def _stored(target: str) -> tuple[StoredLog, ...]:
    path = Path(target)
    if target.startswith("models:/"):
        return _of_folder(model_folder(target), target)
    if target.startswith("runs:/"):
        return logs_of_run(target.removeprefix("runs:/").partition("/")[0])
    if path.is_dir():
        return _of_folder(path, target)
    if path.is_file():
        return _of_file(path)
    if FILE_LIKE.search(target):
        remedy = "name a run id, a runs:/ or models:/ URI, a folder or a file that exists"
        raise NotFoundError(f"there is no file or folder {target}", remedy=remedy)
    return logs_of_run(target)


def _of_file(file: Path) -> tuple[StoredLog, ...]:
    """The log that delivered the file; the other log of its run speaks about another file."""
    digest = set_digest(file_set(file))
    logs = logs_of_run(run_by_output(digest))
    return tuple(
        replace(stored, delivered=file) for stored in logs if stored.tags.get(keys.tag(stored.log, "output_sha256")) == digest
    )


def _of_folder(folder: Path, target: str) -> tuple[StoredLog, ...]:
    """The log of a model folder is read from its run, where its lines are; from the folder alone where the run is gone."""
    copy, delivered = record_and_delivered(folder, target)
    record = Record.from_json(copy.read_bytes())
    log = record.template.log
    try:
        run(record.run_id)
    except NotFoundError as error:
        return (StoredLog(log, copy.parent, delivered=delivered, alone=str(error)),)
    logs = logs_of_run(record.run_id)
    found = tuple(replace(stored, delivered=delivered, copy=copy) for stored in logs if stored.log == log)
    if not found:
        remedy = f"'mlflow-aifsm check {record.run_id}' shows what the run holds"
        raise NotFoundError(f"run {record.run_id}, which {target} names, has no {log} log", remedy=remedy)
    return found


def record_and_delivered(folder: Path, target: str) -> tuple[Path, Path | None]:
    """The record of a folder, and where the files lie that it delivered, if they lie there too.

    A model holds its record in a folder inside it; a log that could not be logged holds its model in a folder inside it.
    """
    if (folder / EXTRAS / keys.RECORD).is_file():
        return folder / EXTRAS / keys.RECORD, folder
    if not (folder / keys.RECORD).is_file():
        remedy = "name the run that made it, or a model that this package logged"
        raise NotFoundError(f"{target} holds no record", remedy=remedy)
    around = folder.resolve().parent
    places = ((around, around / "MLmodel"), (folder / "model", folder / "model"))
    return folder / keys.RECORD, next((place for place, mark in places if mark.exists()), None)


def _evidence(stored: StoredLog, target: str) -> Evidence:
    raw = stored.record
    made = Record.from_json(raw)
    said = tuple(_declaration(line) for line in stored.declarations)
    record = declared_record(made, said)
    digest = sha256_bytes(raw)
    rows = {name: found for name in TABLES if (found := table(stored, name))}
    evidence = Evidence(record, digest, target, (), said, rows)
    return Evidence(record, digest, target, tuple(_checks(stored, made, evidence)), said, rows)


def _declaration(line: str) -> Declaration:
    try:
        return structure(loads(line), Declaration, "declaration")
    except RecordError as error:
        raise RecordError(f"{keys.DECLARATIONS}: {error.what}", got=line[:80], remedy=error.remedy) from error


def _checks(stored: StoredLog, made: Record, evidence: Evidence) -> Iterator[Check]:
    yield _record_check(stored, evidence.sha256)
    yield _manifest_check(stored)
    yield _delivered_check(stored, made)
    if stored.copy:
        yield _copy_check(stored.copy, evidence.sha256)
    if stored.run_id:
        yield _index_check(stored, made, evidence)
    if later := stored.tags.get(keys.tag(stored.log, keys.SUPERSEDED_BY)):
        yield Check("a later log in its place", None, f"the log of run {later} supersedes this one")


def _record_check(stored: StoredLog, digest: str) -> Check:
    recorded = stored.tags.get(keys.tag(stored.log, "record_sha256"))
    what = "record.json against the run's tag"
    if recorded is None:
        seen = f"only the folder was looked at: {stored.alone}" if stored.alone else "the run does not name its digest"
        return Check(what, None, seen)
    holds = recorded == digest
    return Check(what, holds, f"sha256 {digest}" + ("" if holds else f", the run says {recorded}"))


def _copy_check(copy: Path, digest: str) -> Check:
    found = sha256_bytes(copy.read_bytes())
    seen = f"sha256 {found}" + ("" if found == digest else f", the run's has {digest}")
    return Check("record.json of the target against the run's", found == digest, seen)


def _manifest_check(stored: StoredLog) -> Check:
    what = "artifacts against manifest.json"
    if stored.manifest is None:
        return Check(what, False if stored.run_id else None, "manifest.json is missing")
    try:
        listed = structure(loads(stored.manifest), tuple[FileDigest, ...], "manifest")
    except RecordError as error:
        return Check(what, False, f"manifest.json cannot be read: {error.what}")
    if not stored.run_id:
        return Check(what, None, "a model folder holds record and manifest only")
    found = manifest(stored.folder, keys.OUTSIDE_MANIFEST)
    changed = differences(listed, found)
    return Check(what, not changed, "; ".join(changed) or f"{len(listed)} files unchanged")


def _delivered_check(stored: StoredLog, record: Record) -> Check:
    what = "delivered file against the record"
    if record.failure or not record.output_files:
        return Check(what, None, "nothing was delivered" + (": the operation failed" if record.failure else ""))
    uri = stored.tags.get(keys.tag(stored.log, "model_uri"))
    try:
        place = stored.delivered or (model_folder(uri) if uri else None)
    except NotFoundError as error:
        return Check(what, False, str(error))
    if place is None:
        # a log that was finished named its model, so somebody took the name away
        finished = keys.tag(stored.log, "record_sha256") in stored.tags
        return Check(what, False if finished else None, "no model is named in which it could be found")
    changed = _changed(place, record)
    return Check(what, not changed, "; ".join(changed) or f"sha256 {record.output_sha256} holds")


def _changed(place: Path, record: Record) -> tuple[str, ...]:
    """What differs from the record in a folder, or in a file, which may have been renamed since."""
    if place.is_file():
        digest = set_digest(file_set(place))
        same = digest == record.output_sha256
        return () if same else (f"{place.name}: sha256 {digest[:12]}…, recorded {record.output_sha256[:12]}…",)
    names = {file.path for file in record.output_files}
    return differences(record.output_files, [file for file in manifest(place) if file.path in names])


def _index_check(stored: StoredLog, made: Record, evidence: Evidence) -> Check:
    """Tags follow the declarations; a param is written once, so it holds what was made, else what was declared first."""
    first = {said.key: said for said in reversed(evidence.declarations)}
    begun = declared_record(made, (said for said in evidence.declarations if first[said.key] is said))
    expected = {**_index(begun, evidence).params, **_index(made, evidence).params}
    now = _index(evidence.record, evidence)
    wrong = [key for key, value in expected.items() if stored.params.get(key) != value]
    wrong += [key for key, value in now.tags.items() if stored.tags.get(key) != value]
    known = expected.keys() | now.tags.keys()
    added = [row.key for row in made.template.fields if row.key not in known and row.key in {**stored.params, **stored.tags}]
    said = [f"{', '.join(names)} {word}" for names, word in ((wrong, "differ"), (added, "not in the record")) if names]
    agree = f"{len(expected)} params and {len(now.tags)} tags agree"
    return Check("params and tags against the record", not said, "; ".join(said) or agree)


def _index(record: Record, evidence: Evidence) -> keys.Index:
    return keys.index(record, record.status, evidence.sha256)
