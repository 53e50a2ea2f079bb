"""``compare`` on the command line: the terminal's table, each format, targets and experiments, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import mlflow
import pytest

import mlflow_aifsm as aifsm
from mlflow_aifsm.report.comparison_document import ROWS
from mlflow_aifsm.tracking.staging import FORMULA
from tests.cli.conftest import Logged
from tests.command import command
from tests.comparison.copies import copies

HOSTILE = "=HYPERLINK(1) <script>alert(1)</script> | x"


@pytest.fixture
def own(logged: Logged, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the database, for what writes into it."""
    copy = tmp_path / "own.db"
    copy.write_bytes(Path(database.removeprefix("sqlite:///")).read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{copy}")
    mlflow.set_tracking_uri(f"sqlite:///{copy}")
    return copy


def experiment_of(logged: Logged) -> str:
    return str(mlflow.get_experiment(mlflow.get_run(logged.run_id).info.experiment_id).name)


@pytest.mark.parametrize("width", ["80", "120"])
def test_two_logs_of_a_run_stand_beside_each_other_within_the_terminal(
    width: str, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    outcome = command("compare", logged.run_id)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert max(map(len, lines)) <= int(width)
    assert lines[0] == f"Logs of {logged.run_id}"
    assert any(line.startswith("Baseline") and "conversion" in line for line in lines)
    size = logged.int8.record.output_files[0].size
    assert any(line.startswith("size (bytes)") and f"{size:,}" in line for line in lines)


def test_registered_versions_are_targets_and_the_float_one_is_the_baseline(logged: Logged) -> None:
    outcome = command(
        "compare", logged.int8.version_uri, "--baseline", logged.frozen.version_uri, "--format", "json", "-o", "-"
    )
    told = json.loads(outcome.out)
    assert [row["version"] for row in told["rows"]] == [logged.frozen.version_uri, logged.int8.version_uri]
    assert told["baseline"] == told["rows"][0]["name"]
    data = mlflow.get_run(logged.run_id).data.metrics
    assert all(data[f"aifsm.{name}"] == value for name, value in told["rows"][1]["values"].items())
    assert told["rows"][1]["deltas"]["size"] == told["rows"][1]["values"]["size"] - told["rows"][0]["values"]["size"]


@pytest.mark.parametrize(
    ("file", "begin"), [("a.html", "<!DOCTYPE html>"), ("a.md", "# Logs of"), ("a.csv", "name,run_id"), ("a.json", "{")]
)
def test_the_name_of_the_file_tells_the_format(file: str, begin: str, logged: Logged) -> None:
    outcome = command("compare", "--experiment", experiment_of(logged), "-o", f"made/{file}")
    assert (outcome.code, outcome.out.strip()) == (0, f"made/{file}")
    content = Path("made", file).read_text("utf-8").lstrip()
    assert content.startswith(begin)
    assert logged.frozen.version_uri.removeprefix("models:/") in content


def test_a_format_beats_the_name_and_goes_to_standard_output(logged: Logged) -> None:
    assert command("compare", logged.run_id, "--format", "md", "-o", "x.txt").code == 0
    assert Path("x.txt").read_text("utf-8") == command("compare", logged.run_id, "--format", "md").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Error: Name TARGETs, or --experiment NAME."),
        (["x", "--experiment", "y"], "Error: Name TARGETs, or --experiment NAME."),
        (["x", "-o", "y.rtf"], "Error: Name the format of y.rtf with --format."),
        (["x", "--format", "pdf"], "mlflow-aifsm: format 'pdf' of a comparison; expected terminal, md, html, csv, json."),
    ],
)
def test_wrong_usage_is_two_before_anything_is_read(arguments: list[str], said: str) -> None:
    outcome = command("compare", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.splitlines()[-1] == said


def test_an_unknown_target_or_experiment_is_one_line_and_exit_code_one(logged: Logged) -> None:
    for arguments in (["0" * 32], ["--experiment", "unheard of"], ["models:/unheard of"]):
        outcome = command("compare", *arguments)
        assert (outcome.code, outcome.out) == (1, "")
        assert len(outcome.err.splitlines()) == 1
        assert outcome.err.startswith("mlflow-aifsm: ")


def test_a_file_that_cannot_be_written_is_one_line(logged: Logged) -> None:
    Path("taken").write_text("a file, no folder", "utf-8")
    outcome = command("compare", logged.run_id, "-o", "taken/a.html")
    assert outcome.code == 2
    assert "cannot write taken/a.html" in outcome.err


def test_a_hostile_name_is_shown_and_does_nothing(own: Path, logged: Logged) -> None:
    mlflow.MlflowClient().set_tag(logged.run_id, "mlflow.runName", HOSTILE)
    mlflow.MlflowClient().set_tag(logged.run_id, "aifsm.optimization.host", "@SUM(A1)\u202e")
    page = command("compare", logged.run_id, "--format", "html").out
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    rows = list(csv.DictReader(io.StringIO(command("compare", logged.run_id, "--format", "csv").out)))
    assert rows[0]["name"] == f"'{HOSTILE} · conversion"
    assert not [cell for row in rows for cell in row.values() if cell and cell.startswith(FORMULA) and not _number(cell)]
    assert "\u202e" not in command("compare", logged.run_id).out


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def test_of_many_rows_a_document_shows_some_and_a_csv_beside_it_holds_all(own: Path, logged: Logged) -> None:
    copies(own, logged.run_id, ROWS)
    outcome = command("compare", "--experiment", experiment_of(logged), "-o", "many.html")
    assert outcome.out.split() == ["many.html", "many.csv"]
    frame = aifsm.compare(experiment=experiment_of(logged))
    rows = list(csv.DictReader(io.StringIO(Path("many.csv").read_text("utf-8"))))
    assert [row["name"] for row in rows] == list(frame.index)
    assert [float(row["size"]) for row in rows] == list(frame["size"])
    assert f"{len(rows):,}, {ROWS} of them shown" in Path("many.html").read_text("utf-8")
