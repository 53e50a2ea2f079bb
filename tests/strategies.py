"""Records of any shape for Hypothesis: every state, any text, nested data, a template of random rows."""

from __future__ import annotations

import itertools
from dataclasses import fields
from typing import Any

from hypothesis import strategies as st

from mlflow_aifsm.catalogue import CATALOGUE
from mlflow_aifsm.digests import FileDigest
from mlflow_aifsm.facts import Fact, Finding, Source, State, Value
from mlflow_aifsm.record import Entry, Record, Supersedes, VerificationResult
from mlflow_aifsm.template import COMPARISONS, DESTINATIONS, Field, Section, Template


def one_character(text: str) -> bool:
    """Whether no high surrogate stands before a low one: JSON reads such a pair as the one character it stands for."""
    pairs = itertools.pairwise(text)
    return not any("\ud800" <= high <= "\udbff" and "\udc00" <= low <= "\udfff" for high, low in pairs)


anything = st.text(st.characters(exclude_categories=()), max_size=8).filter(one_character)
texts = st.one_of(anything, st.sampled_from(["", "…", "\x00\x1b", "\ud800", "\u2028\x85", "NaN", "null", "1", "😀"]))
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts)
data = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3) | st.tuples(inner),
    max_leaves=6,
)
values = st.builds(Value, texts, data, texts)
sources = st.builds(Source, texts, texts, texts)
findings = st.lists(st.builds(Finding, texts, texts, texts, texts, texts, st.booleans()), max_size=2).map(tuple)
facts = st.builds(
    Fact, st.sampled_from(sorted(CATALOGUE)), st.sampled_from(State), values, sources, findings, reason=texts, remedy=texts
)
asides = st.lists(facts, max_size=2).map(tuple)
entries = st.builds(
    Entry,
    st.sampled_from(State),
    values,
    sources,
    asked=st.none() | values,
    beside=asides,
    findings=findings,
    reason=texts,
    remedy=texts,
)
verifications = st.builds(
    VerificationResult,
    passed=st.booleans(),
    criterion=texts,
    metric=texts,
    epsilon=st.none() | st.floats(0, allow_nan=False, allow_infinity=False) | st.integers(0, 9),
    reason=texts,
    samples=st.integers(0),
    data=texts,
    data_sha256=texts,
    runtime=texts,
    numbers=st.dictionaries(texts, data, max_size=2),
    failure=texts,
    target=texts,
)
rows = st.builds(
    Field,
    key=texts.map("aifsm.{}".format),
    label=texts,
    fact=st.sampled_from(sorted(CATALOGUE)),
    basis=st.sampled_from([State.MEASURED, State.CAPTURED, State.DECLARED]),
    log_as=st.sampled_from(DESTINATIONS),
    filled_by=texts,
    remedy=texts,
    clause=texts,
    group=texts,
    asked=texts,
    compare=st.sampled_from(COMPARISONS),
    beside=st.lists(texts, max_size=2).map(tuple),
    guidance=texts,
    open_row=st.booleans(),
)
tables = st.lists(rows, max_size=4, unique_by=lambda row: row.key)
files = st.lists(st.builds(FileDigest, texts, st.integers(0), texts), max_size=2).map(tuple)


@st.composite
def templates(draw: st.DrawFn) -> Template:
    table = draw(tables)
    cut = draw(st.integers(0, len(table)))
    sections = (Section(draw(texts), tuple(table[:cut])), Section(draw(texts), tuple(table[cut:])))
    names = (part.name for part in fields(Template) if part.name not in ("acronyms", "sections"))
    words: dict[str, Any] = {name: draw(texts) for name in names}
    acronyms = tuple(draw(st.lists(st.tuples(texts, texts), max_size=2)))
    return Template(**words, acronyms=acronyms, sections=sections)


@st.composite
def records(draw: st.DrawFn) -> Record:
    template = draw(templates())
    return Record(
        template=template,
        log_id=draw(texts),
        run_id=draw(texts),
        made_at=draw(texts),
        tool=draw(texts),
        entries={row.key: draw(entries) for row in template.fields},
        subject=draw(texts),
        input_sha256=draw(texts),
        output_sha256=draw(texts),
        input_files=draw(files),
        output_files=draw(files),
        verification=draw(st.none() | verifications),
        notes=tuple(draw(st.lists(texts, max_size=2))),
        cover=draw(st.dictionaries(texts, texts, max_size=2)),
        supersedes=draw(st.none() | st.builds(Supersedes, texts, texts)),
        failure=draw(texts),
    )
