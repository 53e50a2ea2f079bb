"""The formats a report comes in. To add one: a file with ``write(evidence) -> bytes``, and its line in this table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.record import Evidence
from mlflow_aifsm.report import html, json, markdown

WRITERS: Mapping[str, Callable[[Evidence], bytes]] = {"html": html.write, "md": markdown.write, "json": json.write}


def write(evidence: Evidence, format: str) -> bytes:
    """The report of ``evidence`` in ``format``, one of `WRITERS`; same evidence, same bytes.

    Raises:
        InputError: If there is no such format.
    """
    if format not in WRITERS:
        raise InputError("no such report format", got=format, expected=", ".join(WRITERS))
    return WRITERS[format](evidence)
