"""A page that lists reports and leads to each: what lies beside it, and in what state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mlflow_aifsm.record import Evidence
from mlflow_aifsm.report.blocks import Badge
from mlflow_aifsm.report.cells import DAY
from mlflow_aifsm.report.characters import visible
from mlflow_aifsm.report.html import page
from mlflow_aifsm.report.words import date, status_badge


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of the list; all strings are visible."""

    file: str
    log_id: str
    title: str
    subject: str
    date: str
    state: str
    status: Badge


def listed(file: str, evidence: Evidence) -> Listed:
    """The line of a report that lies in ``file`` beside the page."""
    record = evidence.record
    return Listed(
        file=file,
        log_id=visible(record.log_id),
        title=record.template.title,
        subject=visible(record.subject or "model not named"),
        date=visible(date(record.made_at, DAY)),
        state=visible(record.state_line),
        status=status_badge(evidence.status),
    )


def index(title: str, entries: Iterable[Listed]) -> bytes:
    """The page as UTF-8 HTML: one file that runs nothing and fetches nothing."""
    return page("index.html.j2", title=visible(title), entries=tuple(entries))
