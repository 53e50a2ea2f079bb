"""Calls in whose midst something else ends: the recording is interrupted, the run is gone, the server or the disk refuses."""

from __future__ import annotations

import asyncio
import errno
import logging
import traceback
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import mlflow
import pytest

from mlflow_aifsm import scratch
from mlflow_aifsm.autologging import wrapping
from mlflow_aifsm.autologging.call import Call
from mlflow_aifsm.autologging.table import Row
from mlflow_aifsm.hooks.inside import inside
from mlflow_aifsm.recording import Recording
from tests.autolog.recorded import children, recording, the_log

pytestmark = pytest.mark.usefixtures("experiment")


def recorder(log: Recording, _: Call) -> Iterator[None]:
    log.note("before")
    yield
    log.note("after")


def interrupted_before(_: Recording, __: Call) -> Iterator[None]:
    raise KeyboardInterrupt("while it looked at what went in")
    yield


def interrupted_after(_: Recording, __: Call) -> Iterator[None]:
    yield
    raise KeyboardInterrupt("while it measured")


def work(value: Any) -> Any:
    if isinstance(value, BaseException):
        raise value
    return value() if callable(value) else value


def wrapped(name: str = "recorder") -> Any:
    return wrapping.wrapped(Row(__name__, "work", "optimization", f"{__name__}:{name}"), work)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name.startswith("mlflow_aifsm")]


@pytest.mark.parametrize(
    "error", [StopIteration(1), GeneratorExit(), SystemExit(3), asyncio.CancelledError(), KeyboardInterrupt()], ids=repr
)
def test_any_exception_goes_on_with_its_traceback_and_without_one_of_ours_behind_it(error: BaseException) -> None:
    with recording(), mlflow.start_run() as run, pytest.raises(type(error)) as raised:
        wrapped()(error)
    assert raised.value is error
    assert (error.__context__, error.__cause__, getattr(error, "__notes__", None)) == (None, None, None)
    assert traceback.extract_tb(error.__traceback__)[-1].name == "work"
    assert the_log(run.info.run_id).failure.startswith(type(error).__name__)


@pytest.mark.parametrize("name", ["interrupted_before", "interrupted_after"])
def test_a_recording_that_a_person_interrupts_is_closed_as_failed(name: str, experiment: str) -> None:
    with recording(create_run=True, strict=False), pytest.raises(KeyboardInterrupt):
        wrapped(name)("given")
    assert not inside()
    assert mlflow.active_run() is None
    (run,) = mlflow.MlflowClient().search_runs([experiment])
    assert run.info.status == "FAILED"
    assert the_log(run.info.run_id).failure.startswith("KeyboardInterrupt: while it ")


def test_a_run_that_the_call_ends_holds_the_log_and_stays_ended() -> None:
    with recording():
        run = mlflow.start_run()
        wrapped()(mlflow.end_run)
    assert the_log(run.info.run_id).notes[:2] == ("before", "after")
    assert mlflow.get_run(run.info.run_id).info.status == "FINISHED"


def test_a_run_that_the_call_deletes_costs_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with recording(strict=False), caplog.at_level(logging.WARNING):
        run = mlflow.start_run()
        wrapped()(lambda: (mlflow.end_run(), mlflow.delete_run(run.info.run_id)))
    (told,) = warnings(caplog)
    assert "the record is kept in" in told


def test_a_run_that_the_call_nests_is_left_to_it() -> None:
    def nested() -> str:
        with mlflow.start_run(nested=True) as child:
            return str(child.info.run_id)

    with recording(), mlflow.start_run() as run:
        child = wrapped()(nested)
        assert mlflow.active_run().info.run_id == run.info.run_id
    assert children(run.info.run_id) == [child]
    assert "aifsm.optimization.log_id" in mlflow.get_run(run.info.run_id).data.tags


@pytest.mark.parametrize("raises", [False, True])
def test_a_server_that_goes_during_the_call_costs_one_warning(raises: bool, caplog: pytest.LogCaptureFixture) -> None:
    known = mlflow.get_tracking_uri()

    def meanwhile() -> None:
        mlflow.set_tracking_uri("http://127.0.0.1:9")
        work(ValueError("mine") if raises else None)

    expected = pytest.raises(ValueError, match="mine") if raises else nullcontext()
    with recording(strict=False), mlflow.start_run(), caplog.at_level(logging.WARNING):
        with expected:
            wrapped()(meanwhile)
        mlflow.set_tracking_uri(known)
    (told,) = warnings(caplog)
    assert "no server answers" in told


def test_a_full_disk_costs_one_warning(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    with recording(strict=False), mlflow.start_run(), caplog.at_level(logging.WARNING):
        monkeypatch.setattr(scratch, "folder", full)
        assert wrapped()("given") == "given"
    (told,) = warnings(caplog)
    assert "No space left on device" in told


def test_settings_that_cannot_be_read_cost_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    Path("aifsm.toml").write_text("verified_model = [")
    with recording(strict=False), mlflow.start_run(), caplog.at_level(logging.WARNING):
        assert wrapped()("given") == "given"
    (told,) = warnings(caplog)
    assert "is not TOML" in told
