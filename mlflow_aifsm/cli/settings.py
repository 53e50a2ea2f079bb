"""``check --config``: the settings in force, and where each one came from."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlflow_aifsm import config
from mlflow_aifsm.report.json import as_text

WIDTH = 170
"""Columns of the table where no terminal says how wide it is."""
DEFAULT = "default"


def shown(*, as_json: bool) -> None:
    """Prints each setting with its value and its origin: a variable of the environment, a file, or the default."""
    found, file = config.load(), config.nearest()
    rows = {name: (getattr(found, name), found.origins.get(name, DEFAULT)) for name in config.SETTINGS}
    if as_json:
        settings = {name: {"value": value, "origin": origin} for name, (value, origin) in rows.items()}
        click.echo(as_text({"file": None if file is None else str(file), "settings": settings}))
        return
    click.echo(f"{file or f'no {config.FILE} at or above {Path.cwd()}'}")
    table = Table(box=None, pad_edge=False)
    for column in ("setting", "value", "from"):
        table.add_column(column, overflow="fold")
    for name, (value, origin) in rows.items():
        style = "dim" if origin == DEFAULT else ""
        table.add_row(Text(name, style), Text(_in_words(value), style), Text(_short(origin, file), style))
    Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False).print(table)


def _in_words(value: str | bool) -> str:
    return (value or "not set") if isinstance(value, str) else str(value).lower()


def _short(origin: str, file: Path | None) -> str:
    return config.FILE if origin == str(file) else origin
