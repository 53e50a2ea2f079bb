"""The first page: whose document it is, which log, and in what state, said before anything else."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow_aifsm.record import Evidence, Record
from mlflow_aifsm.report.blocks import Cover, Mark, Notice, Text
from mlflow_aifsm.report.cells import DAY
from mlflow_aifsm.report.words import STATUS_MEANINGS, code, date, line, quiet, sentence, status_badge, strong
from mlflow_aifsm.template import Template

UNSET = "not set in aifsm.toml"


def cover(evidence: Evidence, version: str) -> Cover:
    """The cover of ``evidence``; ``version`` is that of the newest row of the history."""
    record, status = evidence.record, evidence.status
    return Cover(
        organisation=_owner(record, "organisation"),
        project=_owner(record, "project"),
        title=Text(record.template.title),
        subject=Text(record.subject or "model not named"),
        status=status_badge(status),
        state=tuple(Text(part) for part in record.state_line.split(" · ")),
        meaning=Text(STATUS_MEANINGS[status]),
        notices=tuple(_notices(evidence)),
        pairs=_pairs(evidence, version),
    )


def document_id(record: Record) -> str:
    """The document's id in the project's own filing, else the template's."""
    return record.cover.get("document_id", "") or record.template.id


def template_name(template: Template) -> str:
    """Id, title and version of a template; the title alone where it is the id."""
    name = template.title if template.id == template.title else f"{template.id} {template.title}"
    return f"{name}, version {template.version}"


def _setting(record: Record, name: str) -> Text:
    return Text(record.cover[name]) if record.cover.get(name) else quiet(UNSET)


def _document_id(record: Record) -> Text:
    """A template without an id of its own has its title for one, and that names no document."""
    named = document_id(record)
    return quiet(UNSET) if named == record.template.title else Text(named)


def _owner(record: Record, name: str) -> Text:
    return Text(record.cover[name]) if record.cover.get(name) else quiet(f"{name.capitalize()} {UNSET}")


def _pairs(evidence: Evidence, version: str) -> tuple[tuple[Text, Text], ...]:
    record = evidence.record
    pairs = (
        ("Project", _setting(record, "project")),
        ("Organisation", _setting(record, "organisation")),
        ("Rev.", _setting(record, "rev")),
        ("Ref.", _setting(record, "ref")),
        ("Document ID", _document_id(record)),
        ("Document version", Text(version)),
        ("Template", Text(template_name(record.template))),
        ("Log ID", Text(record.log_id)),
        ("Model", Text(record.subject or "not named")),
        ("Date", _day(record)),
        ("Made by", Text(record.tool)),
        ("Run", code(record.run_id)),
        ("Record SHA-256", code(evidence.sha256)),
    )
    return tuple((Text(name), value) for name, value in pairs)


def _day(record: Record) -> Text:
    row = next((row for row in record.template.fields if row.fact == "log.date"), None)
    entry = record.entries[row.key] if row else None
    return Text(date(entry.value.text, DAY)) if entry and entry.value.text else quiet("not recorded")


def _notices(evidence: Evidence) -> Iterable[Notice]:
    record = evidence.record
    if record.failure:
        yield Notice(Mark.BAD, (line(strong("The operation failed:"), sentence(record.failure)),))
    for check in evidence.checks:
        if check.holds is False:
            yield Notice(Mark.BAD, (line(strong("Broken:"), check.what, quiet(check.detail)),))
    if record.verification is None:
        yield Notice(Mark.SAID, (line(strong("No verification was run."), "How the delivered model behaves is not known."),))
    elif record.verification.failure:
        yield Notice(Mark.BAD, (line(strong("The verification failed:"), sentence(record.verification.failure)),))
