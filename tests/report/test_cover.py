"""The first page: whose document it is, what is not set, and the state said before anything else."""

from __future__ import annotations

from dataclasses import replace

from mlflow_aifsm.report.document import document
from tests.report import samples
from tests.report.reading import text


def test_a_cover_without_settings_says_where_they_would_be_set() -> None:
    pairs = {name.text: value.text for name, value in document(samples.conversion_with_gaps()).cover.pairs}
    assert {pairs[name] for name in ("Project", "Organisation", "Rev.", "Ref.")} == {"not set in aifsm.toml"}
    assert pairs["Document ID"] == "PhIMT0002"


def test_a_template_without_an_id_gives_the_document_none() -> None:
    sample = samples.optimization()
    for settings, shown in ((sample.record.cover, "KDR-MOL-004"), ({}, "not set in aifsm.toml")):
        pairs = document(replace(sample, record=replace(sample.record, cover=settings))).cover.pairs
        assert {name.text: value.text for name, value in pairs}["Document ID"] == shown


def test_the_cover_says_broken_bytes_and_missing_verification_at_once() -> None:
    broken = document(samples.optimization_with_findings()).cover
    assert broken.status.text == "integrity broken"
    assert "delivered files against the record" in text(*broken.notices)
    assert "No verification was run." in text(*document(samples.conversion_with_gaps()).cover.notices)
