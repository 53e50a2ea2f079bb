"""The fields of a template as a table in the terminal."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlflow_aifsm.template import Field, Section, Template

WIDTH = 170
"""Columns of the table where no terminal says how wide it is."""

NARROW = 115
"""Columns below which a key takes two lines, so that the words beside it keep their room."""


def listing(template: Template) -> None:
    """Prints key, label, where logged, what fills it and its basis, a line a field."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    table = Table(
        title=Text(f"{template.title} ({template.id} v{template.version}): {len(template.counted)} fields"),
        title_justify="left",
    )
    for column in ("key", "label", "logged as", "filled by", "basis"):
        words = column in ("label", "filled by")
        table.add_column(column, overflow="fold", no_wrap=not words, ratio=1 if words else None)
    for section in template.sections:
        _add(table, section, narrow=console.width < NARROW)
    console.print(table)


def _add(table: Table, section: Section, *, narrow: bool) -> None:
    if section.title:
        table.add_section()
        table.add_row("", Text(section.title, style="bold"))
    for row in section.fields:
        head, _, last = row.key.rpartition(".")
        key = f"{head}.\n{last}" if narrow else row.key
        table.add_row(key, Text(_label(row)), row.log_as, Text(row.filled_by), str(row.basis))


def _label(row: Field) -> str:
    return f"… {row.label}" if row.open_row else row.label
