"""A comparison into bytes of a format, and into files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from mlflow_aifsm.comparison.comparing import Compared
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.report import comparison_formats
from mlflow_aifsm.report.comparison_document import ROWS
from mlflow_aifsm.tracking.staging import csv


def _csv(compared: Compared) -> bytes:
    """All rows of the table as CSV; no cell begins a formula, and a number that was not measured is empty."""
    frame = compared.frame.reset_index()
    frame["made_at"] = [moment.isoformat() if pd.notna(moment) else None for moment in frame["made_at"]]
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return csv([{str(name): cell for name, cell in row.items()} for row in rows])


FORMATS: Mapping[str, Callable[[Compared], bytes]] = {
    "md": lambda compared: comparison_formats.md(compared.comparison),
    "html": lambda compared: comparison_formats.html(compared.comparison),
    "csv": _csv,
    "json": lambda compared: comparison_formats.json(compared.comparison),
}
"""Formats of a comparison beside the terminal. To add one: a function from a comparison to bytes, and its line here."""


def checked(format: str) -> str:
    """``format``, if it is one.

    Raises:
        InputError: If it is none.
    """
    if format not in FORMATS:
        raise InputError(f"format '{format}' of a comparison", expected=", ".join(("terminal", *FORMATS)))
    return format


def written(compared: Compared, format: str) -> bytes:
    """The comparison in one of `FORMATS`.

    Raises:
        InputError: If there is no such format.
    """
    return FORMATS[checked(format)](compared)


def saved(compared: Compared, format: str, output: str | Path) -> tuple[Path, ...]:
    """Writes the comparison to ``output``; where a document has less than all rows, a CSV with all beside it.

    Returns:
        The files that were written.

    Raises:
        InputError: If there is no such format, or a file cannot be written.
    """
    path = Path(output)
    files = {path: written(compared, format)}
    if format in ("md", "html") and len(compared.logs) > ROWS:
        files[path.with_suffix(".csv")] = written(compared, "csv")
    for file, content in files.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        except OSError as error:
            raise InputError(f"cannot write {file}: {error.strerror}", remedy="name another file with -o") from error
    return tuple(files)
