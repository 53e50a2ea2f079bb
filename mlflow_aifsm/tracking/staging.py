"""A log as a folder of files: what goes into the run, or, where that fails, what stays on disk."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd

from mlflow_aifsm.codec import dumps, unstructure
from mlflow_aifsm.digests import manifest
from mlflow_aifsm.facts import Json
from mlflow_aifsm.record import Evidence, Record
from mlflow_aifsm.report.formats import write
from mlflow_aifsm.report.plots import FOLDER, plots
from mlflow_aifsm.tracking.keys import MANIFEST, OUTSIDE_MANIFEST, RECORD, REPORT

_logger = logging.getLogger(__name__)

MODEL = "model/"
"""Folder of the delivered files in a log that stays on disk."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
"""First characters that make a spreadsheet run a cell's text."""


@dataclass(frozen=True, slots=True)
class Attachments:
    """What lies beside a record.

    Attributes:
        files: Content by relative POSIX path: script, diff, packages.
        documents: JSON content by file name: environment, verification.
        tables: Rows by table name: quantizers, sparsity, layers, calibration, distributions; plots are drawn from them.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    documents: Mapping[str, Json] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Mapping[str, Json]]] = field(default_factory=dict)


def stage(folder: Path, record: Record, attachments: Attachments) -> Path:
    """Writes record, attachments, manifest and report into ``folder`` and returns it.

    Raises:
        OSError: If the disk refuses.
    """
    for name, content in _contents(folder, record, attachments):
        try:
            _put(folder / name, content())
        except Exception as error:
            # the record is the truth, and a report can be made of it later
            if name != REPORT or isinstance(error, OSError):
                raise
            _unmade(name, record, error)
    return folder


def _contents(folder: Path, record: Record, attachments: Attachments) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Each file's name and what makes its content; the manifest digests the files before it, the report is the last."""
    yield RECORD, record.to_json
    yield from ((name, partial(bytes, content)) for name, content in attachments.files.items())
    yield from ((name, partial(dumps, content)) for name, content in attachments.documents.items())
    for name, rows in attachments.tables.items():
        yield f"{name}.csv", partial(csv, rows)
        if rows:
            yield f"{name}.json", partial(table, rows)
    for name, plot in plots(attachments.tables).items():
        yield f"{FOLDER}{name}", plot.svg.encode
    yield MANIFEST, partial(_listing, folder)
    yield REPORT, partial(_report, record, attachments)


def _put(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def _listing(folder: Path) -> bytes:
    return dumps(unstructure(manifest(folder, (*OUTSIDE_MANIFEST, MODEL))))


def _report(record: Record, attachments: Attachments) -> bytes:
    tables = {name: tuple(rows) for name, rows in attachments.tables.items()}
    return write(Evidence(record, record.sha256, record.run_id, tables=tables), "html")


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


def keep(destination: Path, delivered: Mapping[str, Path]) -> Path:
    """Copies delivered files into ``model/`` of a folder under a name that is free, and returns the folder.

    Args:
        destination: The folder; a number is added where there is one of that name.
        delivered: Files by path relative to the delivered file's folder, which is kept: ONNX finds external data by it.

    Raises:
        OSError: If the disk refuses.
    """
    place = next(name for name in _names(destination) if not name.exists())
    try:
        place.mkdir(parents=True)
        for name, file in delivered.items():
            copy = place / MODEL / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    except OSError:
        # half a model would look like a model
        shutil.rmtree(place, ignore_errors=True)
        raise
    return place


def spool(destination: Path, record: Record, attachments: Attachments, delivered: Mapping[str, Path]) -> Path:
    """Keeps a log that could not be logged: first the delivered files, as ``keep`` does, then all of it that can be written.

    Raises:
        OSError: If the disk refuses this too.
    """
    place = keep(destination, delivered)
    for name, content in _contents(place, record, attachments):
        try:
            _put(place / name, content())
        except OSError:
            # half a log would look like a log
            shutil.rmtree(place, ignore_errors=True)
            raise
        except Exception as error:  # noqa: BLE001
            _unmade(name, record, error)
    return place


def _unmade(name: str, record: Record, error: Exception) -> None:
    _logger.warning("%s of log %s cannot be made: %s: %s", name, record.log_id, type(error).__name__, error)


def _names(destination: Path) -> Iterator[Path]:
    yield destination
    number = 2
    while True:
        yield destination.with_name(f"{destination.name}-{number}")
        number += 1
