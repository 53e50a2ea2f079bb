"""A log in three paragraphs of Markdown, for pages that show no more: MLflow's run and its registered version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mlflow_aifsm.facts import State
from mlflow_aifsm.record import Record
from mlflow_aifsm.report.characters import visible
from mlflow_aifsm.report.markdown import escape
from mlflow_aifsm.report.summary import verification_line
from mlflow_aifsm.report.words import spaced

LONGEST = 1000
"""Characters of a paragraph: those of both logs, and what stands beside them, fit into MLflow's 8,000 of a tag and 5,000 of a
version's description."""

MOST = 3
"""Findings that are named; the rest is counted."""

UNVERIFIED = "Not verified: how the delivered model behaves is not known."

TRAITS: Mapping[str, str] = {
    "graph.precision": "{}",
    "graph.opset": "ONNX operator set {}",
    "quantizers.precision": "{}",
    "quantizers.technique": "{}",
    "quantizers.scheme": "{}",
    "quantizers.granularity": "{}",
    "calibration.method": "ranges by {}",
    "recovery.qat": "{} with fake quantizers",
    "pruning.criteria": "pruned by {}",
    "pruning.patterns": "pattern {}",
}
"""What tells models apart, by fact, in the order of the line."""


def description(record: Record) -> tuple[str, str, str]:
    """What was made of what, how it was verified, how complete its log is and what was found; no string of it is markup."""
    named = f"{record.template.title} {record.log_id}"
    found = "; ".join((f"{record.status}: {record.state_line}", *_problems(record)))
    return (
        _paragraph(f"**{_told(named)}:** {_told(_made(record))}"),
        _paragraph(f"Verification {_told(verification_line(record.verification))}" if record.verification else UNVERIFIED),
        _paragraph(_told(found[:1].upper() + found[1:])),
    )


def told(text: str) -> str:
    """``text`` as one line of Markdown that shows its characters; where it is too long for a page, its length."""
    return _paragraph(_told(text))


def _told(text: str) -> str:
    return escape(" ".join(visible(text).split()))


def _paragraph(text: str) -> str:
    return text if len(text) <= LONGEST else f"{len(text):,} characters, in the report"


def _made(record: Record) -> str:
    given = record.entry_of("input.id")
    source = f", from {given.value.text}" if given and given.state.strength else ""
    return (" · ".join(_traits(record)) or "what it is is not recorded") + source


def _traits(record: Record) -> Iterator[str]:
    for fact, form in TRAITS.items():
        entry = record.entry_of(fact)
        if entry is not None and entry.state not in (State.NOT_APPLICABLE, State.NOT_RECORDED):
            yield form.format(spaced(entry.value.short) or entry.value.text)


def _problems(record: Record) -> Iterator[str]:
    if record.failure:
        yield record.failure
    codes = list(dict.fromkeys(found.code for found in record.open_findings))
    if codes:
        more = f" and {len(codes) - MOST} more kinds" if len(codes) > MOST else ""
        yield f"found: {', '.join(map(spaced, codes[:MOST]))}{more}"
