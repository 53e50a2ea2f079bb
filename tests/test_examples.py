"""The examples, run as their users run them: in a folder and a database of their own, judged by what the runs hold."""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import nbformat
import pytest
from mlflow.entities import Run

from mlflow_aifsm.audit import load_record, read
from mlflow_aifsm.digests import sha256_file
from mlflow_aifsm.facts import State
from mlflow_aifsm.record import Record
from tests.conftest import REPOSITORY, copied
from tests.notebooks import printed, ran

pytestmark = pytest.mark.slow

EXAMPLES = REPOSITORY / "examples"
ADDED = "  # added"
READ_FROM_THE_FILE = {f"aifsm.ptq.{name}" for name in ("precision", "scheme", "technique", "granularity")} | {
    f"aifsm.calibration.{name}" for name in ("scale", "transformation")
}

Started = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def started(migrated: Path, tmp_path: Path) -> Started:
    """Starts Python with these arguments, in the test's folder and on its database, without any setting of the tests."""
    uri = copied(migrated, tmp_path)
    mlflow.set_tracking_uri(uri)
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTHON", "NNCF_"))}

    def start(*arguments: str | Path, folder: Path = tmp_path, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, arguments)]
        surroundings = plain | {"MLFLOW_TRACKING_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true", **variables}
        return subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, check=False)

    return start


def the_run() -> Run:
    """The only run of the database."""
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    return run


def whole(record: Record) -> bool:
    """Whether every field is answered, and what the file tells is measured on it."""
    states = {record.entries[key].state for key in READ_FROM_THE_FILE & record.entries.keys()}
    return record.gaps == () and states <= {State.MEASURED}


def models(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in folder.glob("*.onnx")}


def test_three_lines_give_an_existing_script_both_logs_and_change_nothing_else(started: Started, tmp_path: Path) -> None:
    script = EXAMPLES / "existing_script.py"
    lines = script.read_text("utf-8").splitlines(keepends=True)
    plain = [line for line in lines if not line.rstrip("\n").endswith(ADDED)]
    assert len(lines) - len(plain) == 3
    assert all(line[:2] in ("  ", "- ") for line in difflib.ndiff(lines, plain))
    assert "aifsm" not in "".join(plain).partition('"""\n\n')[2]
    before = tmp_path / "before"
    before.mkdir()
    (before / "existing_script.py").write_text("".join(plain), "utf-8")
    bare = started(before / "existing_script.py", folder=before, MLFLOW_TRACKING_URI="sqlite:///mlflow.db")
    logged = started(script, MLFLOW_AIFSM_RESPONSIBLE="A. Ito", MLFLOW_AIFSM_QUIET="1")
    assert (bare.returncode, logged.returncode) == (0, 0), bare.stderr + logged.stderr
    decided = [re.findall(r"^(digits\S*\.onnx) +(0\.\d{4}) ", done.stdout, re.MULTILINE) for done in (bare, logged)]
    assert decided[0] == decided[1]
    assert len(decided[0]) == 2
    assert min(float(share) for _, share in decided[0]) > 0.9
    assert models(before) == models(tmp_path)
    assert models(tmp_path).keys() == {"digits.onnx", "digits-int8.onnx"}
    judge_the_script(the_run(), tmp_path)


def judge_the_script(run: Run, folder: Path) -> None:
    """Both logs speak of the files that the script wrote, the second one of the first."""
    conversion, optimization = (load_record(run.info.run_id, log) for log in ("conversion", "optimization"))
    assert conversion.output_sha256 == sha256_file(folder / "digits.onnx")
    assert optimization.output_sha256 == sha256_file(folder / "digits-int8.onnx")
    assert optimization.entries["aifsm.optimization.input_id"].value.text == conversion.log_id
    assert whole(conversion)
    assert whole(optimization)
    assert optimization.entries.keys() >= READ_FROM_THE_FILE
    assert optimization.entries["aifsm.calibration.method"].value.data["consumed"] == 300
    assert {finding.code for finding in conversion.findings} == {"input_unregistered"}
    assert {path.suffix for path in (folder / "aifsm-reports").iterdir()} == {".html"}
    assert run.data.metrics.keys() >= {"digits", "digits-int8"}


def test_lightnings_trainer_trains_what_is_frozen(started: Started) -> None:
    done = started(EXAMPLES / "lightning.py", "--epochs", "2", "--responsible", "A. Ito")
    assert done.returncode == 0, done.stderr
    run_id = re.search(r"^report +mlflow-aifsm report ([0-9a-f]{32})$", done.stdout, re.MULTILINE)[1]
    assert the_run().info.run_id == run_id
    (evidence,) = read(run_id, "optimization")
    beside = {fact.name: fact.value.data for fact in evidence.record.entries["aifsm.recovery.qat"].beside}
    assert beside["qat.epochs"] == 2
    assert [one["class"] for one in beside["qat.optimizer"]] == ["Adam"]
    assert [one["class"] for one in beside["qat.schedule"]] == ["StepLR"]
    assert len(beside["qat.metrics"]["loss"]) == 2
    assert evidence.record.entries["aifsm.recovery.qat"].value.data["weights_changed"]
    assert whole(evidence.record)
    assert evidence.record.verification.passed
    assert evidence.record.verification.numbers["accuracy_after"] > 0.9
    assert [check.holds for check in evidence.checks] == [True] * 4


def test_without_lightning_its_example_says_how_to_get_it(started: Started) -> None:
    # Lightning cannot be uninstalled for a test: its name is barred
    script = str(EXAMPLES / "lightning.py")
    done = started("-c", f"import runpy, sys; sys.modules['lightning'] = None; runpy.run_path({script!r}, run_name='__main__')")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == "ModuleNotFoundError: this example needs Lightning: pip install lightning"


def test_the_notebook_is_committed_without_outputs() -> None:
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in code] == [([], None)] * len(code)


def test_the_notebook_tells_its_story_and_is_the_source_of_its_logs(migrated: Path, tmp_path: Path) -> None:
    path = tmp_path / "notebook.ipynb"
    path.write_bytes((EXAMPLES / "notebook.ipynb").read_bytes())
    uri = copied(migrated, tmp_path)
    mlflow.set_tracking_uri(uri)
    done = ran(nbformat.read(path, as_version=4), tmp_path, MLFLOW_TRACKING_URI=uri, JPY_SESSION_NAME=str(path))
    shown = [output.data["text/html"] for cell in done.cells for output in cell.get("outputs", ()) if "data" in output]
    run = the_run()
    records = [load_record(run.info.run_id, log) for log in ("conversion", "optimization")]
    for record, html in zip(records, shown, strict=False):
        assert record.findings == ()
        assert whole(record)
        assert record.log_id in html
        assert record.state_line in html
        assert re.search(r"ipykernel_\d", record.to_json().decode()) is None
    assert "&lt;!DOCTYPE html&gt;" in shown[-1]
    assert records[1].log_id in shown[-1]
    source = records[1].entries["aifsm.ptq.additional"].value
    digest = sha256_file(path)
    assert f"Called from notebook.ipynb, cell [4] (sha256 {digest[:12]}…" in source.text
    assert f"notebook notebook.ipynb {digest}" in printed(done, -2)
    assert "the cells ran one after the other as they stand in notebook.ipynb, up to cell 4" in printed(done, -2)
    folder = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="aifsm/optimization/source"))
    assert (folder / "notebook.ipynb").read_bytes() == path.read_bytes()
    assert "int8 = aifsm.quantize(" in (folder / "cells.py").read_text("utf-8")
