"""Where a record stands in a run: names of artifacts, tags, params and metrics, within MLflow's limits.

``record.json`` is the truth; params and tags are its index, short enough to compare runs by.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlflow_aifsm.catalogue import CATALOGUE
from mlflow_aifsm.digests import sha256_bytes
from mlflow_aifsm.facts import Json, State
from mlflow_aifsm.record import Entry, Record, Status
from mlflow_aifsm.template import LOGS, Field, Template

PARAM_LIMIT = 6000
"""Characters of a param value that MLflow keeps; it cuts longer ones with a warning only."""
TAG_LIMIT = 8000
"""Characters of a tag value that MLflow keeps."""
STEP = {log: step for step, log in enumerate(LOGS)}
"""Metrics of a conversion are step 0, of an optimization step 1: before and after under one key."""

RECORD = "record.json"
MANIFEST = "manifest.json"
DECLARATIONS = "declarations"
"""Folder of what people declared: a file for each time somebody did, so that two at once lose nothing."""
REPORT = "report.html"
NUMBERS = "numbers"
"""Name of the tag that holds the log's own metrics, where those of the run are of the log that came last."""
SUPERSEDED_BY = "superseded_by"
"""Name of the tag that holds the run of the log that took this one's place."""
OUTSIDE_MANIFEST = (MANIFEST, f"{DECLARATIONS}/", REPORT)
"""What changes after the log was made: declarations beside the record, and the view of both."""
CLAIM = "claim."
"""Begins the name of a tag that a writer sets while it claims a run, a random part behind it; it is gone right after."""


def folder(log: str) -> str:
    """Artifact folder of a log: ``aifsm/conversion`` or ``aifsm/optimization``."""
    return f"aifsm/{log}"


def tag(log: str, name: str) -> str:
    """Key of one of a log's own tags: ``aifsm.conversion.status``."""
    return f"aifsm.{log}.{name}"


@dataclass(frozen=True, slots=True)
class Index:
    """What a run holds of a record besides its artifacts; all values are text, as MLflow keeps them."""

    params: Mapping[str, str]
    tags: Mapping[str, str]


def index(record: Record, status: Status, record_sha256: str) -> Index:
    """The params and tags that a run holds for ``record``; a field that is not recorded has neither."""
    log = record.template.log
    identity = {
        "template": f"{record.template.id} v{record.template.version}",
        "log_id": record.log_id,
        "status": str(status),
        "record_sha256": record_sha256,
        "input_sha256": record.input_sha256,
        "output_sha256": record.output_sha256,
        **{name: fitting(text, TAG_LIMIT, log) for name, text in _circumstances(record).items()},
    }
    tags = {tag(log, name): text for name, text in identity.items() if text}
    params = {**_indexed(record, "param", PARAM_LIMIT), **_beside(record)}
    return Index(params, {**tags, **_indexed(record, "tag", TAG_LIMIT)})


def _circumstances(record: Record) -> dict[str, str]:
    """What one must know to compare two logs: on which data, in which runtime and on which host the model was judged."""
    judged = record.verification
    host = next((host for host in map(_host, _environments(record)) if host), "")
    if judged is None:
        return {"host": host}
    ran = {"data": judged.data, "data_sha256": judged.data_sha256, "runtime": judged.runtime}
    return {"verification": judged.verdict, **ran, "host": host}


def _environments(record: Record) -> Iterator[Json]:
    """The data of each fact of the record that describes a host."""
    for row in record.template.fields:
        entry = record.entries[row.key]
        known = ((row.fact, entry.value), *((fact.name, fact.value) for fact in entry.beside))
        yield from (value.data for name, value in known if name == "environment.host")


def _host(data: Json) -> str:
    """Processor, cores and system, which decide how long a model takes; empty where the data do not tell them."""
    try:
        processor, cores = data["processor"] or data["machine"], data["cores"]["usable"]
        return f"{processor}, {cores} core{'' if cores == 1 else 's'}, {data['system']} {data['machine']}"
    except (TypeError, KeyError):
        return ""


def numbers(metrics: Mapping[str, float]) -> str:
    """The metrics of one log as the text of its ``numbers`` tag: JSON by key without ``aifsm.``, each as MLflow holds it."""
    return json.dumps({key.removeprefix("aifsm."): value for key, value in metrics.items()}, sort_keys=True)


def indexed_value(record: Record, row: Field) -> str | None:
    """The text that the run holds for one field, or None where nothing is recorded."""
    limit = TAG_LIMIT if row.log_as == "tag" else PARAM_LIMIT
    return _value(record.entries[row.key], limit, record.template.log)


def _indexed(record: Record, destination: str, limit: int) -> dict[str, str]:
    log = record.template.log
    rows = (
        (row.key, _value(record.entries[row.key], limit, log)) for row in record.template.fields if row.log_as == destination
    )
    return {key: value for key, value in rows if value is not None}


def beside(template: Template) -> dict[str, str]:
    """Params of facts that stand beside an answer: key by the fact's name."""
    named = (name for row in template.fields for name in row.beside)
    return {name: CATALOGUE[name].param for name in named if CATALOGUE[name].param}


def _beside(record: Record) -> dict[str, str]:
    keys, log = beside(record.template), record.template.log
    facts = (fact for entry in record.entries.values() for fact in entry.beside if fact.name in keys)
    return {keys[fact.name]: fitting(fact.value.brief, PARAM_LIMIT, log) for fact in facts if fact.value.text}


def _value(entry: Entry, limit: int, log: str) -> str | None:
    if entry.state is State.NOT_RECORDED:
        return None
    return fitting(str(State.NOT_APPLICABLE) if entry.state is State.NOT_APPLICABLE else entry.value.brief, limit, log)


def fitting(text: str, limit: int, log: str) -> str:
    """``text`` itself, or, where MLflow would cut it, what it is and where it stands; never a part of it.

    A lone surrogate, as a file name that is not UTF-8 brings it, is escaped: no database takes it.
    """
    encoded = text.encode("utf-8", "backslashreplace")
    shown = encoded.decode("utf-8")
    if len(shown) <= limit:
        return shown
    return f"{len(text)} characters, sha256 {sha256_bytes(encoded)}, see {folder(log)}/{RECORD}"
