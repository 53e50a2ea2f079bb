"""Facts into fields: the one place where what was asked meets what was found."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mlflow_aifsm.facts import Fact, Facts, Finding, Source, State, Value
from mlflow_aifsm.record import Declaration, Entry, Record
from mlflow_aifsm.template import Field, Template

ACCOUNTS = frozenset({"root", "admin", "administrator", "ci", "jenkins", "gitlab-runner", "runner", "github-actions"})
"""Account names that are no person."""

SETTLED_BY_DECLARATION = ("responsible_is_account", "template_residue", "input_unregistered")
"""Findings that a declared value settles."""

RESIDUE = re.compile(
    r"<Model_[^>]*>|Specify the framework|Format YYYY/MM/DD|^\s*(…|\.\.\.)\s*$|For instance:"
    r"|torch \(pythorch\)|it should be\s+stored the configuration|any additional information relevant to the conversion",
    re.IGNORECASE,
)
"""Words of the template's guidance; none may survive in a finished log, and no cell that is nothing but its guidance."""


def fill(template: Template, facts: Facts, declarations: Iterable[Declaration] = ()) -> dict[str, Entry]:
    """An entry for each field of ``template``: from its fact, with what was asked, what stands beside it, and what is wrong."""
    entries = {row.key: _entry(row, facts) for row in template.fields}
    return lay_over(template, entries, declarations)


def lay_over(template: Template, entries: Mapping[str, Entry], declarations: Iterable[Declaration]) -> dict[str, Entry]:
    """``entries`` with declared values laid over them, in order; a measured value stays, and a contradiction is a finding."""
    laid = dict(entries)
    for declaration in declarations:
        row = template.field(declaration.key)
        laid[row.key] = _declared(row, laid[row.key], declaration)
    return laid


def declared_record(record: Record, declarations: Iterable[Declaration]) -> Record:
    """``record`` with ``declarations`` laid over it; the record itself is never rewritten."""
    return replace(record, entries=lay_over(record.template, record.entries, declarations))


def agrees(compare: str, asked: Any, found: Any) -> bool:
    """Whether ``found`` satisfies ``asked``: ``equal``, ``at_least`` (numbers), ``subset`` (all asked items were found).

    Of a mapping, items are its parts: what was not asked for may be anything, and so may a part that is listed under
    ``either``, because the file would be the same either way.
    """
    if compare == "at_least":
        return bool(found >= asked)
    if compare == "subset":
        return _holds(asked, found)
    return bool(asked == found)


def _holds(asked: Any, found: Any) -> bool:
    if isinstance(asked, Mapping) and isinstance(found, Mapping):
        free = found.get("either", ())
        return all(part in found and (found[part] == wanted or part in free) for part, wanted in asked.items())
    if isinstance(asked, list | tuple) and isinstance(found, list | tuple):
        return set(asked) <= set(found)
    return bool(asked == found)


def _entry(row: Field, facts: Facts) -> Entry:
    beside = tuple(fact for name in row.beside if (fact := facts.get(name)) is not None)
    fact = facts.get(row.fact)
    if fact is None:
        return Entry(
            State.NOT_RECORDED, Value(""), Source(""), beside=beside, reason="nothing in this log tells it", remedy=row.remedy
        )
    asked = facts.get(row.asked) if row.asked else None
    problems = (*fact.findings, *(problem for other in beside for problem in other.findings), *_unmet(row, asked, fact))
    return Entry(
        fact.state,
        fact.value,
        fact.source,
        asked=asked.value if asked else None,
        beside=tuple(replace(other, findings=()) for other in beside),
        findings=tuple(replace(problem, field=row.key) for problem in (*problems, *_suspicious(row, fact))),
        reason=fact.reason,
        remedy=(fact.remedy or row.remedy) if fact.state is State.NOT_RECORDED else "",
    )


def _unmet(row: Field, asked: Fact | None, found: Fact) -> tuple[Finding, ...]:
    if asked is None or asked.value.data is None or found.state not in (State.MEASURED, State.NOT_APPLICABLE):
        return ()
    if found.state is State.MEASURED and agrees(row.compare, asked.value.data, found.value.data):
        return ()
    seen = found.value.text if found.state is State.MEASURED else found.reason
    effect = "the file does not do what was asked for"
    return (Finding("asked_not_found", asked=asked.value.text, measured=seen, effect=effect),)


def _suspicious(row: Field, fact: Fact) -> tuple[Finding, ...]:
    found = []
    if row.fact == "log.responsible" and fact.value.text.strip().lower() in ACCOUNTS:
        effect = "nobody stands for this log"
        found.append(Finding("responsible_is_account", asked="the name of a person", measured=fact.value.text, effect=effect))
    if _is_residue(fact.value.text, row.guidance):
        effect = "the field says nothing about this model"
        found.append(Finding("template_residue", asked="a value", measured=fact.value.text, effect=effect))
    return tuple(found)


def _is_residue(text: str, guidance: str) -> bool:
    return bool(RESIDUE.search(text)) or ("".join(text.lower().split()) == "".join(guidance.lower().split()) != "")


def _declared(row: Field, entry: Entry, said: Declaration) -> Entry:
    source = Source("declared", by=said.by, at=said.at)
    fact = Fact(row.fact, State.DECLARED, Value(said.value), source)
    if _stays(row, entry):
        return _contradicted(entry, row, fact)
    suspicious = tuple(replace(finding, field=row.key) for finding in _suspicious(row, fact))
    kept = tuple(finding for finding in entry.findings if finding.code not in SETTLED_BY_DECLARATION)
    return replace(
        entry, state=State.DECLARED, value=fact.value, source=source, findings=kept + suspicious, reason="", remedy=""
    )


def _stays(row: Field, entry: Entry) -> bool:
    """What was measured stays, and so does what a person cannot answer: that it was seen, or that it does not apply."""
    known = entry.state in (State.CAPTURED, State.NOT_APPLICABLE) and row.basis.strength > State.DECLARED.strength
    return known or entry.state is State.MEASURED


def _contradicted(entry: Entry, row: Field, said: Fact) -> Entry:
    """The measured value stays; what was said stands beside it, and a difference is a finding."""
    beside = (*entry.beside, said)
    if said.value.text.strip().lower() in (entry.value.text.lower(), entry.value.brief.lower()):
        return replace(entry, beside=beside)
    finding = Finding(
        "declared_not_found", row.key, said.value.text, entry.value.text, "the file contradicts what was declared"
    )
    return replace(entry, beside=beside, findings=(*entry.findings, finding))
