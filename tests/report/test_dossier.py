"""Several logs as one document, a list of reports, and tables that are too long to print."""

from __future__ import annotations

import csv
import html
import io
import re
from dataclasses import replace
from pathlib import Path

import docx as python_docx
import pypdf
import pytest

from mlflow_aifsm.record import Evidence
from mlflow_aifsm.rendering import dossier, rendered
from mlflow_aifsm.report import formats
from mlflow_aifsm.report.dossier import dossier as one_document
from mlflow_aifsm.report.index import index, listed
from mlflow_aifsm.report.look import PLAIN
from tests.report import hostile, samples
from tests.report.plotted import evidence, names
from tests.report.test_html import Page

LOGS = (samples.conversion(), samples.optimization_with_findings())
PARTS = [f"Part {number} {log.record.template.title} {log.record.log_id}" for number, log in enumerate(LOGS, start=1)]


def test_each_log_is_a_part_with_all_its_sections_in_the_order_given() -> None:
    headings = [f"{heading.number} {heading.title.text}" for heading in one_document(LOGS).listed]
    assert [heading for heading in headings if heading.startswith("Part")] == PARTS
    assert headings.index("4 Model Conversion") < headings.index(PARTS[1]) < headings.index("4 Model Optimization")
    assert headings.count("Annex F Review and signatures") == len(LOGS)


def test_the_cover_has_the_gravest_status_and_names_each_log() -> None:
    cover = one_document(LOGS).cover
    assert cover.status.text == "integrity broken"
    assert [part.text for part in cover.state] == ["digits_3-MC-3f9a1c5e: complete", "digits_3-MO-9c00d1e2: integrity broken"]
    assert any("Broken:" in span.text for notice in cover.notices for line in notice.lines for span in line.spans)


def test_a_chain_that_lacks_the_log_before_its_first_says_which() -> None:
    first, second = (log.record for log in LOGS)
    linked = replace(LOGS[1], record=replace(second, input_sha256=first.output_sha256))
    alone, whole = (one_document(logs).cover.notices for logs in ((linked,), (LOGS[0], linked)))
    (missing,) = [line for notice in alone for line in notice.lines if line.spans[0].text == "Not found:"]
    assert second.entries["aifsm.optimization.input_id"].value.text in missing.spans[1].text
    assert missing.spans[3].text == first.output_sha256
    assert not [line for notice in whole for line in notice.lines if line.spans[0].text == "Not found:"]


def test_the_contents_of_the_markdown_lead_to_its_headings() -> None:
    text = formats.write_dossier((*LOGS, LOGS[0]), "md").decode()
    links = re.findall(r"^ *- \[.+\]\(#(.+)\)$", text, re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", html.unescape(title).lower()).replace(" ", "-") for title in titles]
    numbered = [f"{slug}-{slugs[:place].count(slug)}".removesuffix("-0") for place, slug in enumerate(slugs)]
    assert len(links) == len(set(links)) == 36
    assert set(links) <= set(numbered)


def test_every_format_has_one_table_of_contents_and_every_value() -> None:
    for name in ("html", "md"):
        text = formats.write_dossier(LOGS, name).decode()
        assert text.count(">Contents<" if name == "html" else "## Contents") == 1
        assert text.count(LOGS[0].record.log_id) >= 4
    opened = python_docx.Document(io.BytesIO(formats.write_dossier(LOGS, "docx")))
    assert [line.text for line in opened.paragraphs if line.text in PARTS and line.style.name == "Heading 1"] == PARTS
    assert [line.text for line in opened.paragraphs].count("Contents") == 1
    for row in LOGS[1].record.template.fields:
        entry = LOGS[1].record.entries[row.key]
        if entry.state.strength and row.fact != "log.date":
            assert any(entry.value.text in cell.text for table in opened.tables for cell in table._cells)


def test_the_pdf_leads_from_its_contents_to_each_part() -> None:
    opened = pypdf.PdfReader(io.BytesIO(formats.write_dossier(LOGS, "pdf")))
    tops = [entry.title for entry in opened.outline if not isinstance(entry, list)]
    assert tops[-2:] == PARTS
    assert len(opened.pages[1]["/Annots"]) >= 24
    assert "Contents" in opened.pages[1].extract_text()


def test_a_link_of_the_page_s_contents_leads_to_a_place_on_it() -> None:
    page = Page(formats.write_dossier(LOGS, "html"))
    links = [str(attributes["href"]) for tag, attributes in page.tags if tag == "a" and "href" in attributes]
    places = {f"#{attributes['id']}" for tag, attributes in page.tags if tag == "a" and "id" in attributes}
    assert len(links) == 24
    assert set(links) == places


@pytest.mark.parametrize("format", formats.WRITERS)
def test_the_same_logs_give_the_same_bytes(format: str) -> None:
    assert formats.write_dossier(LOGS, format) == formats.write_dossier(LOGS, format)


def long(rows: int) -> Evidence:
    """A model with so many quantizers; one of them, late in the graph, is of another kind."""
    sample = evidence(names(rows))
    weight = {"kind": "weight", "dtype": "int8", "bits": 8, "granularity": "channel", "scale_min": 0.1, "scale_max": 0.2}
    quantizers = [{"tensor": name, **weight} for name in names(rows)]
    quantizers[-7] = {**quantizers[-7], "tensor": "=cmd()", "dtype": "int4", "bits": 4}
    return replace(sample, tables={**sample.tables, "quantizers": tuple(quantizers)})


@pytest.mark.parametrize("format", ["html", "pdf", "docx", "md"])
def test_ten_thousand_quantizers_stay_a_document_that_one_reads(format: str, tmp_path: Path) -> None:
    sample = long(10_000)
    report, *tables = rendered((sample,), format, tmp_path, PLAIN)
    stem = sample.record.log_id
    assert sorted(file.name for file in tables) == [
        f"{stem}-{name}.csv" for name in ("calibration", "layers", "quantizers", "sparsity")
    ]
    assert report.stat().st_size < 2 * 2**20
    with (tmp_path / f"{stem}-quantizers.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10_000
    assert [row["tensor"] for row in rows if row["bits"] == "4"] == ["'=cmd()"]
    if format == "pdf":
        pages = pypdf.PdfReader(report).pages
        assert len(pages) < 60
        assert any("=cmd()" in page.extract_text() for page in pages)
    if format in ("html", "md"):
        text = report.read_text("utf-8")
        assert "200 of 10,000 rows are shown: those of the rarest kinds first" in text
        assert "10,000 rows of 2 kinds" in text
        assert "=cmd()" in text


def test_a_dossier_lies_with_the_long_tables_of_each_log(tmp_path: Path) -> None:
    files = dossier((samples.conversion(), long(300)), "html", tmp_path, PLAIN)
    assert files[0].name == "digits_3-MO-3f9a1c5e.dossier.html"
    assert {file.name for file in files[1:]} >= {"digits_3-MO-3f9a1c5e-quantizers.csv"}


@pytest.mark.parametrize("log_id", ["../../escaped", "/etc/cron.d/x", "..", "a\x00b\nc", ""])
def test_the_id_of_a_log_never_leads_out_of_the_folder(log_id: str, tmp_path: Path) -> None:
    sample = samples.conversion()
    (tmp_path / "in").mkdir()
    (written,) = rendered((replace(sample, record=replace(sample.record, log_id=log_id)),), "md", tmp_path / "in", PLAIN)
    assert written.resolve().parent == (tmp_path / "in").resolve()


@pytest.mark.parametrize("string", hostile.HOSTILE, ids=range(len(hostile.HOSTILE)))
def test_a_list_of_reports_shows_hostile_words_as_text(string: str) -> None:
    page, expected = (Page(index(word, [listed("a b.html", hostile.evidence(word))])) for word in (string, "harmless"))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in expected.tags]
    assert [attributes["href"] for tag, attributes in page.tags if tag == "a"] == ["a%20b.html"]
    assert not {name for _, attributes in page.tags for name in attributes if name.startswith("on")}
