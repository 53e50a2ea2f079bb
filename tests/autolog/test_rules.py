"""What a recorded call owes its caller: its result, its exception, one log, and nothing at all outside a run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import mlflow
import nncf
import numpy as np
import onnx
import pytest

import mlflow_aifsm as aifsm
from mlflow_aifsm.autologging import wrapping
from mlflow_aifsm.autologging.call import Call
from mlflow_aifsm.autologging.table import Row
from mlflow_aifsm.errors import AifsmError, InputError
from mlflow_aifsm.hooks.inside import inside
from mlflow_aifsm.recording import Recording
from tests.autolog.recorded import children, fed, graph, images, recording, the_log
from tests.models import Digits
from tests.operations.quantized_models import small

pytestmark = pytest.mark.usefixtures("experiment")


def recorder(log: Recording, call: Call) -> Iterator[None]:
    """Records as little as can be."""
    log.note(f"called with {call.arguments['value']}")
    yield
    log.note(f"returned {type(call.result).__name__}")


def failing_before(log: Recording, call: Call) -> Iterator[None]:
    call.hand_over("value", "another")
    raise InputError(f"log {log.log_id}: the argument cannot be read")
    yield


def failing_after(log: Recording, call: Call) -> Iterator[None]:
    yield
    raise InputError(f"log {log.log_id}: the result of {call.function} cannot be read")


def work(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value() if callable(value) else value


def wrapped(name: str = "recorder") -> Any:
    return wrapping.wrapped(Row(__name__, "work", "optimization", f"{__name__}:{name}"), work)


def test_the_result_is_the_same_object() -> None:
    result = object()
    with recording(), mlflow.start_run() as run:
        assert wrapped()(value=result) is result
    assert the_log(run.info.run_id).notes[:2] == ("called with " + str(result), "returned object")


def test_an_exception_goes_on_and_the_log_has_failed() -> None:
    error = KeyError("mine")
    with recording(), mlflow.start_run() as run:
        with pytest.raises(KeyError) as raised:
            wrapped()(error)
        assert raised.value is error
    record = the_log(run.info.run_id)
    assert record.failure == "KeyError: 'mine'"
    assert record.entries["aifsm.ptq.additional"].value.data["arguments"] == {"value": "KeyError"}
    assert mlflow.get_run(run.info.run_id).data.tags["aifsm.optimization.status"] == "failed"


def test_a_call_that_does_not_fit_raises_what_it_raises_without() -> None:
    with pytest.raises(TypeError) as bare:
        work(1, 2)  # type: ignore[call-arg]
    with recording(strict=False), mlflow.start_run(), pytest.raises(TypeError) as seen:
        wrapped()(1, 2)
    assert str(seen.value) == str(bare.value)


@pytest.mark.parametrize("name", ["failing_before", "failing_after"])
def test_a_failure_of_ours_is_one_warning(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with recording(strict=False), mlflow.start_run() as run, caplog.at_level(logging.WARNING):
        assert wrapped(name)("given") == "given"
    told = [one for one in caplog.records if one.name.startswith("mlflow_aifsm")]
    assert [(one.name, one.levelname) for one in told] == [("mlflow_aifsm.autologging", "WARNING")]
    assert "cannot be read" in told[0].getMessage()
    assert "cannot be read" in the_log(run.info.run_id).failure


@pytest.mark.parametrize("name", ["failing_before", "failing_after"])
def test_strict_raises_it(name: str) -> None:
    with recording(strict=True), mlflow.start_run(), pytest.raises(AifsmError, match="cannot be read"):
        wrapped(name)("given")


def test_a_server_that_is_gone_costs_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    known = mlflow.get_tracking_uri()
    with recording(strict=False), mlflow.start_run(), caplog.at_level(logging.WARNING):
        mlflow.set_tracking_uri("http://127.0.0.1:9")
        assert wrapped()("given") == "given"
        mlflow.set_tracking_uri(known)
    (told,) = [one for one in caplog.records if one.name.startswith("mlflow_aifsm")]
    assert "no server answers" in told.getMessage()


def test_nothing_is_logged_without_a_run(experiment: str) -> None:
    with recording():
        assert wrapped("failing_before")("given") == "given"
    assert not mlflow.MlflowClient().search_runs([experiment])


def test_a_run_is_made_where_that_is_wanted(experiment: str) -> None:
    with recording(create_run=True):
        wrapped()("given")
    (run,) = mlflow.MlflowClient().search_runs([experiment])
    assert run.info.status == "FINISHED"
    assert the_log(run.info.run_id).notes[0] == "called with given"


def test_calls_on_the_way_of_a_call_belong_to_its_log() -> None:
    inner = wrapped()
    with recording(), mlflow.start_run() as run:
        wrapped()(lambda: inner("inner"))
    assert not any("inner" in note for note in the_log(run.info.run_id).notes)


def test_a_thread_that_a_call_starts_logs_nothing(experiment: str) -> None:
    inner = wrapped()

    def in_thread() -> None:
        thread = threading.Thread(target=inner, args=("inner",))
        thread.start()
        thread.join()

    with recording(), mlflow.start_run():
        wrapped()(in_thread)
    assert len(mlflow.MlflowClient().search_runs([experiment])) == 1


def test_threads_with_runs_of_their_own_have_logs_of_their_own() -> None:
    runs: list[str] = []

    def in_thread() -> None:
        with mlflow.start_run() as run:
            wrapped()("given")
        runs.append(run.info.run_id)

    with recording():
        threads = [threading.Thread(target=in_thread) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({the_log(run).log_id for run in runs}) == 3


def test_threads_without_runs_get_one_each_where_that_is_wanted(experiment: str) -> None:
    with recording(create_run=True):
        threads = [threading.Thread(target=wrapped(), args=(f"thread {number}",)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    runs = mlflow.MlflowClient().search_runs([experiment])
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    notes = {the_log(run.info.run_id).notes[0] for run in runs}
    assert notes == {f"called with thread {number}" for number in range(3)}
    assert mlflow.active_run() is None


def test_a_thread_with_a_log_open_does_not_hide_the_calls_of_another(experiment: str) -> None:
    inner, told = wrapped(), threading.Event()

    def beside() -> None:
        inner("beside")
        told.set()

    def work_meanwhile() -> str:
        thread = threading.Thread(target=beside)
        thread.start()
        assert told.wait(60)
        thread.join()
        inner("on the way")
        return "done"

    with recording(create_run=True):
        assert wrapped()(work_meanwhile) == "done"
    notes = [the_log(run.info.run_id).notes[0] for run in mlflow.MlflowClient().search_runs([experiment])]
    assert len(notes) == 2
    assert "called with beside" in notes


def test_a_second_call_opens_a_nested_run() -> None:
    with recording(), mlflow.start_run() as run:
        wrapped()("first")
        wrapped()("second")
    assert len(children(run.info.run_id)) == 1


def test_a_recording_that_is_open_holds_the_calls_in_its_body() -> None:
    with recording(), mlflow.start_run() as run, aifsm.record_conversion(converter="mine"):
        assert inside()
        wrapped()("given")
    assert not inside()
    assert "aifsm.optimization.log_id" not in mlflow.get_run(run.info.run_id).data.tags


def test_verbs_make_the_one_log_they_make_without() -> None:
    config = aifsm.NNCF(subset_size=8)
    with recording(), mlflow.start_run() as run:
        made = aifsm.quantize(str(small().path), small().images[:8], config, verified_model="digits_1")
    assert the_log(run.info.run_id).log_id == made.log_id


def test_a_freeze_makes_the_one_log_it_makes_without(digits: Digits) -> None:
    with recording(), mlflow.start_run() as run:
        made = aifsm.freeze(digits.model, digits.example)
    assert the_log(run.info.run_id, "conversion").log_id == made.log_id
    assert mlflow.get_run(run.info.run_id).data.tags["aifsm.conversion.log_id"] == made.log_id


def test_what_this_package_calls_before_its_log_is_open_makes_none(experiment: str) -> None:
    own = {"__name__": "mlflow_aifsm.operations.somewhere", "call": wrapped(), "inner": wrapped()}
    with recording(), mlflow.start_run() as run:
        assert eval("call(lambda: inner('given'))", own) == "given"
    assert "aifsm.optimization.log_id" not in mlflow.get_run(run.info.run_id).data.tags


def test_accuracy_control_makes_one_log_and_the_function_is_named() -> None:
    data = nncf.Dataset(images(12), fed)

    def worth(_: onnx.ModelProto, items: Any) -> tuple[float, None]:
        list(items)
        return 1.0, None

    with recording(), mlflow.start_run() as run:
        nncf.quantize_with_accuracy_control(graph(), data, data, worth, subset_size=12)
    record = the_log(run.info.run_id)
    assert record.entries["aifsm.ptq.additional"].value.data["function"] == "nncf.quantize_with_accuracy_control"
    assert "12 of 12 samples" in record.entries["aifsm.calibration.method"].value.text


@pytest.mark.parametrize("on", [False, True])
def test_a_script_that_raises_inside_a_quantizer_raises_the_same_with_and_without(on: bool) -> None:
    error = ZeroDivisionError("in the transform function")

    def transform(_: np.ndarray) -> Any:
        raise error

    def script() -> None:
        with mlflow.start_run() as run:
            ids.append(run.info.run_id)
            nncf.quantize(graph(), nncf.Dataset(images(4), transform), subset_size=4)

    ids: list[str] = []
    with recording(strict=False) if on else threading.Lock(), pytest.raises(ZeroDivisionError) as raised:
        script()
    assert raised.value is error
    tags = mlflow.get_run(ids[0]).data.tags
    assert tags.get("aifsm.optimization.status") == ("failed" if on else None)
