"""A log as a folder of files: what goes into the run, or, where that fails, what stays on disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mlflow_aifsm.codec import dumps, unstructure
from mlflow_aifsm.digests import manifest
from mlflow_aifsm.facts import Json
from mlflow_aifsm.record import Evidence, Record
from mlflow_aifsm.report.formats import write
from mlflow_aifsm.tracking.keys import MANIFEST, OUTSIDE_MANIFEST, RECORD, REPORT

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
"""First characters that make a spreadsheet run a cell's text."""


@dataclass(frozen=True, slots=True)
class Attachments:
    """What lies beside a record.

    Attributes:
        files: Content by relative POSIX path: script, diff, packages.
        documents: JSON content by file name: environment, verification.
        tables: Rows by table name: quantizers, sparsity.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    documents: Mapping[str, Json] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Mapping[str, Json]]] = field(default_factory=dict)


def stage(folder: Path, record: Record, attachments: Attachments) -> Path:
    """Writes record, attachments, manifest and report into ``folder`` and returns it.

    Raises:
        OSError: If the disk refuses.
    """
    for name, content in _contents(record, attachments).items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    listing = manifest(folder, OUTSIDE_MANIFEST)
    (folder / MANIFEST).write_bytes(dumps(unstructure(listing)))
    tables = {name: tuple(rows) for name, rows in attachments.tables.items()}
    evidence = Evidence(record, record.sha256, record.run_id, tables=tables)
    (folder / REPORT).write_bytes(write(evidence, "html"))
    return folder


def _contents(record: Record, attachments: Attachments) -> dict[str, bytes]:
    return {
        RECORD: record.to_json(),
        **attachments.files,
        **{name: dumps(content) for name, content in attachments.documents.items()},
        **{f"{name}.csv": csv(rows) for name, rows in attachments.tables.items()},
        **{f"{name}.json": table(rows) for name, rows in attachments.tables.items() if rows},
    }


def table(rows: Sequence[Mapping[str, Json]]) -> bytes:
    """Rows in the form of ``mlflow.log_table``, which the UI shows: column names, and a list of cells for each row."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return dumps({"columns": columns, "data": [[row.get(name) for name in columns] for row in rows]})


def csv(rows: Sequence[Mapping[str, Json]]) -> bytes:
    """Rows as CSV in UTF-8 (RFC 4180); a text that a spreadsheet would run as a formula gets an apostrophe in front."""
    # as objects, so that an integer beside an empty cell stays an integer
    frame = pd.DataFrame([{name: _inert(cell) for name, cell in row.items()} for row in rows], dtype=object)
    # only what is in the line's end is quoted: a bare carriage return would begin a row, and with it a formula
    text: str = frame.to_csv(index=False, lineterminator="\r\n")
    return text.encode("utf-8", "backslashreplace")


def _inert(cell: Json) -> Json:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def spool(destination: Path, record: Record, attachments: Attachments, delivered: Iterable[Path]) -> Path:
    """Keeps a log that could not be logged: its folder, and the delivered files in ``model/``, under a name that is free.

    Raises:
        OSError: If the disk refuses this too.
    """
    place = next(name for name in _names(destination) if not name.exists())
    try:
        place.mkdir(parents=True)
        stage(place, record, attachments)
        for file in delivered:
            (place / "model").mkdir(exist_ok=True)
            shutil.copyfile(file, place / "model" / file.name)
    except OSError:
        # half a log would look like a log
        shutil.rmtree(place, ignore_errors=True)
        raise
    return place


def _names(destination: Path) -> Iterable[Path]:
    yield destination
    number = 2
    while True:
        yield destination.with_name(f"{destination.name}-{number}")
        number += 1
