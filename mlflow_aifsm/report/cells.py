"""One entry into one cell: the value, how it is known, what was asked, what stands beside it, what is wrong or missing."""

from __future__ import annotations

from mlflow_aifsm.facts import Fact, Finding, Source, State, not_recorded
from mlflow_aifsm.fill import SETTLED_BY_DECLARATION
from mlflow_aifsm.record import Entry
from mlflow_aifsm.report.blocks import Badge, Cell, Mark, Notice, Paragraph, Role, Text, Tone
from mlflow_aifsm.report.words import (
    code,
    date,
    filled,
    known,
    lead,
    line,
    plain,
    quiet,
    readable,
    sentence,
    state_badge,
    strong,
)
from mlflow_aifsm.template import Field

UNTOLD = "nothing in this log tells it"
"""The reason where a fact that belongs beside a value was never given."""

DAY = "%Y/%m/%d"
"""How the templates write the date of design."""


def cell(row: Field, entry: Entry, target: str) -> Cell:
    """The cell of the field ``row``; ``target`` goes into the line that fills a gap."""
    return Cell((
        *_answer(row, entry, target),
        *_asked(entry),
        *_beside(row, entry, target),
        *(finding_notice(finding, row, target) for finding in entry.findings),
    ))  # fmt: skip


def gap(row: Field, entry: Entry) -> str:
    """Why ``entry`` does not answer ``row``, in one sentence; empty if it does."""
    if entry.answers(row):
        return ""
    if entry.state is State.NOT_RECORDED:
        return f"Not recorded: {sentence(entry.reason or 'no reason given')}"
    if entry.state is State.NOT_APPLICABLE:
        return "Said not to apply, without a reason."
    if not entry.value.text:
        return f"Marked as {entry.state}, but there is no value."
    return f"Not answered: this field must be {row.basis}, and the value is only {entry.state}."


def remedy(row: Field, entry: Entry, target: str) -> str:
    """The line that fills the gap of ``row``."""
    return filled(entry.remedy or row.remedy, target)


def settled_by(finding: Finding, row: Field, target: str) -> str:
    """The line that settles an open ``finding`` of the field ``row``; empty where no declaration does."""
    settles = finding.open and finding.code in SETTLED_BY_DECLARATION and row.remedy.startswith("mlflow-aifsm declare ")
    return filled(row.remedy, target) if settles else ""


def finding_notice(finding: Finding, row: Field, target: str) -> Notice:
    """A finding as a box: its code, what was asked, what was measured, what it means, and the line that settles it."""
    state = "open" if finding.open else "accepted"
    lines = [line(Badge(f"finding {state}", Mark.BAD if finding.open else Mark.NEUTRAL), code(finding.code))]
    parts = (("Asked:", finding.asked), ("Found:", finding.measured), ("Effect:", finding.effect))
    lines += [line(quiet(name), text) for name, text in parts if text]
    if fill := settled_by(finding, row, target):
        lines.append(line(quiet("Settle it:"), code(fill)))
    return Notice(Mark.BAD if finding.open else Mark.NEUTRAL, tuple(lines))


def _answer(row: Field, entry: Entry, target: str) -> tuple[Paragraph | Notice, ...]:
    value: tuple[Paragraph, ...] = (_value(row, entry),) if entry.value.text or entry.state is State.NOT_APPLICABLE else ()
    if entry.state is not State.NOT_RECORDED:
        value = (*value, _known_how(entry.state, entry.source, _moment(row, entry)), *_behind(entry))
    return (*value, *_gap(row, entry, target))


def _value(row: Field, entry: Entry) -> Paragraph:
    if entry.state is State.NOT_APPLICABLE:
        return line(strong("Not applicable:"), sentence(entry.reason or "no reason given"))
    if row.fact == "log.date":
        return line(date(entry.value.text, DAY))
    trained = any(name.startswith("training.") for name in row.beside)
    value = plain(entry.value.text)
    return line(quiet(f"{lead(row.fact)}:"), value) if trained else line(value)


def _behind(entry: Entry) -> tuple[Paragraph, ...]:
    data = entry.value.data
    counted = isinstance(data, int | float) and not isinstance(data, bool)
    if entry.state is not State.NOT_APPLICABLE or not (data or counted):
        return ()
    return (line(quiet(f"Behind it: {f'{readable(data)} found' if counted else readable(data)}"), role=Role.META),)


def _moment(row: Field, entry: Entry) -> str:
    changed = row.fact == "log.date" and date(entry.value.text, DAY) != entry.value.text
    return entry.value.text if changed else ""


def _known_how(state: State, source: Source, more: str = "") -> Paragraph:
    said = str(source).removeprefix("declared ") if state is State.DECLARED else str(source)
    words = ", ".join(part for part in (said, more) if part)
    return line(state_badge(state), *([quiet(words)] if words else []), role=Role.META)


def _gap(row: Field, entry: Entry, target: str) -> tuple[Paragraph | Notice, ...]:
    """Loud where the template asks for the field, a plain line where it only invites it."""
    why = gap(row, entry)
    if not why:
        return ()
    fill = code(remedy(row, entry, target))
    if row.open_row:
        return line(Text(why, Tone.ALARM)), line(quiet("Fill it:"), fill, role=Role.META)
    return (Notice(Mark.BAD, (line(Text(why, Tone.ALARM)), line("Fill it:", fill))),)


def _asked(entry: Entry) -> tuple[Paragraph, ...]:
    asked, found = entry.asked, entry.value
    if asked is None or asked.text == found.text or (asked.data is not None and asked.data == found.data):
        return ()
    return (line(quiet("Asked:"), asked.text, role=Role.ASIDE),)


def _beside(row: Field, entry: Entry, target: str) -> tuple[Paragraph, ...]:
    present = {fact.name for fact in entry.beside}
    # what does not apply needs nothing beside it but what somebody declared; what is not known misses only itself
    known = tuple(fact for fact in entry.beside if entry.state is not State.NOT_APPLICABLE or fact.name == row.fact)
    missing = tuple(name for name in row.beside if name not in present) if entry.state.strength else ()
    unknown = tuple(not_recorded(name, UNTOLD) for name in missing)
    return tuple(paragraph for fact in (*known, *unknown) for paragraph in _fact(row, fact, target))


def _fact(row: Field, fact: Fact, target: str) -> tuple[Paragraph, ...]:
    name = "Declared" if fact.name == row.fact else lead(fact.name)
    if fact.state is State.NOT_RECORDED:
        why = line(quiet(f"{name}:"), state_badge(fact.state), sentence(fact.reason or "no reason given"), role=Role.ASIDE)
        return why, *([line(quiet("Fill it:"), code(filled(fact.remedy, target)), role=Role.META)] if fact.remedy else [])
    value = known(fact).removeprefix("sha256 ") if fact.name.endswith(".digest") else known(fact)
    return line(quiet(f"{name}:"), plain(value), role=Role.ASIDE), _known_how(fact.state, fact.source)
