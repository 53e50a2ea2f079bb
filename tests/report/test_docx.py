"""The DOCX as Word takes it apart: its headings, tables, fields and properties; and whether a real reader opens it."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from pathlib import Path

import docx as python_docx
import pypdf
import pytest
from docx.document import Document
from docx.oxml.ns import qn
from lxml import etree

from mlflow_aifsm.record import Evidence
from mlflow_aifsm.report import docx
from mlflow_aifsm.report.characters import visible
from mlflow_aifsm.report.plots import plots
from tests.conftest import REPOSITORY
from tests.report import hostile, plotted, samples

HOSTILE = (*hostile.HOSTILE, '=cmd|"/c calc"!A1', "{{ cycler.__init__.__globals__ }}{% for x in y %}", "a\tb\nc\ufffe]]>")


@cache
def opened(content: bytes) -> Document:
    return python_docx.Document(io.BytesIO(content))


def words(content: bytes) -> str:
    """All text of the body, breaks as they were."""
    names = {qn("w:br"): "\n", qn("w:tab"): "\t"}
    found = opened(content).element.body.iter(qn("w:t"), *names)
    return "".join(names.get(part.tag) or part.text or "" for part in found)


def part(content: bytes, name: str) -> bytes:
    return zipfile.ZipFile(io.BytesIO(content)).read(name)


def test_sections_and_annexes_are_headings_of_word(evidence: Evidence) -> None:
    found = [(line.style.name, line.text) for line in opened(docx.write(evidence)).paragraphs if line.style.name != "Normal"]
    firsts = [text for style, text in found if style == "Heading 1"]
    assert found[0] == ("Title", evidence.record.template.title)
    assert [text.split()[0] for text in firsts] == ["1", "2", "3", "4", "5", *["Annex"] * 6]
    assert ("Heading 2", "Environment") in found


def test_the_heading_row_of_each_table_repeats_on_every_page(evidence: Evidence) -> None:
    for table in opened(docx.write(evidence)).tables:
        marked = [row._tr.trPr is not None and row._tr.trPr.find(qn("w:tblHeader")) is not None for row in table.rows]
        assert marked == [True] + [False] * (len(marked) - 1)


def test_every_row_is_as_wide_as_its_table(evidence: Evidence) -> None:
    for table in opened(docx.write(evidence)).tables:
        columns = len(table._tbl.tblGrid.gridCol_lst)
        assert all(sum(cell.grid_span for cell in row._tr.tc_lst) == columns for row in table.rows)


def test_the_line_that_leads_a_list_in_stays_on_its_page(evidence: Evidence) -> None:
    lines = opened(docx.write(evidence)).paragraphs
    leads = [line for line, following in pairwise(lines) if following.text.startswith("•") and not line.text.startswith("•")]
    assert {"How a value is known:", "Below is a list of acronyms and abbreviations employed in this document:"} <= {
        line.text for line in leads
    }
    assert all(line.paragraph_format.keep_with_next or line.style.name.startswith("Heading") for line in leads)


def test_the_footer_counts_the_pages_and_names_the_record(evidence: Evidence) -> None:
    section = opened(docx.write(evidence)).sections[0]
    for footer in (section.footer, section.first_page_footer):
        line = footer.paragraphs[0]
        assert [field.get(qn("w:instr")).strip() for field in line._p.iter(qn("w:fldSimple"))] == ["PAGE", "NUMPAGES"]
        assert evidence.sha256 in line.text
    assert evidence.record.log_id in section.header.paragraphs[0].text


def test_the_properties_are_those_of_the_record() -> None:
    told = opened(docx.write(samples.optimization())).core_properties
    assert (told.title, told.author) == ("Model Optimization Log digits_3-MO-3f9a1c5e", "Akiko Ito")
    made = datetime(2026, 11, 20, 13, 32, 7, tzinfo=UTC)
    assert [moment.replace(tzinfo=UTC) for moment in (told.created, told.modified)] == [made, made]
    assert told.language == "en"


def test_no_part_names_anything_outside_the_file(evidence: Evidence) -> None:
    content = docx.write(evidence)
    names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    assert not [name for name in names if "vba" in name or "thumbnail" in name]
    assert not [name for name in names if name.endswith(".rels") and b"External" in part(content, name)]


def test_parts_are_in_order_and_carry_no_time_of_the_clock(evidence: Evidence) -> None:
    parts = zipfile.ZipFile(io.BytesIO(docx.write(evidence))).infolist()
    assert [entry.filename for entry in parts] == sorted(entry.filename for entry in parts)
    assert {entry.date_time for entry in parts} == {(1980, 1, 1, 0, 0, 0)}


def test_two_processes_make_the_same_bytes() -> None:
    code = (
        "import sys; from tests.report import plotted; from mlflow_aifsm.report import docx\n"
        "sys.stdout.buffer.write(docx.write(plotted.evidence(plotted.names(9))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, check=True)
    here = docx.write(plotted.evidence(plotted.names(9)))
    names = zipfile.ZipFile(io.BytesIO(here)).namelist()
    assert [name for name in names if part(here, name) != part(done.stdout, name)] == []
    assert here == done.stdout


def test_each_plot_is_a_picture_with_its_words() -> None:
    shown = plotted.evidence(plotted.names(9))
    content, made = docx.write(shown), plots(shown.tables)
    described = [line.get("descr") for line in opened(content).element.body.iter(qn("wp:docPr"))]
    assert described == [plot.alt for plot in made.values()]
    numbers = [line.get("id") for line in opened(content).element.body.iter(qn("wp:docPr"))]
    assert len(set(numbers)) == len(numbers)
    pictures = [name for name in zipfile.ZipFile(io.BytesIO(content)).namelist() if name.endswith(".png")]
    assert [part(content, name)[:8] for name in pictures] == [b"\x89PNG\r\n\x1a\n"] * 3
    assert sorted(part(content, name) for name in pictures) == sorted(plot.png() for plot in made.values())


@pytest.mark.parametrize("string", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_string_in_every_field_is_only_text(string: str) -> None:
    content, expected = docx.write(hostile.evidence(string)), docx.write(hostile.evidence("harmless"))
    assert visible(string) in words(content)
    tags = [{str(part.tag) for part in opened(made).element.body.iter()} for made in (content, expected)]
    assert tags[0] - {qn("w:br"), qn("w:tab")} == tags[1] - {qn("w:br"), qn("w:tab")}
    assert not tags[0] & {qn("w:fldSimple"), qn("w:instrText"), qn("w:hyperlink"), qn("w:object")}
    assert not re.search(rb"TargetMode=.External", part(content, "word/_rels/document.xml.rels"))


def test_every_part_is_xml_that_a_strict_reader_takes() -> None:
    content = docx.write(hostile.evidence("".join(HOSTILE)))
    names = [name for name in zipfile.ZipFile(io.BytesIO(content)).namelist() if name.endswith((".xml", ".rels"))]
    assert len(names) > 8
    for name in names:
        etree.fromstring(part(content, name), etree.XMLParser(recover=False, resolve_entities=False))


def test_libreoffice_opens_it_and_shows_every_value_on_pages_that_are_counted(libreoffice: str, tmp_path: Path) -> None:
    made = {"whole": plotted.evidence(plotted.names(9)), "findings": samples.optimization_with_findings()}
    made["hostile"] = hostile.evidence("".join(HOSTILE[:6]))
    for name, evidence in made.items():
        (tmp_path / f"{name}.docx").write_bytes(docx.write(evidence))
    command = [libreoffice, f"-env:UserInstallation={(tmp_path / 'user').as_uri()}", "--headless", "--convert-to", "pdf"]
    subprocess.run([*command, *(f"{name}.docx" for name in made)], cwd=tmp_path, capture_output=True, check=True, timeout=180)
    for name, evidence in made.items():
        pages = [page.extract_text() for page in pypdf.PdfReader(tmp_path / f"{name}.pdf").pages]
        text = "".join("".join(pages).split())
        assert all(f"page {number} of {len(pages)}" in page for number, page in enumerate(pages, start=1))
        for row in evidence.record.template.fields:
            entry = evidence.record.entries[row.key]
            if name != "hostile" and entry.state.strength and row.fact != "log.date":
                assert "".join(entry.value.text.split()) in text
