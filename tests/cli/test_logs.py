"""``report`` and ``check`` on the logs of a real run: what is written, in which order, and which code the process ends with."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
import pytest

import mlflow_aifsm as aifsm
from mlflow_aifsm.tracking import read
from tests.cli.conftest import Logged
from tests.command import command
from tests.models import Digits


def test_both_logs_of_a_run_are_written_in_order(logged: Logged, tmp_path: Path) -> None:
    outcome = command("report", logged.run_id)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [f"{logged.frozen.log_id}.html", f"{logged.int8.log_id}.html"]
    for result in (logged.frozen, logged.int8):
        assert result.log_id in (tmp_path / f"{result.log_id}.html").read_text("utf-8")


def test_one_log_is_written_where_one_is_named(logged: Logged, tmp_path: Path) -> None:
    assert command("report", logged.run_id, "--log", "optimization", "--format", "md", "-o", "log.md").code == 0
    assert [file.name for file in tmp_path.iterdir()] == ["log.md"]
    text = (tmp_path / "log.md").read_text("utf-8")
    assert "# Model Optimization Log" in text
    assert "# Model Conversion Log" not in text


def test_a_named_file_gets_the_first_log_and_a_neighbour_the_second(logged: Logged, tmp_path: Path) -> None:
    assert command("report", logged.run_id, "-o", "out/log.html").code == 0
    assert "Model Conversion Log" in (tmp_path / "out" / "log.html").read_text("utf-8")
    assert "Model Optimization Log" in (tmp_path / "out" / "log-optimization.html").read_text("utf-8")


@pytest.mark.parametrize("folder", ["new/", "there"])
def test_a_folder_takes_both_under_their_ids(logged: Logged, tmp_path: Path, folder: str) -> None:
    (tmp_path / "there").mkdir()
    assert command("report", logged.run_id, "--format", "json", "-o", folder).code == 0
    files = sorted((tmp_path / folder).iterdir())
    assert [file.name for file in files] == [f"{result.log_id}.json" for result in (logged.frozen, logged.int8)]
    assert all(json.loads(file.read_text("utf-8")) for file in files)


def test_a_dash_writes_to_standard_output_and_nothing_else(logged: Logged, tmp_path: Path) -> None:
    outcome = command("report", logged.run_id, "--format", "md", "-o", "-")
    assert outcome.out.index("Model Conversion Log") < outcome.out.index("Model Optimization Log")
    assert not list(tmp_path.iterdir())


def test_what_nobody_can_write_is_a_usage_error(logged: Logged, tmp_path: Path) -> None:
    outcome = command("report", logged.run_id, "--format", "odt")
    assert outcome.code == 2
    assert outcome.err == "mlflow-aifsm: report format 'odt'; expected html, pdf, docx, md, json.\n"
    assert command("report", logged.run_id, "--log", "training").code == 2
    assert command("report").code == 2
    (tmp_path / "file").write_text("in the way", "utf-8")
    outcome = command("report", logged.run_id, "-o", "file/log.html")
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    assert "cannot write file" in outcome.err


def test_each_kind_of_target_leads_to_its_log(logged: Logged, tmp_path: Path) -> None:
    folder = shutil.copytree(logged.int8.path.parent, tmp_path / "deployed")
    model = Path(mlflow.artifacts.download_artifacts(logged.frozen.model_uri, dst_path=str(tmp_path / "model")))
    targets = {
        f"runs:/{logged.run_id}": [logged.frozen, logged.int8],
        logged.frozen.version_uri: [logged.frozen],
        logged.int8.model_uri: [logged.int8],
        str(model): [logged.frozen],
        str(model / "aifsm"): [logged.frozen],
    }
    for target, results in targets.items():
        assert command("report", target).out.splitlines() == [f"{result.log_id}.html" for result in results], target
    outcome = command("report", str(folder / logged.int8.path.name))
    assert outcome.out.splitlines() == [f"{logged.int8.log_id}.html"]


def test_a_file_that_no_run_delivered_is_named_by_its_digest(logged: Logged, tmp_path: Path) -> None:
    changed = tmp_path / "model.onnx"
    changed.write_bytes(logged.int8.path.read_bytes() + b"\x82\x06\x01x")
    outcome = command("check", str(changed))
    assert outcome.code == 1
    assert "no run at sqlite" in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_a_complete_log_is_zero_for_check_and_for_strict(logged: Logged) -> None:
    outcome = command("check", logged.run_id)
    assert outcome.code == 0, outcome.out
    assert outcome.out.index(logged.frozen.log_id) < outcome.out.index(logged.int8.log_id)
    assert "BROKEN" not in outcome.out
    assert command("report", logged.run_id, "--strict").code == 0


def test_check_as_json_says_the_same(logged: Logged) -> None:
    outcome = command("check", logged.run_id, "--json")
    logs = json.loads(outcome.out)
    assert outcome.code == 0
    assert [log["log_id"] for log in logs] == [logged.frozen.log_id, logged.int8.log_id]
    for log in logs:
        assert (log["status"], log["unanswered"], log["findings"]) == ("complete", [], [])
        assert [check["holds"] for check in log["checks"]] == [True] * 4


def small_log(given: Path, **how: object) -> str:
    how = {"converter": "onnxscript", "responsible": "A. Ito", "verified_model": "detector_4"} | how
    with aifsm.record_conversion(**how) as log:
        log.output(given)
    return log.finished.run_id


def assert_open(run_id: str, code: int, words: str) -> None:
    outcome = command("check", run_id)
    assert (outcome.code, words in outcome.out) == (code, True), outcome.out
    assert command("report", run_id, "--strict").code == code
    assert command("report", run_id).code == 0


def test_a_gap_is_three_for_check_and_for_strict(complete: Logged, experiment: str) -> None:
    assert_open(small_log(complete.frozen.path, converter=""), 3, "aifsm.conversion.framework")


def test_an_open_finding_is_four(complete: Logged, experiment: str) -> None:
    assert_open(small_log(complete.frozen.path, verified_model=None), 4, "input_unregistered")


def test_a_finding_beside_a_gap_is_four(complete: Logged, experiment: str) -> None:
    assert_open(small_log(complete.frozen.path, converter="", responsible="root"), 4, "responsible_is_account")


def test_a_failed_verification_is_four(digits: Digits, experiment: str) -> None:
    judged = aifsm.Verification(digits.images[:50], epsilon=1e-12, reason="exact")
    how = {"verification": judged, "verified_model": "digits_1"}
    frozen = aifsm.freeze(digits.model, digits.example, aifsm.Onnx(dynamic_shapes="batch"), **how)
    assert_open(frozen.run_id, 4, "FAILED: largest difference")


def test_a_log_that_failed_is_four_and_not_broken(complete: Logged, experiment: str) -> None:
    with suppress(ValueError), aifsm.record_conversion(verified_model="detector_4") as log:
        log.output(complete.frozen.path)
        raise ValueError("power cut")
    run_id = log.place.run_id
    assert_open(run_id, 4, "nothing was delivered: the operation failed")
    outcome = command("check", run_id)
    assert ("BROKEN" in outcome.out, "ValueError: power cut" in outcome.out) == (False, True)


def test_the_exit_code_of_a_file_is_that_of_its_own_log(complete: Logged, experiment: str) -> None:
    with mlflow.start_run() as run:
        aifsm.freeze(complete.frozen.path, verified_model="detector_4", responsible="A. Ito")
        with aifsm.record_optimization(verified_model="detector_4", responsible="root") as log:
            log.output(complete.int8.path)
    file = str(complete.frozen.path)
    assert log.finished.run_id == run.info.run_id
    assert "responsible_is_account" in command("check", run.info.run_id).out
    outcome = command("check", file, "--json")
    assert [found["log"] for found in json.loads(outcome.out)] == ["conversion"]
    assert "responsible_is_account" not in outcome.out
    assert command("check", file, "--log", "optimization").err.startswith(f"mlflow-aifsm: {file} has no optimization log")


def test_a_folder_whose_run_has_another_log_only_is_told_so(logged: Logged, complete: Logged, tmp_path: Path) -> None:
    model = Path(mlflow.artifacts.download_artifacts(logged.frozen.model_uri, dst_path=str(tmp_path / "model")))
    other = mlflow.MlflowClient().search_runs([mlflow.get_run(logged.run_id).info.experiment_id])
    plain = next(run.info.run_id for run in other if "aifsm.conversion.log_id" not in run.data.tags)
    record = model / "aifsm" / "record.json"
    record.write_bytes(record.read_bytes().replace(logged.run_id.encode(), plain.encode()))
    outcome = command("check", str(model))
    assert (outcome.code, "None" in outcome.err) == (1, False)
    assert f"run {plain} holds no log" in outcome.err


@pytest.mark.parametrize("target", ["model.onnx", "out/model", "log.html", "deployed.pt2"])
def test_a_mistyped_path_is_called_a_file_that_is_not_there(logged: Logged, target: str) -> None:
    outcome = command("check", target)
    assert (outcome.code, len(outcome.err.splitlines())) == (1, 1)
    assert outcome.err.startswith(f"mlflow-aifsm: there is no file or folder {target};")


def test_a_model_that_does_not_exist_names_no_command_that_does_not_exist_either(logged: Logged) -> None:
    outcome = command("check", "models:/nothing-of-that-name/1")
    assert outcome.code == 1
    assert "the Models page of the UI" in outcome.err
    assert "mlflow models" not in outcome.err


def test_reading_leaves_no_database_behind(logged: Logged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copyfile(logged.frozen.path, tmp_path / "model.onnx")
    nowhere = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", nowhere)
    mlflow.set_tracking_uri(nowhere)
    for target in (logged.run_id, logged.frozen.version_uri, logged.frozen.model_uri, "model.onnx"):
        assert "there is no database" in command("check", target).err, target
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


class OneByOne(mlflow.MlflowClient):
    """A client of a store that answers with one thing a page."""

    def search_experiments(self, **asked: Any) -> Any:
        return super().search_experiments(**asked | {"max_results": 1})

    def search_runs(self, *asked: Any, **more: Any) -> Any:
        return super().search_runs(*asked, **more | {"max_results": 1})


def test_the_newest_whole_log_is_found_behind_failed_retries_and_many_pages(
    complete: Logged, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "client", OneByOne)
    whole = small_log(complete.int8.path, log_id="retried-1")
    for _ in range(6):
        with pytest.raises(ValueError, match="again"), aifsm.record_conversion(log_id="retried-1") as log:
            raise ValueError("again")
    assert read.latest_by_log_id("conversion", "retried-1")[0] == whole
    assert read.latest_by_log_id("conversion", "retried-2") is None
    mlflow.create_experiment(f"{experiment} and a newer one")
    assert log.place.run_id != whole
    assert read.run_by_output(aifsm.load_record(whole).output_sha256) == whole
