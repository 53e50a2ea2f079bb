"""What breaks while a log is begun or written, at each step: no run stays open, no file is lost, no version pretends.

MLflow cannot be made to fail at one chosen request, so that single calls are replaced by ones that raise.
"""

from __future__ import annotations

import io
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import mlflow
import pytest
from mlflow import MlflowClient

import mlflow_aifsm as aifsm
from mlflow_aifsm import opening, recording
from mlflow_aifsm.errors import InputError, TrackingError
from mlflow_aifsm.record import Record
from mlflow_aifsm.tracking import write
from tests.tracking.test_failures import small_file, whole

pytestmark = pytest.mark.usefixtures("experiment")


def breaking(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, error: BaseException) -> None:
    def broken(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(module, name, broken)


def logged(file: Path, **where: str) -> recording.Recording:
    with aifsm.record_conversion(verified_model="detector_4", log_id="MC-1", **where) as log:
        log.output(file)
    return log


def only_run(experiment: str) -> Any:
    (run,) = MlflowClient().search_runs([experiment])
    return run


def test_nothing_is_registered_before_the_evidence_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    breaking(monkeypatch, write, "artifacts", TrackingError("no artifacts"))
    with pytest.raises(TrackingError, match="no artifacts"):
        logged(small_file(tmp_path), registered_model_name="early")
    assert not MlflowClient().search_model_versions("name = 'early'")


def test_a_version_whose_run_cannot_be_concluded_says_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    breaking(monkeypatch, write, "conclusion", TrackingError("no tags"))
    with pytest.raises(TrackingError, match="no tags"):
        logged(small_file(tmp_path), registered_model_name="late")
    (version,) = MlflowClient().search_model_versions("name = 'late'")
    assert version.tags["aifsm.conversion.status"] == "failed"


def test_an_interrupt_while_writing_keeps_the_log_ends_the_run_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: str, caplog: pytest.LogCaptureFixture
) -> None:
    breaking(monkeypatch, write, "artifacts", KeyboardInterrupt())
    file = small_file(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        logged(file)
    assert whole(tmp_path / "aifsm-spool" / "MC-1", file).log_id == "MC-1"
    assert only_run(experiment).info.status == "FAILED"
    assert mlflow.active_run() is None
    assert str(tmp_path / "aifsm-spool" / "MC-1") in caplog.text


def test_a_body_that_raises_after_its_output_keeps_the_delivered_file(
    tmp_path: Path, experiment: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = small_file(tmp_path)
    with pytest.raises(ZeroDivisionError), aifsm.record_conversion(verified_model="detector_4", log_id="MC-1") as log:
        _ = 1 / (log.output(file) is None)
    place = tmp_path / "aifsm-spool" / "MC-1"
    assert (place / "model" / file.name).read_bytes() == file.read_bytes()
    (line,) = [entry.getMessage() for entry in caplog.records if "is kept in" in entry.getMessage()]
    assert str(place) in line
    run = only_run(experiment)
    assert (run.info.status, run.data.tags["aifsm.conversion.status"]) == ("FAILED", "failed")
    assert aifsm.load_record(run.info.run_id).failure == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("name", ["source_code", "Recording", "_input"])
def test_a_log_that_cannot_be_begun_leaves_no_run_open(name: str, monkeypatch: pytest.MonkeyPatch, experiment: str) -> None:
    breaking(monkeypatch, opening, name, RuntimeError("not begun"))
    with pytest.raises(RuntimeError, match="not begun"), aifsm.record_conversion(verified_model="detector_4"):
        pass
    assert only_run(experiment).info.status == "FAILED"
    assert mlflow.active_run() is None


def test_a_record_that_cannot_be_made_keeps_the_delivered_file_and_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: str, caplog: pytest.LogCaptureFixture
) -> None:
    breaking(monkeypatch, recording, "fill", RuntimeError("cannot fill"))
    file = small_file(tmp_path)
    with pytest.raises(RuntimeError, match="cannot fill"):
        logged(file)
    assert (tmp_path / "aifsm-spool" / "MC-1" / "model" / file.name).read_bytes() == file.read_bytes()
    assert only_run(experiment).info.status == "FAILED"
    assert "log MC-1 has no record: RuntimeError: cannot fill" in caplog.text


def test_a_terminal_that_cannot_show_a_letter_does_not_fail_a_log_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_AIFSM_QUIET")
    terminal = io.TextIOWrapper(io.BytesIO(), "ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", terminal)
    log = logged(small_file(tmp_path))
    assert "·" in str(log.finished)
    assert b"MC-1" in terminal.buffer.getvalue()  # type: ignore[attr-defined]
    terminal.buffer.close()
    assert logged(small_file(tmp_path)).finished.model_uri


def test_a_derived_id_is_a_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    breaking(monkeypatch, write, "artifacts", TrackingError("no artifacts"))
    with pytest.raises(TrackingError), aifsm.record_conversion(verified_model="det/x ä_1") as log:
        log.output(small_file(tmp_path))
    assert log.log_id == f"det-x--_1-MC-{log.place.run_id[:8]}"
    assert Record.from_json((tmp_path / "aifsm-spool" / log.log_id / "record.json").read_bytes()).log_id == log.log_id


def claims(run_id: str) -> list[str]:
    return [key for key in mlflow.get_run(run_id).data.tags if ".claim" in key]


def test_of_two_that_claim_a_run_one_takes_it_and_no_claim_stays(experiment: str) -> None:
    run_id = MlflowClient().create_run(experiment).info.run_id
    assert [write.claim("conversion", run_id, name) for name in ("first", "second")] == [True, False]
    assert mlflow.get_run(run_id).data.tags["aifsm.conversion.log_id"] == "first"
    assert write.claim("optimization", run_id, "third")
    assert not claims(run_id)


def test_of_many_that_claim_a_run_at_once_at_most_one_takes_it(experiment: str) -> None:
    run_id = MlflowClient().create_run(experiment).info.run_id
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda name: write.claim("conversion", run_id, name), "abcd"))
    holder = mlflow.get_run(run_id).data.tags.get("aifsm.conversion.log_id")
    assert [name for name, free in zip("abcd", taken, strict=True) if free] == ([holder] if holder else [])
    assert not claims(run_id)


def test_a_run_that_another_process_is_claiming_is_left_to_it(tmp_path: Path, experiment: str) -> None:
    run_id = MlflowClient().create_run(experiment, tags={"aifsm.conversion.claim.0a1b": "theirs"}).info.run_id
    with pytest.raises(InputError, match="holds a conversion log already; pass nested=True"):
        opening.opened("conversion", None, run_id=run_id, nested=False)
    log = logged(small_file(tmp_path), run_id=run_id)
    assert log.place.parent == run_id
    assert mlflow.get_run(log.place.run_id).info.status == "FINISHED"
    assert "aifsm.conversion.log_id" not in mlflow.get_run(run_id).data.tags
    assert claims(run_id) == ["aifsm.conversion.claim.0a1b"]
