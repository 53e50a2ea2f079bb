"""A finished log as a notebook shows it: the summary as a table in a piece of HTML.

A front end puts it into a page of its own, light or dark, and may drop style sheets: so each element has its style, text has
the page's colour, and only what has a background has a colour.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_aifsm.record import Record, VerificationResult
from mlflow_aifsm.report.blocks import Mark, Text
from mlflow_aifsm.report.html import page
from mlflow_aifsm.report.summary import FINDING, GAP, LOGGED, REPORT, VERIFICATION, rows
from mlflow_aifsm.report.words import status_badge

COLOURS = {
    Mark.GOOD: "color: #0c5a3a; background: #e4f3eb",
    Mark.SAID: "color: #6a4a00; background: #fbf1d6",
    Mark.BAD: "color: #fff; background: #9d1c1c",
}
"""Ink and ground of the marks that a summary has, those of the report."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: what it is about, coloured or not, its words, and the address of a page that tells more."""

    heading: Text
    text: Text
    mark: Mark | None
    is_command: bool
    address: Text


def html(record: Record, model_uri: str, version_uri: str, address: str) -> str:
    """The summary of a finished log as a piece of HTML; every string in it is escaped.

    Args:
        record: The record.
        model_uri: The logged model.
        version_uri: The registered version.
        address: Page of the run; empty where none is known.
    """
    title, subject, status = Text(record.template.title), Text(record.log_id), status_badge(record.status)
    lines = [_line(record, heading, text, address) for heading, text in rows(record, model_uri, version_uri)]
    made = page("result.html.j2", title=title, subject=subject, status=status, rows=lines, colours=COLOURS)
    return made.decode("utf-8")


def _line(record: Record, heading: str, text: str, address: str) -> Line:
    marks = {FINDING: Mark.BAD, GAP: Mark.SAID, VERIFICATION: _outcome(record.verification)}
    return Line(Text(heading), Text(text), marks.get(heading), heading == REPORT, Text(address if heading == LOGGED else ""))


def _outcome(result: VerificationResult | None) -> Mark:
    """Green is a criterion that held; outputs that nothing limits were run, not verified."""
    if result is None or (result.passed and not result.judged):
        return Mark.SAID
    return Mark.GOOD if result.passed else Mark.BAD
