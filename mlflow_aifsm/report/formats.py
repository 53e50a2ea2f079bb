"""The formats a report comes in. To add one: a file with ``render(document, look) -> bytes``, and its line in this table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec

from mlflow_aifsm.codec import dumps
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.record import Evidence
from mlflow_aifsm.report import json
from mlflow_aifsm.report.blocks import Document
from mlflow_aifsm.report.document import document
from mlflow_aifsm.report.dossier import dossier
from mlflow_aifsm.report.look import PLAIN, Look


@dataclass(frozen=True, slots=True)
class Writer:
    """What writes a format.

    Attributes:
        module: Its file in this package; imported when it is asked for, so that a format costs only those who use it.
        needs: The package that it is written with, where that is no dependency of this one.
        extra: The extra that brings it.
    """

    module: str
    needs: str = ""
    extra: str = ""


WRITERS: Mapping[str, Writer] = {
    "html": Writer("html"),
    "pdf": Writer("pdf", needs="typst", extra="pdf"),
    "docx": Writer("docx", needs="docxtpl", extra="docx"),
    "md": Writer("markdown"),
    "json": Writer("json"),
}


def write(evidence: Evidence, format: str, look: Look = PLAIN) -> bytes:
    """The report of ``evidence`` in ``format``, one of `WRITERS`; same evidence and look, same bytes.

    Raises:
        InputError: If there is no such format, or it needs an extra that is not installed.
    """
    if format == "json":
        return json.write(evidence)
    return _rendered(document(evidence), format, look)


def write_dossier(logs: Sequence[Evidence], format: str, look: Look = PLAIN) -> bytes:
    """Several logs as one document in ``format``, in their order; as JSON, the list of what each alone would be.

    Raises:
        InputError: If there is no such format, or it needs an extra that is not installed.
    """
    if format == "json":
        return dumps([json.data(evidence) for evidence in logs])
    return _rendered(dossier(logs), format, look)


def _rendered(made: Document, format: str, look: Look) -> bytes:
    module = import_module(f"mlflow_aifsm.report.{checked(format).module}")
    return bytes(module.render(replace(made, cover=replace(made.cover, logo=look.logo)), look))


def checked(format: str) -> Writer:
    """What writes ``format``.

    Raises:
        InputError: If there is no such format, or it needs an extra that is not installed.
    """
    if format not in WRITERS:
        raise InputError(f"report format '{format}'", expected=", ".join(WRITERS))
    writer = WRITERS[format]
    if writer.needs and find_spec(writer.needs) is None:
        remedy = f"pip install 'mlflow-aifsm[{writer.extra}]'"
        raise InputError(f"report format '{format}' needs the package {writer.needs}, which is not installed", remedy=remedy)
    return writer
