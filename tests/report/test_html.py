"""The HTML report: one file, nothing remote, nothing that runs, every string escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from mlflow_aifsm.facts import State
from mlflow_aifsm.fill import RESIDUE
from mlflow_aifsm.record import Evidence
from mlflow_aifsm.report import formats, html
from mlflow_aifsm.report.characters import visible
from tests.report import hostile, samples

VOID = {"meta", "col", "br", "img"}


class Page(HTMLParser):
    """Tags, attributes and words of a page; fails on tags that do not close in order."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page.decode("utf-8"))
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words.append(data)

    @property
    def text(self) -> str:
        """The page's words."""
        return "".join(self.words)


def test_every_label_and_value_stands_on_the_page_in_order(evidence: Evidence) -> None:
    text = Page(html.write(evidence)).text.split(evidence.record.template.table_caption)[1]
    place = 0
    for row in evidence.record.template.fields:
        place = text.index(row.label, place)
        entry = evidence.record.entries[row.key]
        if entry.state.strength and row.fact != "log.date":
            place = text.index(entry.value.text, place)


def test_the_page_says_status_state_line_and_digest(evidence: Evidence) -> None:
    text = Page(html.write(evidence)).text
    assert str(evidence.status) in text
    assert evidence.record.state_line in text
    assert evidence.sha256 in text


def test_the_page_is_one_file_that_runs_nothing_and_fetches_nothing(evidence: Evidence) -> None:
    page = Page(html.write(evidence))
    assert not {tag for tag, _ in page.tags} & {"script", "img", "link", "iframe", "object", "form", "a", "base"}
    assert not {name for _, attrs in page.tags for name in attrs if name.startswith("on") or name in ("src", "href")}
    policy = {
        "http-equiv": "Content-Security-Policy",
        "content": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    }
    assert ("meta", policy) in page.tags
    assert b"url(" not in html.write(evidence)


@pytest.mark.parametrize("string", hostile.HOSTILE, ids=range(len(hostile.HOSTILE)))
def test_a_hostile_string_in_every_field_is_only_text(string: str) -> None:
    page = Page(html.write(hostile.evidence(string)))
    expected = Page(html.write(hostile.evidence("harmless")))
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in expected.tags}
    assert {name for _, attrs in page.tags for name in attrs} == {name for _, attrs in expected.tags for name in attrs}
    assert visible(string).split("\n")[0] in page.text


def test_a_hostile_string_does_not_leave_the_style_sheet_s_string() -> None:
    page = html.write(hostile.evidence('x"; } * { display: none } </style>')).decode()
    style = page[page.index("<style>") : page.index("</style>")]
    assert "{ display: none }" not in style
    assert re.search(r'@top-left \{ content: "x\\22 \\3b ', style)


def test_a_page_of_a_complete_log_holds_no_residue() -> None:
    for sample in (samples.conversion(), samples.optimization()):
        assert not RESIDUE.search(Page(html.write(sample)).text)


def test_tables_name_the_scope_of_their_headings(evidence: Evidence) -> None:
    page = Page(html.write(evidence))
    assert all(attrs.get("scope") in ("row", "col", "rowgroup") for tag, attrs in page.tags if tag == "th")
    assert ("html", {"lang": "en"}) in page.tags


def test_equal_evidence_gives_equal_bytes_in_every_format() -> None:
    for name in formats.WRITERS:
        assert formats.write(samples.optimization_with_findings(), name) == formats.write(
            samples.optimization_with_findings(), name
        )


def test_each_state_has_its_name_and_a_colour_of_its_own() -> None:
    page = html.write(samples.conversion()).decode("utf-8")
    found = dict(
        re.findall(r'<span class="badge (\w+)">([\w ]+)</span>', page.split("How a value is known:")[1].split("</ul>")[0])
    )
    assert sorted(found.values()) == sorted(State)
    style = page[: page.index("</style>")]
    colours = {colour for mark in found for colour in re.findall(rf"\.{mark} \{{ color: (var\(--\w+\))", style)}
    assert len(colours) == len(State)
