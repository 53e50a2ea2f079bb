"""A log as a folder: the record's own bytes, tables no spreadsheet runs, and a free name where it must stay on disk."""

from __future__ import annotations

import csv as reader
import io
import json
from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_aifsm.digests import differences, manifest, sha256_bytes
from mlflow_aifsm.facts import Json
from mlflow_aifsm.record import Record
from mlflow_aifsm.tracking.keys import OUTSIDE_MANIFEST
from mlflow_aifsm.tracking.staging import FORMULA, Attachments, csv, spool, stage
from tests.golden import golden_record
from tests.report.plotted import names, tables

ROWS = [
    {"tensor": "conv1.weight", "bits": 8, "axis": 0, "scale": 0.1},
    {"tensor": "=1+1", "bits": 8, "axis": None, "scale": 5e-324},
]
ATTACHED = Attachments(
    {"packages.txt": b"torch==2.9\n", "source/train.py": b"print(1)\n"},
    {"environment.json": {"os": "Linux ä"}},
    {"quantizers": ROWS},
)


def cells(content: bytes) -> list[list[str]]:
    return list(reader.reader(io.StringIO(content.decode("utf-8"), newline="")))


def test_a_staged_log_holds_record_attachments_tables_manifest_and_report(tmp_path: Path) -> None:
    record = golden_record()
    assert stage(tmp_path, record, ATTACHED) == tmp_path
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    expected = [
        "environment.json",
        "manifest.json",
        "packages.txt",
        "quantizers.csv",
        "quantizers.json",
        "record.json",
        "report.html",
        "source/train.py",
    ]
    assert names == expected
    assert Record.from_json((tmp_path / "record.json").read_bytes()) == record
    assert sha256_bytes((tmp_path / "record.json").read_bytes()) == record.sha256
    assert json.loads((tmp_path / "environment.json").read_bytes()) == {"os": "Linux ä"}
    assert record.log_id in (tmp_path / "report.html").read_text("utf-8")


def test_the_manifest_lists_what_must_not_change_and_finds_a_change(tmp_path: Path) -> None:
    stage(tmp_path, golden_record(), ATTACHED)
    listed = json.loads((tmp_path / "manifest.json").read_bytes())
    before = manifest(tmp_path, OUTSIDE_MANIFEST)
    assert [file["path"] for file in listed] == [file.path for file in before]
    assert {"manifest.json", "report.html"}.isdisjoint(file["path"] for file in listed)
    (tmp_path / "declarations").mkdir()
    (tmp_path / "declarations" / "20260101.json").write_text("[]")
    (tmp_path / "packages.txt").write_text("torch==2.8\n")
    (tmp_path / "report.html").write_text("rendered anew")
    changed = differences(before, manifest(tmp_path, OUTSIDE_MANIFEST))
    assert [line.split(":")[0] for line in changed] == ["packages.txt"]


def test_the_same_log_is_staged_in_the_same_bytes(tmp_path: Path) -> None:
    first, second = (stage(tmp_path / name, golden_record(), ATTACHED) for name in "ab")
    assert manifest(first) == manifest(second)


def test_plots_are_staged_as_files_that_the_manifest_lists_and_the_report_holds(tmp_path: Path) -> None:
    first, second = (stage(tmp_path / name, golden_record(), Attachments(tables=tables(names(9)))) for name in "ab")
    plots = [f"plots/{name}.svg" for name in ("ranges", "sparsity", "sqnr")]
    listed = {file["path"]: file["sha256"] for file in json.loads((first / "manifest.json").read_bytes())}
    assert sorted(path.relative_to(first).as_posix() for path in first.rglob("*.svg")) == plots
    assert {name: sha256_bytes((first / name).read_bytes()) for name in plots}.items() <= listed.items()
    assert manifest(first) == manifest(second)
    report = (first / "report.html").read_text("utf-8")
    assert all(b64encode((first / name).read_bytes()).decode() in report for name in plots)


def test_a_plot_that_fails_costs_neither_the_record_nor_another_plot(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = {**tables(names(9)), "distributions": ({"tensor": "w", "bin_low": 0, "bin_high": 1, "count": 10**400},)}
    stage(tmp_path, golden_record(), Attachments(tables=broken))
    assert sorted(path.name for path in tmp_path.rglob("*.svg")) == ["sparsity.svg", "sqnr.svg"]
    assert Record.from_json((tmp_path / "record.json").read_bytes()) == golden_record()
    assert "plot ranges.svg cannot be drawn" in caplog.text


@pytest.mark.parametrize(
    "formula", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "=cmd|' /C calc'!A0", "\uff1d1", "\uff0d1"]
)
def test_a_text_that_a_spreadsheet_would_run_gets_an_apostrophe(formula: str) -> None:
    assert cells(csv([{"tensor": formula, "n": 1}])) == [["tensor", "n"], [f"'{formula}", "1"]]


@pytest.mark.parametrize("cell", ["conv1.weight", "a=b", "1-2", "", "'quoted", 'a"b', "a,b", "two\nlines", "a\r=1+1", "名前"])
def test_any_other_text_is_kept_as_it_is(cell: str) -> None:
    assert cells(csv([{"tensor": cell, "n": 1}])) == [["tensor", "n"], [cell, "1"]]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_any_text_stays_in_its_own_cell_and_none_begins_with_a_formula(texts: list[str]) -> None:
    header, *rows = cells(csv([{"n": 1, "tensor": text, "m": 2} for text in texts]))
    assert header == ["n", "tensor", "m"]
    assert [row[1].removeprefix("'") for row in rows] == [text.removeprefix("'") for text in texts]
    assert not any(row[1].startswith(FORMULA) for row in rows)


def test_numbers_keep_their_type_and_precision_beside_empty_cells() -> None:
    numbers: list[dict[str, Json]] = [
        {"axis": 0, "scale": -0.1, "symmetric": True},
        {"axis": None, "scale": 1 / 3, "symmetric": None},
    ]
    assert cells(csv(numbers)) == [["axis", "scale", "symmetric"], ["0", "-0.1", "True"], ["", repr(1 / 3), ""]]
    assert cells(csv([{"axis": [0, 1]}])) == [["axis"], ["[0, 1]"]]


def test_rows_with_other_columns_leave_cells_empty_and_a_name_that_is_not_utf8_is_escaped() -> None:
    assert cells(csv([{"a": 1}, {"b": "x \udcff"}])) == [["a", "b"], ["1", ""], ["", r"x \udcff"]]


def test_a_log_that_could_not_be_logged_is_kept_under_a_name_that_is_free(tmp_path: Path) -> None:
    record = golden_record()
    staged = stage(tmp_path / "staged", record, ATTACHED)
    delivered = [tmp_path / name for name in ("model.onnx", "model.onnx.data")]
    for number, file in enumerate(delivered):
        file.write_bytes(bytes([number]) * 9)
    destination = tmp_path / "spool" / "digits_3-MC-1"
    files = {file.name: file for file in delivered}
    places = [spool(destination, golden_record(), ATTACHED, files) for _ in range(3)]
    assert [place.name for place in places] == ["digits_3-MC-1", "digits_3-MC-1-2", "digits_3-MC-1-3"]
    for place in places:
        assert manifest(place, [f"model/{file.name}" for file in delivered]) == manifest(staged)
        assert [(place / "model" / file.name).read_bytes() for file in delivered] == [file.read_bytes() for file in delivered]


def test_a_log_without_delivered_file_is_kept_without_model(tmp_path: Path) -> None:
    place = spool(tmp_path / "free", golden_record(), Attachments(), {})
    assert not (place / "model").exists()
    assert sorted(path.name for path in place.iterdir()) == ["manifest.json", "record.json", "report.html"]


def test_kept_files_stay_in_their_subfolders(tmp_path: Path) -> None:
    files = {}
    for name in ("model.onnx", "weights/a.bin", "other/a.bin"):
        files[name] = tmp_path / "made" / name
        files[name].parent.mkdir(parents=True, exist_ok=True)
        files[name].write_text(name)
    place = spool(tmp_path / "kept", golden_record(), Attachments(), files)
    assert {name: (place / "model" / name).read_text() for name in files} == {name: name for name in files}


def test_a_part_that_cannot_be_made_costs_neither_the_record_nor_the_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"frozen")
    broken = Attachments(documents={"environment.json": object()})  # type: ignore[dict-item]
    place = spool(tmp_path / "kept", golden_record(), broken, {"model.onnx": tmp_path / "model.onnx"})
    assert Record.from_json((place / "record.json").read_bytes()) == golden_record()
    assert (place / "model" / "model.onnx").read_bytes() == b"frozen"
    assert "environment.json of log" in caplog.text
