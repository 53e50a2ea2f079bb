"""The PDF as its readers take it apart: conformance in its metadata and tags, words on its pages, fonts inside it."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import pypdf
import pytest
import typst
from PIL import Image
from pypdf.generic import DictionaryObject, IndirectObject

from mlflow_aifsm.record import Evidence
from mlflow_aifsm.report import pdf
from mlflow_aifsm.report.blocks import Items
from mlflow_aifsm.report.characters import visible
from mlflow_aifsm.report.document import document
from mlflow_aifsm.report.pdf_data import data, pieces, shown
from mlflow_aifsm.report.words import line
from tests.conftest import REPOSITORY
from tests.report import hostile, plotted, samples

HOSTILE = (
    *hostile.HOSTILE[:-1],
    '#import "@preview/x:1.0.0"',
    '#read("/etc/passwd") #eval("1+1") $x^2$ = a\n- b\n*c* _d_ `e` <f> @g \\u{41}',
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u540d\u524d \ue000 \uffff \U0001f600",
)


@cache
def opened(content: bytes) -> pypdf.PdfReader:
    return pypdf.PdfReader(io.BytesIO(content))


def squeezed(text: str) -> str:
    """Without spaces, which a page need not hold where it breaks a line."""
    return "".join(text.split())


def words(content: bytes) -> str:
    return squeezed("".join(page.extract_text() for page in opened(content).pages))


def tags(content: bytes) -> list[DictionaryObject]:
    """Every structure element, in order."""

    def below(element: Any) -> Iterator[DictionaryObject]:
        element = element.get_object() if isinstance(element, IndirectObject) else element
        for part in element if isinstance(element, list) else [element]:
            found = part.get_object() if isinstance(part, IndirectObject) else part
            if isinstance(found, DictionaryObject) and "/S" in found:
                yield found
                yield from below(found.get("/K", []))

    return list(below(opened(content).trailer["/Root"]["/StructTreeRoot"]["/K"]))


def fonts(content: bytes) -> Iterator[DictionaryObject]:
    """The descriptor of every font on any page."""
    for page in opened(content).pages:
        for font in page["/Resources"].get("/Font", {}).values():
            for inner in font.get_object().get("/DescendantFonts", [font]):
                yield inner.get_object()["/FontDescriptor"]


def test_it_says_in_xmp_and_tags_that_it_is_pdf_a_2a_and_pdf_ua_1(evidence: Evidence) -> None:
    root = opened(pdf.write(evidence)).trailer["/Root"]
    xmp = root["/Metadata"].get_data().decode()
    for claim in ("<pdfaid:part>2<", "<pdfaid:conformance>A<", "<pdfuaid:part>1<"):
        assert claim in xmp
    assert root["/MarkInfo"]["/Marked"] is True or root["/MarkInfo"]["/Marked"].value is True
    assert root["/Lang"] == "en"
    assert root["/ViewerPreferences"]["/DisplayDocTitle"].value is True
    assert root["/OutputIntents"]


def test_every_font_is_inside_it(evidence: Evidence) -> None:
    found = list(fonts(pdf.write(evidence)))
    assert found
    assert all({"/FontFile", "/FontFile2", "/FontFile3"} & font.keys() for font in found)


def test_it_has_headings_tables_with_headers_lists_and_a_title_as_tags(evidence: Evidence) -> None:
    kinds = {str(tag["/S"]) for tag in tags(pdf.write(evidence))}
    assert kinds >= {"/Title", "/H1", "/H2", "/Table", "/TR", "/TH", "/TD", "/L", "/LI", "/P"}


def test_title_author_and_date_come_from_the_record() -> None:
    told = opened(pdf.write(samples.optimization())).metadata
    assert told is not None
    assert told.title == "Model Optimization Log digits_3-MO-3f9a1c5e"
    assert told.author == "Akiko Ito"
    assert told["/CreationDate"] == "D:20261120133207Z"


def test_a_record_without_a_readable_time_still_makes_the_same_bytes() -> None:
    sample = samples.conversion()
    timeless = replace(sample, record=replace(sample.record, made_at="yesterday"))
    assert opened(pdf.write(timeless)).metadata["/CreationDate"] == "D:19700101000000Z"  # type: ignore[index]
    assert pdf.write(timeless) == pdf.write(timeless)


def test_bookmarks_lead_to_the_sections_and_annexes(evidence: Evidence) -> None:
    marks = [entry.title for entry in opened(pdf.write(evidence)).outline if not isinstance(entry, list)]
    assert [mark.split()[0] for mark in marks] == ["1", "2", "3", "4", "5", *["Annex"] * 6]
    assert marks[3] == f"4 {evidence.record.template.table_title}"


def test_every_page_but_the_first_names_log_and_record_and_counts_itself(evidence: Evidence) -> None:
    pages = opened(pdf.write(evidence)).pages
    for number, page in enumerate(pages, start=1):
        text = squeezed(page.extract_text())
        assert f"{number}/{len(pages)}" in text
        assert evidence.sha256 in text
        assert number == 1 or evidence.record.log_id in text


def test_the_heading_of_a_table_stands_on_each_page_that_it_reaches(evidence: Evidence) -> None:
    pages = [squeezed(page.extract_text()) for page in opened(pdf.write(evidence)).pages]
    first = next(place for place, text in enumerate(pages) if squeezed(evidence.record.template.table_caption) in text)
    last = next(place for place, text in enumerate(pages) if "Howavalueisknown:" in text)
    assert last > first
    assert all("Value,andhowitisknown" in text for text in pages[first:last])


def test_a_plot_is_drawn_in_vectors_with_its_words_behind_it() -> None:
    shown_ = plotted.evidence(plotted.names(9))
    content = pdf.write(shown_)
    described = [str(tag["/Alt"]) for tag in tags(content) if "/Alt" in tag]
    assert len(described) == 3
    assert described[0].startswith("Histograms of the calibration values of 6 tensors")
    assert not any("/Subtype" in form and form["/Subtype"] == "/Image" for form in _forms(content))
    assert "Tensorswiththelowest" in words(content)


def _forms(content: bytes) -> Iterator[DictionaryObject]:
    for page in opened(content).pages:
        yield from (form.get_object() for form in page["/Resources"].get("/XObject", {}).values())


def test_two_processes_make_the_same_bytes(evidence: Evidence, tmp_path: Any) -> None:
    code = (
        "import sys; from tests.report import samples; from mlflow_aifsm.report import pdf\n"
        f"sys.stdout.buffer.write(pdf.write(samples.{_name(evidence)}()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, check=True)
    assert done.stdout == pdf.write(evidence)


def _name(evidence: Evidence) -> str:
    makers = (samples.conversion, samples.optimization, samples.conversion_with_gaps, samples.optimization_with_findings)
    return next(maker.__name__ for maker in makers if maker() == evidence)


@pytest.mark.parametrize("string", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_string_in_every_field_is_only_text(string: str) -> None:
    content = pdf.write(hostile.evidence(string))
    expected = pdf.write(hostile.evidence("harmless"))
    if string.isascii():
        assert squeezed(visible(string)) in words(content)
    assert {str(tag["/S"]) for tag in tags(content)} == {str(tag["/S"]) for tag in tags(expected)}
    for page in opened(content).pages:
        assert "/Annots" not in page
    root = opened(content).trailer["/Root"]
    assert not {"/OpenAction", "/AA", "/AcroForm"} & root.keys()
    assert not {"/JavaScript", "/EmbeddedFiles"} & root.get("/Names", {}).keys()


def test_a_cell_of_ten_thousand_letters_runs_over_pages_and_loses_none() -> None:
    sample, key = samples.optimization(), "aifsm.ptq.additional"
    entry = sample.record.entries[key]
    entries = {**sample.record.entries, key: replace(entry, value=replace(entry.value, text="w" * 10_000))}
    content = pdf.write(replace(sample, record=replace(sample.record, entries=entries)))
    assert sum("w" * 8 in page.extract_text() for page in opened(content).pages) >= 3
    assert sum(map(len, re.findall("ww+", words(content)))) == 10_000


def test_the_line_that_leads_a_list_in_stays_on_its_page() -> None:
    made, moved = document(samples.optimization()), set()
    for lines in range(34, 58, 6):
        blocks = (*(line("filler") for _ in range(lines)), line("the lead:"), Items(tuple(line("item") for _ in range(10))))
        pages = [page.extract_text() for page in opened(pdf.render(replace(made, blocks=blocks))).pages]
        (page,) = (number for number, text in enumerate(pages) if "the lead:" in text)
        assert pages[page].count("item") == 10
        moved.add(page)
    assert moved == {1, 2}


def test_nothing_reaches_into_the_margin_of_a_page() -> None:
    for shown_ in (hostile.evidence("w" * 300 + " /a/very/long/name" * 9), plotted.evidence(plotted.names(60))):
        for page in pictures(shown_):
            paper = np.asarray(Image.open(io.BytesIO(page)).convert("L"))
            edge = round(paper.shape[1] * 17 / 210)
            assert paper[:, -edge:].min() == 255
            assert paper[:, :edge].min() == 255
            assert paper.min() < 200


def pictures(evidence: Evidence) -> list[bytes]:
    """The pages as PNG, 60 pixels an inch."""
    source = (resources.files("mlflow_aifsm.report") / "pdf.typ").read_bytes()
    words = {"document": json.dumps(data(document(evidence)))}
    made = typst.compile(source, font_paths=pdf._fonts(), sys_inputs=words, format="png", ppi=60)
    return [made] if isinstance(made, bytes) else list(made or ())


def test_characters_without_a_glyph_are_spelled_and_the_others_kept() -> None:
    assert shown("\u540d \ue000 \ufffd é α → \u05e9") == "\\u540d \\ue000 \ufffd é α → \u05e9"


def test_a_long_word_breaks_after_its_separators_and_a_short_one_nowhere() -> None:
    assert pieces("see features/features.3/conv") == [["see ", "features/", "features.", "3/", "conv"]]
    assert pieces("f" * 30) == [["f" * 8, "f" * 8, "f" * 8, "f" * 6]]
    assert pieces("well-known words\nstay") == [["well-known words"], ["stay"]]
