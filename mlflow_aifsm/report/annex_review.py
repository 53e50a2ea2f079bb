"""Annex F: what people said of the log, and lines for those who sign it."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow_aifsm.record import Evidence, Record
from mlflow_aifsm.report.annex_tables import plain_table
from mlflow_aifsm.report.blocks import Block, Cell, Heading, Row, Table, Text
from mlflow_aifsm.report.words import date, line

DAY = "%Y/%m/%d"
TO_SIGN = "\N{NO-BREAK SPACE}"
"""Holds the place of a signature open in every format."""


def review(evidence: Evidence) -> Iterable[Block]:
    """The declarations, oldest first; the names of those who made, reviewed and approved, to be signed by hand."""
    record = evidence.record
    yield Heading(2, "", Text("Review"))
    said = tuple(
        (date(one.at, DAY), one.by, f"{record.template.field(one.key).label}: {one.value}") for one in evidence.declarations
    )
    yield plain_table(("Date", "Who", "Declared"), said, (16, 24, 60)) if said else line("Nobody has declared anything.")
    yield Heading(2, "", Text("Signatures"))
    yield line("No approval is on record: this log is not approved until somebody signs it.")
    rows = (("Made by", responsible(record)), ("Reviewed by", ""), ("Approved by", ""))
    yield Table(tuple(map(Text, ("Part", "Name", "Date", "Signature"))), tuple(_line(*row) for row in rows), (18, 30, 18, 34))


def responsible(record: Record) -> str:
    """The responsible of a log, or nothing where nobody is on record."""
    entry = record.entry_of("log.responsible")
    return entry.value.text if entry and entry.state.strength else ""


def _line(part: str, name: str) -> Row:
    blank = Cell((line(TO_SIGN), line(TO_SIGN)))
    return Row((Cell((line(part),)), Cell((line(name),)) if name else blank, blank, blank))
