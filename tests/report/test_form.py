"""An organisation's own form: what it may hold is filled in, and what it must not hold is refused in one line."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import docx as python_docx
import pytest
from docx.document import Document
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from PIL import Image

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.report import formats
from mlflow_aifsm.report.docx_form import form
from mlflow_aifsm.report.look import Look, look
from tests.report import hostile, samples


def made(*lines: str, change: Callable[[Document], object] = lambda _: None) -> bytes:
    """A form of these paragraphs."""
    document = python_docx.Document()
    for text in lines:
        document.add_paragraph(text)
    change(document)
    content = io.BytesIO()
    document.save(content)
    return content.getvalue()


def written(content: bytes) -> Document:
    """The log of the int8 model on this form."""
    return python_docx.Document(io.BytesIO(formats.write(samples.optimization(), "docx", Look(form=content))))


def texts(document: Document) -> list[str]:
    return [line.text for line in document.paragraphs]


def refused(content: bytes) -> str:
    with pytest.raises(InputError) as caught:
        formats.write(samples.optimization(), "docx", Look(form=content, form_name="company.docx"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    return str(caught.value)


def test_names_of_the_cover_and_of_fields_are_filled_in() -> None:
    lines = (
        "{{ organisation }}/{{ project }}/{{ rev }}/{{ ref }}/{{ document_id }}/{{ document_version }}",
        "{{ title }} {{ log_id }} by {{ author }} on {{ date }}: {{ status }}",
        "{{ fields['aifsm.ptq.scheme'].label }}: {{ fields['aifsm.ptq.scheme'].value }}",
        "({{ fields['aifsm.ptq.scheme'].state }}, {{ fields['aifsm.ptq.scheme'].source }})",
        "{% for field in fields.values() if field.state == 'declared' %}{{ field.label }}{% endfor %}",
    )
    assert texts(written(made(*lines))) == [
        "Nordlys Rail Systems/Kerbside Digit Reader/B/NRS-KDR-0417/KDR-MOL-004/V0.1",
        "Model Optimization Log digits_3-MO-3f9a1c5e by Akiko Ito on 2026/11/20: Complete",
        "Quantization scheme: Weights symmetric, activations asymmetric",
        "(measured, digits_int8.onnx, sha256 b21e77c0)",
        "",
    ]


def test_the_sections_stand_where_the_form_wants_them_in_its_own_headings() -> None:
    document = written(made("First", "{{p information }}", "Between", "{{p history }}", "Last"))
    found = texts(document)
    order = ["First", "4 Model Optimization", "Between", "1 Review / Modification History", "Last"]
    assert [text for text in found if text in order] == order
    assert "2 Objective" not in found
    assert len(document.tables) == 2


def test_a_form_without_headings_and_with_a_table_and_a_header_gets_real_headings() -> None:
    def bare(document: Document) -> None:
        for style in [style for style in document.styles if style.name.startswith("Heading")]:
            style.delete()
        document.add_table(1, 1).cell(0, 0).text = "{{p scope }}"
        document.sections[0].header.paragraphs[0].text = "{{ log_id }}"

    document = written(made("{{p objective }}", change=bare))
    assert document.styles["Heading 1"].element.pPr.find(qn("w:outlineLvl")).get(qn("w:val")) == "0"
    assert "2 Objective" in [line.text for line in document.paragraphs if line.style.name == "Heading 1"]
    assert "3 Scope" in document.tables[0].cell(0, 0).text
    assert document.sections[0].header.paragraphs[0].text == "digits_3-MO-3f9a1c5e"


def test_the_exported_form_gives_what_is_written_without_one() -> None:
    assert formats.write(samples.optimization(), "docx", Look(form=form())) == formats.write(samples.optimization(), "docx")


ATTACKS = (
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ fields.__class__.__init__.__globals__ }}",
    "{{ fields.update({'a': 1}) }}",
    "{{ logo.__init__.__globals__ }}",
    "{{ body.__class__.__mro__ }}",
    "{% for x in (1).__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "{{ lipsum.__globals__['os'] }}",
    "{{ '%s' | format(unknown) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{{ 1 / 0 }}",
    "{% if %}",
    "{{ range(999999999) }}",
)


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
def test_a_form_that_runs_code_or_names_what_is_not_there_is_refused_in_one_line(attack: str) -> None:
    assert refused(made(attack)).startswith("company.docx cannot be filled; got ")


def test_an_attack_in_the_header_or_the_properties_of_a_form_does_not_run_either() -> None:
    def header(document: Document) -> None:
        document.sections[0].header.paragraphs[0].text = ATTACKS[0]

    assert "cannot be filled" in refused(made("body", change=header))
    document = written(made("body", change=lambda document: setattr(document.core_properties, "title", ATTACKS[0])))
    assert document.core_properties.title == "Model Optimization Log digits_3-MO-3f9a1c5e"


def field(document: Document, instruction: str) -> None:
    """A field whose instruction is cut in two, as Word does it."""
    run = document.add_paragraph().add_run()
    for part in (instruction[:5], instruction[5:]):
        element = OxmlElement("w:instrText")
        element.text = part
        run._r.append(element)


OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
LINKS = (RELATIONSHIP_TYPE.IMAGE, f"{OFFICE}/attachedTemplate", RELATIONSHIP_TYPE.OLE_OBJECT)
FETCHING = ('INCLUDEPICTURE "https://tracker.invalid/a"', "DDEAUTO cmd calc", 'INCLUDETEXT "/etc/passwd"')


@pytest.mark.parametrize("kind", LINKS)
def test_a_form_that_fetches_a_remote_part_is_refused(kind: str) -> None:
    content = made("a", change=lambda document: document.part.relate_to("https://tracker.invalid/a", kind, is_external=True))
    assert "that lies outside it" in refused(content)


@pytest.mark.parametrize("instruction", FETCHING)
def test_a_form_with_a_field_that_fetches_or_runs_is_refused(instruction: str) -> None:
    assert f"the field {instruction.split()[0]}" in refused(made("a", change=lambda document: field(document, instruction)))


def test_an_ordinary_link_and_a_page_number_are_no_reason_to_refuse_a_form() -> None:
    def ordinary(document: Document) -> None:
        document.part.relate_to("https://example.org", RELATIONSHIP_TYPE.HYPERLINK, is_external=True)
        field(document, "PAGE \\* MERGEFORMAT")

    assert "filled" in texts(written(made("filled", change=ordinary)))


def bomb() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("word/document.xml", bytes(101 * 2**20))
    return content.getvalue()


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04", bomb()], ids=["empty", "text", "cut", "bomb"])
def test_what_is_no_docx_is_refused_in_one_line(content: bytes) -> None:
    assert refused(content).startswith("company.docx is no DOCX that can be opened")


def test_the_words_of_a_record_are_no_template() -> None:
    string = "{{ 7 * 7 }}{% raw %}{{p body }} {_{ x }_} <w:p/>"
    lines = ("{{ organisation }}", "{{ fields['aifsm.ptq.scheme'].value }}", "{{p information }}")
    evidence = hostile.evidence(string)
    content = formats.write(evidence, "docx", Look(form=made(*lines)))
    document = python_docx.Document(io.BytesIO(content))
    assert texts(document)[0].startswith("{{ 7 * 7 }}{% raw %}{{p body }} {_{ x }_}")
    assert texts(document)[1].startswith("{{ 7 * 7 }}{% raw %}{{p body }} {_{ x }_}")
    assert string in "".join(part.text or "" for part in document.tables[0]._tbl.iter(qn("w:t")))


@pytest.fixture
def logo(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 20), "#1d3a57").save(tmp_path / "logo.png")
    return tmp_path / "logo.png"


def test_a_logo_stands_in_every_format_that_shows_pictures(logo: Path) -> None:
    chosen, content = look(logo), logo.read_bytes()
    sample = samples.optimization()
    packed = zipfile.ZipFile(io.BytesIO(formats.write(sample, "docx", chosen)))
    assert content in [packed.read(name) for name in packed.namelist() if name.endswith(".png")]
    assert b'<p class="logo"><img src="data:image/png;base64,' in formats.write(sample, "html", chosen)
    assert b"/Subtype/Image" in formats.write(sample, "pdf", chosen)
    for name in formats.WRITERS:
        assert formats.write(sample, name, chosen) == formats.write(sample, name, chosen)


@pytest.mark.parametrize("content", [b"<svg onload='x'/>", b"GIF89a", b""])
def test_a_logo_of_another_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "logo.png").write_bytes(content)
    with pytest.raises(InputError, match="expected PNG or JPEG"):
        look(tmp_path / "logo.png")
    with pytest.raises(InputError, match="cannot read"):
        look(tmp_path / "missing.png")
