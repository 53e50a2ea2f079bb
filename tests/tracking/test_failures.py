"""What goes wrong around a log: each error is one line that says what to do, and what was made is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import onnx
import pytest
from mlflow import MlflowClient

import mlflow_aifsm as aifsm
from mlflow_aifsm.digests import sha256_file
from mlflow_aifsm.errors import AifsmError, ConversionError, NotFoundError, TrackingError
from mlflow_aifsm.record import Record
from mlflow_aifsm.recording import Recording
from tests.command import Outcome, command
from tests.conftest import REPOSITORY
from tests.models import Digits
from tests.server import Server, free_port, serving


def one_line(outcome: Outcome, *words: str) -> None:
    assert outcome.code == 1
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith("mlflow-aifsm: ")
    assert all(word in line for word in words), line


def small_file(folder: Path) -> Path:
    """A one-node model; what it computes does not matter here."""
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 2])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "small", [value], [result])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10), folder / "small.onnx"
    )
    return folder / "small.onnx"


def kept(error: AifsmError) -> Path:
    """The folder that the message names."""
    assert "\n" not in str(error)
    return Path(str(error).partition("are kept in ")[2].partition(";")[0].rstrip("."))


def whole(folder: Path, file: Path) -> Record:
    """Asserts that ``folder`` holds a complete log with ``file`` beside it; its record."""
    record = Record.from_json((folder / "record.json").read_bytes())
    listed = {entry["path"]: entry["sha256"] for entry in json.loads((folder / "manifest.json").read_text("utf-8"))}
    assert listed["record.json"] == record.sha256
    assert record.log_id in (folder / "report.html").read_text("utf-8")
    assert sha256_file(folder / "model" / file.name) == record.output_sha256
    return record


@pytest.mark.parametrize("verb", ["report", "check"])
def test_an_unknown_run_is_one_line(verb: str, experiment: str) -> None:
    one_line(command(verb, "0a1b2c3d"), "run 0a1b2c3d does not exist", "mlflow")


def test_a_run_without_a_log_says_how_to_make_one(experiment: str) -> None:
    with mlflow.start_run() as run:
        pass
    one_line(command("report", run.info.run_id), f"run {run.info.run_id} holds no log", "mlflow_aifsm.freeze")


@pytest.mark.parametrize(
    "uri", ["models:/nothing/1", "models:/nothing@champion", "models:/nothing/latest", "models:/m-0a1b", "runs:/0a1b/model"]
)
def test_a_model_that_does_not_exist_is_named(uri: str, experiment: str) -> None:
    with pytest.raises(NotFoundError, match="does not exist") as caught:
        aifsm.freeze(uri)
    assert uri.split("/")[1].split("@")[0] in str(caught.value)
    assert not MlflowClient().search_runs([experiment])
    one_line(command("report", uri), "does not exist")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder for a test that speaks to a server of its own."""
    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    yield tmp_path
    mlflow.set_tracking_uri(before)


def test_a_server_that_is_not_there_is_said_within_seconds_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, elsewhere: Path
) -> None:
    uri = f"http://user:secret@127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    began = time.monotonic()
    for target in ("0a1b2c3d", "runs:/0a1b/model", "models:/digits/1", str(small_file(elsewhere))):
        outcome = command("report", target)
        one_line(outcome, "no server answers at http://127.0.0.1", "set MLFLOW_TRACKING_URI")
        assert "secret" not in outcome.err
    assert time.monotonic() - began < 20


def test_without_a_server_freeze_fails_before_any_work(elsewhere: Path, digits: Digits) -> None:
    mlflow.set_tracking_uri(f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    with pytest.raises(TrackingError, match=r"no server answers at .*; start it"):
        aifsm.freeze(digits.model, digits.example)
    assert time.monotonic() - began < 20
    assert not list(elsewhere.iterdir())


def delivered_too_late(log: Recording, file: Path, server: Server) -> None:
    log.output(file)
    server.kill()


@pytest.mark.slow
def test_a_server_that_dies_before_the_log_is_written_leaves_it_in_the_spool(
    monkeypatch: pytest.MonkeyPatch, elsewhere: Path
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    file = small_file(elsewhere)
    with serving(elsewhere) as server:
        mlflow.set_tracking_uri(server.uri)
        run = MlflowClient().create_run("0")
        place = {"verified_model": "detector_4", "run_id": run.info.run_id}
        with pytest.raises(TrackingError, match="no server") as caught, aifsm.record_conversion(**place) as log:
            delivered_too_late(log, file, server)
    assert kept(caught.value) == elsewhere / "aifsm-spool" / log.log_id
    assert whole(kept(caught.value), file).run_id == run.info.run_id


@pytest.mark.usefixtures("experiment")
def test_a_log_that_mlflow_refuses_is_kept_and_its_run_is_ended_as_failed(tmp_path: Path) -> None:
    file = small_file(tmp_path)
    (tmp_path / "artifacts").write_text("a file where MLflow wants a folder", "utf-8")
    with pytest.raises(TrackingError) as caught, aifsm.record_conversion(verified_model="detector_4") as log:
        log.output(file)
    assert whole(kept(caught.value), file).log_id == log.log_id
    assert mlflow.active_run() is None
    run = mlflow.get_run(log.place.run_id)
    assert (run.info.status, run.data.tags["aifsm.conversion.status"]) == ("FAILED", "failed")


BODY = """
import os, signal, sys
import mlflow_aifsm as aifsm
with aifsm.record_conversion(verified_model="detector_4", run_id=sys.argv[1]):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.usefixtures("experiment")
def test_a_killed_process_leaves_failed_behind_and_report_and_check_say_so(tmp_path: Path) -> None:
    with mlflow.start_run() as run:
        pass
    arguments = [sys.executable, "-c", BODY, run.info.run_id]
    done = subprocess.run(arguments, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert mlflow.get_run(run.info.run_id).data.tags["aifsm.conversion.status"] == "failed"
    for verb in ("report", "check"):
        one_line(command(verb, run.info.run_id), "was begun and never finished", "run it again")


@pytest.mark.usefixtures("experiment")
def test_an_interrupt_in_the_body_is_logged_as_failed_and_goes_on() -> None:
    with pytest.raises(KeyboardInterrupt), aifsm.record_conversion(verified_model="detector_4") as log:
        raise KeyboardInterrupt
    run = mlflow.get_run(log.place.run_id)
    assert (run.info.status, run.data.tags["aifsm.conversion.status"]) == ("FAILED", "failed")
    assert aifsm.load_record(run.info.run_id).failure == "KeyboardInterrupt"
    assert mlflow.active_run() is None
    outcome = command("check", run.info.run_id)
    assert outcome.code == 4
    assert "KeyboardInterrupt" in outcome.out


WORK = """
import sys
import numpy as np
import mlflow_aifsm as aifsm
images = np.random.default_rng(0).random((8, 1, 8, 8), np.float32)
data, asked = aifsm.Data(images, name="shared"), aifsm.NNCF(subset_size=8)
aifsm.quantize(sys.argv[2], data, asked, verified_model="digits_1", run_id=sys.argv[1])
"""


@pytest.mark.slow
def test_two_processes_quantize_at_once_into_runs_of_one_database(experiment: str, digits: Digits) -> None:
    frozen = aifsm.freeze(digits.model, digits.example, aifsm.Onnx(dynamic_shapes="batch"), verified_model="digits_1")
    ids = [MlflowClient().create_run(experiment).info.run_id for _ in range(2)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    works = [
        subprocess.Popen([sys.executable, "-c", WORK, run_id, str(frozen.path)], env=environment, stderr=subprocess.PIPE)
        for run_id in ids
    ]
    endings = [(work.communicate()[1].decode(), work.returncode) for work in works]
    assert [code for _, code in endings] == [0, 0], endings
    for run_id in ids:
        assert command("check", run_id).code in (0, 3, 4)
        assert aifsm.load_record(run_id).run_id == run_id


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 kB, mounted for the test."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs a privileged account")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.usefixtures("experiment")
def test_a_full_disk_under_the_frozen_file_is_said_and_logged(
    full_disk: Path, monkeypatch: pytest.MonkeyPatch, digits: Digits
) -> None:
    (full_disk / "filler").write_bytes(bytes(250_000))
    monkeypatch.setattr("tempfile.tempdir", str(full_disk))
    words = r"the frozen file cannot be written: .*space.*; free disk space, or set TMPDIR"
    with mlflow.start_run() as run, pytest.raises(ConversionError, match=words):
        aifsm.freeze(digits.model, digits.example, verified_model="digits_1")
    assert mlflow.get_run(run.info.run_id).data.tags["aifsm.conversion.status"] == "failed"


@pytest.mark.usefixtures("experiment")
@pytest.mark.parametrize("spool_is_full", [False, True])
def test_a_full_disk_under_the_artifacts_leaves_the_log_and_says_where(
    full_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spool_is_full: bool
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    if spool_is_full:
        monkeypatch.setenv("MLFLOW_AIFSM_SPOOL", str(full_disk / "spool"))
    made = mlflow.create_experiment(f"{tmp_path} full", artifact_location=(full_disk / "artifacts").as_uri())
    run = MlflowClient().create_run(made)
    (full_disk / "filler").write_bytes(bytes(250_000))
    file = small_file(tmp_path)
    place = {"verified_model": "detector_4", "run_id": run.info.run_id}
    with pytest.raises(TrackingError, match="free disk space") as caught, aifsm.record_conversion(**place) as log:
        log.output(file)
    assert kept(caught.value).is_relative_to(tmp_path / ("temporary" if spool_is_full else "aifsm-spool"))
    assert not list(full_disk.glob("spool/*"))
    assert whole(kept(caught.value), file).log_id == log.log_id
