"""All formats say the same: each field's value, state and source, read back from every file as its readers read it."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import docx as python_docx
import pypdf
import pytest
from docx.oxml.ns import qn
from docx.table import Table

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import State
from mlflow_aifsm.record import Evidence, Record
from mlflow_aifsm.report import formats
from mlflow_aifsm.report.cells import DAY
from mlflow_aifsm.report.words import date
from mlflow_aifsm.template import Field, Template
from tests.conftest import REPOSITORY
from tests.report import samples
from tests.report.test_html import Page
from tests.report.test_markdown import rendered


@dataclass(frozen=True)
class Said:
    """What a document says of one field, spaces taken out."""

    value: str
    state: str
    source: str


def squeezed(text: str) -> str:
    return "".join(text.split())


def expected(evidence: Evidence, row: Field) -> Said:
    """What the record says, in the form of a cell."""
    entry = evidence.record.entries[row.key]
    value = date(entry.value.text, DAY) if row.fact == "log.date" else entry.value.text
    if entry.state is State.NOT_APPLICABLE:
        value = entry.reason
    if entry.state is State.NOT_RECORDED:
        return Said(squeezed(entry.reason), "Notrecorded", "")
    return Said(squeezed(value), squeezed(str(entry.state)), squeezed(str(entry.source).removeprefix("declared ")))


def cells_of_text(text: str, evidence: Evidence) -> dict[str, str]:
    """The words between a field's label and the next one's, from a text without spaces."""
    template = evidence.record.template
    text = squeezed(text).partition(squeezed(template.table_caption))[2].partition("Howavalueisknown:")[0]
    marks, place = [], 0
    for title, key in marked(template):
        begin = text.index(squeezed(title), place)
        place = begin + len(squeezed(title))
        marks.append((key, begin, place))
    ends = [*(begin for _, begin, _ in marks[1:]), len(text)]
    return {key: text[place:end] for (key, _, place), end in zip(marks, ends, strict=True) if key}


def marked(template: Template) -> Iterator[tuple[str, str]]:
    """Headings, without a key, and labels in the order of the table."""
    for section in template.sections:
        yield from [(section.title, "")] if section.title else []
        yield from ((row.label, row.key) for row in section.fields)


def in_html(evidence: Evidence) -> dict[str, str]:
    return cells_of_text(Page(formats.write(evidence, "html")).text, evidence)


def in_markdown(evidence: Evidence) -> dict[str, str]:
    return cells_of_text(rendered(evidence).text, evidence)


def in_pdf(evidence: Evidence) -> dict[str, str]:
    pages = pypdf.PdfReader(io.BytesIO(formats.write(evidence, "pdf"))).pages
    return cells_of_text("".join(map(between_margins, pages)), evidence)


def between_margins(page: pypdf.PageObject) -> str:
    """A page without its header, its footer and the heading of the table, which repeats."""
    lines = page.extract_text().splitlines()
    edges = re.compile(r"record sha256| · V\d\.\d+$|^Information +Value, and how it is known$")
    return "\n".join(line for line in lines if not edges.search(line))


def in_docx(evidence: Evidence) -> dict[str, str]:
    """Cells of the table after its caption, each with the label of its row."""
    opened = python_docx.Document(io.BytesIO(formats.write(evidence, "docx")))
    body = list(opened.element.body)
    caption = next(place for place, part in enumerate(body) if words(part) == evidence.record.template.table_caption)
    table = Table(body[caption + 1], opened)
    rows = [[words(cell) for cell in row._tr.tc_lst] for row in table.rows[1:]]
    labelled = [cells for cells in rows if len(cells) == 2]
    fields = evidence.record.template.fields
    assert [cells[0] for cells in labelled] == [row.label for row in fields]
    return {row.key: squeezed(cells[1]) for row, cells in zip(fields, labelled, strict=True)}


def words(element: object) -> str:
    return "".join(part.text or "" for part in element.iter(qn("w:t")))  # type: ignore[attr-defined]


READERS: Mapping[str, Callable[[Evidence], dict[str, str]]] = {
    "html": in_html,
    "md": in_markdown,
    "pdf": in_pdf,
    "docx": in_docx,
}


@pytest.mark.parametrize("format", READERS)
def test_every_field_has_its_value_its_state_and_its_source(format: str, evidence: Evidence) -> None:
    said = READERS[format](evidence)
    for row in evidence.record.template.fields:
        wanted, found = expected(evidence, row), said[row.key]
        # each stands after the one before it, so that no word of another fact is taken for it
        place = -1
        for part in (wanted.value, wanted.state, wanted.source) if wanted.source else (wanted.state, wanted.value):
            place = found.find(part, place + 1)
            assert place >= 0, (row.key, part, found)


@pytest.mark.parametrize("format", READERS)
def test_the_other_words_of_each_cell_are_the_same_too(format: str, evidence: Evidence) -> None:
    said, html = READERS[format](evidence), in_html(evidence)
    assert said == html


def test_json_gives_every_field_to_the_byte(evidence: Evidence) -> None:
    content = json.loads(formats.write(evidence, "json"))
    assert Record.from_json(json.dumps(content["record"])) == evidence.record


def test_equal_evidence_gives_equal_bytes(evidence: Evidence) -> None:
    for name in formats.WRITERS:
        assert formats.write(evidence, name) == formats.write(evidence, name)


@pytest.mark.parametrize(("format", "package"), [("pdf", "typst"), ("docx", "docxtpl")])
def test_a_missing_extra_is_one_line_that_names_it(format: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"needs the package {package}.*pip install 'mlflow-aifsm\[{format}\]'\.$") as caught:
        formats.write(samples.conversion(), format)
    assert "\n" not in str(caught.value)
    assert formats.write(samples.conversion(), "html")


def imported(code: str) -> Iterator[str]:
    names = ("typst", "docxtpl", "docx", "lxml", "mlflow", "torch", "onnx", "nncf", "onnxruntime")
    report = f"\nimport sys; print(*[name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code + report], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    yield from done.stdout.split()


def test_a_format_costs_only_those_who_use_it_and_none_needs_a_framework() -> None:
    assert list(imported("import mlflow_aifsm.report.formats")) == []
    code = "from tests.report import samples; from mlflow_aifsm.report.formats import write; write(samples.conversion(), '{}')"
    assert list(imported(code.format("html"))) == []
    assert list(imported(code.format("pdf"))) == ["typst"]
    assert list(imported(code.format("docx"))) == ["docxtpl", "docx", "lxml"]
