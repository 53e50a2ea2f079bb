"""``report`` in every format, on an organisation's form, as a dossier, and of an experiment: on the logs of a real run."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path

import docx as python_docx
import mlflow
import pypdf
import pytest
from jsonschema import Draft202012Validator

import mlflow_aifsm as aifsm
from mlflow_aifsm.report.schema import schema
from tests.cli.conftest import Logged
from tests.command import command

BEGINS = {"pdf": b"%PDF-1.7", "docx": b"PK\x03\x04", "html": b"<!DOCTYPE html>", "md": b"Org", "json": b"{"}


@pytest.mark.parametrize("format", BEGINS)
def test_each_format_is_written_for_both_logs(format: str, logged: Logged, tmp_path: Path) -> None:
    outcome = command("report", logged.run_id, "--format", format, "-o", "out/")
    assert (outcome.code, outcome.err) == (0, "")
    names = [f"{result.log_id}.{format}" for result in (logged.frozen, logged.int8)]
    assert outcome.out.split() == [f"out/{name}" for name in names]
    for name, result in zip(names, (logged.frozen, logged.int8), strict=True):
        content = (tmp_path / "out" / name).read_bytes()
        assert content.startswith(BEGINS[format])
        assert result.record.sha256 in words(content, format)


def words(content: bytes, format: str) -> str:
    if format == "pdf":
        return "".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(content)).pages)
    if format == "docx":
        opened = python_docx.Document(io.BytesIO(content))
        return opened.sections[0].footer.paragraphs[0].text
    return content.decode()


def test_real_records_fit_the_published_schema(logged: Logged, tmp_path: Path) -> None:
    assert command("report", logged.run_id, "--format", "json", "-o", "out/").code == 0
    reports = [json.loads(file.read_text("utf-8")) for file in (tmp_path / "out").iterdir()]
    assert len(reports) == 2
    for report in reports:
        Draft202012Validator({**schema(), "$ref": "#/$defs/Report"}).validate(report)
        Draft202012Validator(schema()).validate(report["record"])


def test_a_missing_extra_is_one_line_before_anything_is_read(monkeypatch: pytest.MonkeyPatch, logged: Logged) -> None:
    monkeypatch.setitem(sys.modules, "typst", None)
    outcome = command("report", "no such run", "--format", "pdf")
    assert outcome.code == 2
    said = (
        "mlflow-aifsm: report format 'pdf' needs the package typst, which is not installed; pip install 'mlflow-aifsm[pdf]'.\n"
    )
    assert outcome.err == said
    assert command("report", logged.run_id).code == 0


def test_the_exported_form_changed_by_hand_is_the_form_of_the_report(logged: Logged, tmp_path: Path) -> None:
    assert command("templates", "--export", "docx").out == "company.docx\n"
    assert "is there already" in command("templates", "--export", "docx").err
    form = python_docx.Document("company.docx")
    form.sections[0].header.paragraphs[0].text = "ACME form 12-B, {{ log_id }}"
    form.save("company.docx")
    outcome = command("report", logged.run_id, "--log", "optimization", "--format", "docx", "--template", "company.docx")
    assert (outcome.code, outcome.err) == (0, "")
    opened = python_docx.Document(f"{logged.int8.log_id}.docx")
    assert opened.sections[0].header.paragraphs[0].text == f"ACME form 12-B, {logged.int8.log_id}"
    (tmp_path / "aifsm.toml").write_text('docx_template = "company.docx"\n', "utf-8")
    assert command("report", logged.run_id, "--log", "optimization", "--format", "docx", "-o", "again.docx").code == 0
    assert Path("again.docx").read_bytes() == Path(f"{logged.int8.log_id}.docx").read_bytes()


def test_a_form_that_attacks_is_refused_in_one_line(logged: Logged, tmp_path: Path) -> None:
    form = python_docx.Document()
    form.add_paragraph("{{ cycler.__init__.__globals__.os.popen('touch hacked').read() }}")
    form.save("bad.docx")
    outcome = command("report", logged.run_id, "--format", "docx", "--template", "bad.docx")
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    assert outcome.err.startswith("mlflow-aifsm: the form bad.docx cannot be filled; got access to attribute '__init__'")
    assert [file.name for file in tmp_path.iterdir()] == ["bad.docx"]
    assert "a form is for DOCX alone" in command("report", logged.run_id, "--template", "bad.docx").err


def test_the_logo_that_the_settings_name_stands_in_the_report(logged: Logged, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "brand").mkdir()
    Image.new("RGB", (40, 20), "navy").save(tmp_path / "brand" / "logo.png")
    (tmp_path / "aifsm.toml").write_text('logo = "brand/logo.png"\n', "utf-8")
    assert command("report", logged.run_id, "--log", "conversion", "--format", "docx", "-o", "a.docx").code == 0
    packed = zipfile.ZipFile("a.docx")
    assert (tmp_path / "brand" / "logo.png").read_bytes() in [packed.read(name) for name in packed.namelist()]


def test_the_chain_of_a_registered_version_is_one_document_from_the_conversion_on(logged: Logged) -> None:
    outcome = command("report", logged.int8.version_uri, "--chain", "--format", "md")
    assert (outcome.code, outcome.err) == (0, "")
    (name,) = outcome.out.split()
    text = Path(name).read_text("utf-8")
    assert name == f"{logged.int8.log_id}.dossier.md"
    places = [text.index(f"## Part {number} ") for number in (1, 2)]
    assert places[0] < text.index("Model Conversion Log", places[0]) < places[1] < text.index("4 Model Optimization", places[1])
    assert text.count("## Contents") == 1
    of_run = command("report", logged.run_id, "--chain", "--format", "md", "-o", "-").out
    # of a named model one thing more is looked at: the record in its folder
    assert [line for line in text.splitlines() if "of the target against" not in line] == of_run.splitlines()


def test_of_two_logs_that_delivered_the_same_bytes_the_chain_holds_the_one_that_was_taken(logged: Logged) -> None:
    with aifsm.record_conversion(verified_model="detector_4", responsible="root", nested=True) as log:
        log.output(logged.frozen.path)
    (name,) = command("report", logged.int8.version_uri, "--chain", "--format", "md").out.split()
    text = Path(name).read_text("utf-8")
    assert log.result.record.output_sha256 == logged.frozen.record.output_sha256
    assert logged.frozen.log_id in text
    assert log.log_id not in text


def test_an_experiment_becomes_a_folder_with_a_list(logged: Logged, tmp_path: Path) -> None:
    name = mlflow.get_experiment(mlflow.get_run(logged.run_id).info.experiment_id).name
    outcome = command("report", "--experiment", name, "--format", "md", "-o", "all")
    assert (outcome.code, outcome.out, outcome.err) == (0, "all/index.html\n", "")
    page = (tmp_path / "all" / "index.html").read_text("utf-8")
    for result in (logged.frozen, logged.int8):
        assert (tmp_path / "all" / f"{result.log_id}.md").is_file()
        assert f'href="{result.log_id}.md"' in page
    assert command("report", "--experiment", "nowhere", "-o", "all").err.startswith(
        "mlflow-aifsm: there is no experiment nowhere"
    )


def test_what_does_not_go_together_is_said() -> None:
    for arguments in ((), ("run", "--experiment", "a"), ("--experiment", "a"), ("--experiment", "a", "-o", "-")):
        assert command("report", *arguments).code == 2


def test_the_public_verb_takes_the_same(logged: Logged, tmp_path: Path) -> None:
    files = aifsm.render_report(logged.run_id, "pdf", tmp_path / "new.pdf", chain=True)
    assert [file.name for file in files] == ["new.pdf"]
    assert files[0].read_bytes().startswith(b"%PDF")
