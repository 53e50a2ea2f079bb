"""A validation on the terminal: a table of the trials."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlflow_aifsm.validation.record import Outcome, ValidationRecord
from mlflow_aifsm.validation.trial import Trial

WIDTH = 170
"""Columns of the table where no terminal says how wide it is."""


def told(record: ValidationRecord) -> None:
    """Prints each trial with its outcome and the time it took, and what was said where it did not pass."""
    table = _table("trial", "outcome", "seconds", "found")
    for one in record.faults:
        _add(table, one, "caught" if one.passed else "MISSED")
    for one in record.good_models:
        _add(table, one, "not accused" if one.passed else "ACCUSED")
    _print(table)


def listed(trials: Iterable[tuple[str, Trial]]) -> None:
    """Prints each trial with its group, what is injected, and what is expected of the tool."""
    table = _table("group", "trial", "what is done", "expected")
    for group, one in trials:
        table.add_row(group, one.name, Text(one.about), Text(str(one.expected or "nothing is found")))
    _print(table)


def _add(table: Table, one: Outcome, outcome: str) -> None:
    style = "green" if one.passed else "bold red"
    table.add_row(Text(one.name), Text(outcome, style), f"{one.seconds:.1f}", Text(_first(one.found)))


def _first(found: tuple[str, ...]) -> str:
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return found[0] + more if found else "nothing"


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False).print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
