"""The Markdown and JSON reports: what GitHub makes of the one, and whether the other gives the record back."""

from __future__ import annotations

import json
import re

import pytest
from markdown_it import MarkdownIt

from mlflow_aifsm.codec import dumps
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.record import Evidence, Record
from mlflow_aifsm.report import formats, markdown
from tests.report import hostile, samples
from tests.report.test_html import Page


def rendered(evidence: Evidence) -> Page:
    """The Markdown of ``evidence`` as a renderer with GitHub's tables and strikethrough shows it."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return Page(
        parser.render(markdown.write(evidence).decode("utf-8")).replace("<br />", "<br>").replace("<hr />", "").encode()
    )


def test_every_label_and_value_stands_in_the_table_in_order(evidence: Evidence) -> None:
    text = rendered(evidence).text.split(evidence.record.template.table_caption)[1]
    place = 0
    for row in evidence.record.template.fields:
        place = text.index(row.label, place)
        entry = evidence.record.entries[row.key]
        if entry.state.strength and row.fact != "log.date":
            place = text.index(entry.value.text, place)


def test_a_gap_shows_its_remedy_and_a_finding_its_code() -> None:
    text = rendered(samples.conversion_with_gaps()).text
    assert f"mlflow-aifsm declare runs:/{samples.RUN} aifsm.conversion.packages='…' --by 'NAME'" in text
    assert "training_operation_left" in text


@pytest.mark.parametrize("string", hostile.HOSTILE, ids=range(len(hostile.HOSTILE)))
def test_a_hostile_string_in_every_field_makes_no_markup(string: str) -> None:
    page, expected = rendered(hostile.evidence(string)), rendered(hostile.evidence("harmless"))
    structure = [tag for tag, _ in page.tags if tag not in ("br", "code")]
    assert structure == [tag for tag, _ in expected.tags if tag not in ("br", "code")]
    assert not {tag for tag, _ in page.tags} & {"a", "img", "script"}


@pytest.mark.parametrize("string", ["@octocat", "#12", "GH-7", "www.a.invalid", "https://a.invalid", "a@b.invalid"])
def test_nothing_that_github_would_link_is_left_whole(string: str) -> None:
    assert string not in markdown.escape(f"see {string} there")
    assert re.sub("<!-- -->", "", markdown.escape(string)) == string


@pytest.mark.parametrize("string", ["# a", "- a", "+ a", "1. a", "1) a", "> a", "=== a", "--- a"])
def test_a_note_that_begins_like_a_heading_or_list_stays_a_note(string: str) -> None:
    page = rendered(hostile.evidence(string))
    expected = rendered(hostile.evidence("a"))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in expected.tags]


def test_the_json_report_gives_the_record_back_to_the_byte() -> None:
    sample = samples.optimization()
    content = json.loads(formats.write(sample, "json"))
    assert sorted(content) == ["checks", "declarations", "record", "sha256", "status"]
    assert dumps(content["record"]) == sample.record.to_json()
    assert Record.from_json(dumps(content["record"])) == sample.record
    assert content["sha256"] == sample.record.sha256


def test_the_json_report_lays_declarations_and_checks_over_the_record(evidence: Evidence) -> None:
    content = json.loads(formats.write(evidence, "json"))
    assert content["status"] == str(evidence.status)
    assert [said["by"] for said in content["declarations"]] == [said.by for said in evidence.declarations]
    assert [check["holds"] for check in content["checks"]] == [check.holds for check in evidence.checks]


@pytest.mark.parametrize("string", hostile.HOSTILE, ids=range(len(hostile.HOSTILE)))
def test_the_json_report_keeps_hostile_strings_as_they_are(string: str) -> None:
    content = json.loads(formats.write(hostile.evidence(string), "json"))
    assert content["record"]["subject"] == string
    assert content["checks"][0]["detail"] == string


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="format 'rtf'; expected html, pdf, docx, md, json"):
        formats.write(samples.conversion(), "rtf")
