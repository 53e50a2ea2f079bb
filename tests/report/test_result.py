"""A finished log as a notebook shows it: the words of the summary, marked, and nothing that runs."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from mlflow_aifsm.record import Evidence, Record, VerificationResult
from mlflow_aifsm.report import result
from mlflow_aifsm.report.characters import visible
from mlflow_aifsm.report.summary import rows
from tests.report import hostile, samples
from tests.report.test_html import Page

URIS = ("models:/m-1", "models:/digits-int8/2")


def shown(record: Record, address: str = "") -> str:
    return result.html(record, *URIS, address)


def badges(record: Record) -> dict[str, str]:
    """Words in coloured boxes, by the colour of their ground."""
    return {words: ground for ground, words in re.findall(r'background: (#\w+)">([^<]+)</span>', shown(record))}


def test_the_table_holds_each_line_of_the_summary_in_order(evidence: Evidence) -> None:
    text = Page(shown(evidence.record).encode()).text
    place = text.index(evidence.record.log_id)
    for heading, words in rows(evidence.record, *URIS):
        place = text.index(words, text.index(heading, place))


def test_what_is_wrong_is_marked() -> None:
    good, bad = badges(samples.conversion().record), badges(samples.optimization_with_findings().record)
    assert good == {"complete": "#e4f3eb", "verification": "#e4f3eb"}
    assert bad == {"verification failed": "#9d1c1c", "verification": "#9d1c1c", "finding": "#9d1c1c", "gap": "#fbf1d6"}


@pytest.mark.parametrize("outcome", [None, VerificationResult(passed=True, criterion="no limit was set")])
def test_what_nothing_limited_is_not_green(outcome: VerificationResult | None) -> None:
    assert badges(replace(samples.conversion().record, verification=outcome))["verification"] == "#fbf1d6"


def test_only_a_run_with_a_page_has_a_link() -> None:
    record = samples.conversion().record
    assert "<a " not in shown(record)
    assert ("a", "http://localhost:5000/#/runs/1") in [
        (tag, attributes.get("href")) for tag, attributes in Page(shown(record, "http://localhost:5000/#/runs/1").encode()).tags
    ]


@pytest.mark.parametrize("string", hostile.HOSTILE, ids=range(len(hostile.HOSTILE)))
def test_a_hostile_string_is_only_text(string: str) -> None:
    page = Page(result.html(hostile.evidence(string).record, string, string, string).encode())
    assert {tag for tag, _ in page.tags} == {
        "div",
        "p",
        "strong",
        "span",
        "table",
        "colgroup",
        "col",
        "tbody",
        "tr",
        "th",
        "td",
    } | {
        "code",
        "a",
    }
    assert {name for _, attributes in page.tags for name in attributes} == {"style", "scope", "href", "target", "rel"}
    assert visible(string) in page.text
