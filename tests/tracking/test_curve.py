"""Stepped metrics: points of a curve in the run, under our keys, and a server that fails costs a warning."""

from __future__ import annotations

import logging

import mlflow
import pytest

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.tracking.curve import Point, log_curve, log_point


def test_points_stand_in_the_run_by_step(experiment: str) -> None:
    with mlflow.start_run() as run:
        pass
    assert log_curve(run.info.run_id, [Point("aifsm.a", 0.5, 1), Point("aifsm.a", 0.25, 2), Point("aifsm.b", 7, 2)])
    assert log_point(run.info.run_id, "aifsm.a", 0.125, 3)
    client = mlflow.MlflowClient()
    history = client.get_metric_history(run.info.run_id, "aifsm.a")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.25), (3, 0.125)]
    assert client.get_run(run.info.run_id).data.metrics["aifsm.b"] == 7


def test_more_points_than_one_request_takes_are_all_logged(experiment: str) -> None:
    with mlflow.start_run() as run:
        pass
    assert log_curve(run.info.run_id, [Point("aifsm.many", step, step) for step in range(1100)])
    assert len(mlflow.MlflowClient().get_metric_history(run.info.run_id, "aifsm.many")) == 1100


@pytest.mark.parametrize(("key", "value"), [("loss", 1.0), ("aifsm.a", "0.5"), ("aifsm.a", True)])
def test_another_key_and_what_is_no_number_are_refused(experiment: str, key: str, value: object) -> None:
    with pytest.raises(InputError):
        log_point("whatever", key, value, 1)


def test_a_run_that_is_not_there_costs_one_warning_and_no_error(experiment: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert not log_point("0" * 32, "aifsm.a", 1.0, 1)
        assert not log_point("0" * 32, "aifsm.a", 1.0, 2)
    assert [record.message.startswith("stepped metrics are kept in the record only") for record in caplog.records] == [True]
