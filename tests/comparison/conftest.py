"""Real logs that the tests of this folder read and do not change: a conversion and three optimizations of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest

import mlflow_aifsm as aifsm
from tests.conftest import copied
from tests.models import Digits

EXPERIMENT = "digits"


@dataclass(frozen=True)
class Logged:
    """A database of its own with one experiment, in the order of the runs; the first run holds two logs."""

    database: Path
    frozen: aifsm.Result
    first: aifsm.Result
    layerwise: aifsm.Result
    dynamic: aifsm.Result
    failed: str
    plain: str

    @property
    def results(self) -> tuple[aifsm.Result, ...]:
        """The logs that were finished."""
        return (self.frozen, self.first, self.layerwise, self.dynamic)


@pytest.fixture(scope="session")
def made(migrated: Path, digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Logged:
    folder, patch = tmp_path_factory.mktemp("compared"), pytest.MonkeyPatch()
    with patch.context() as context:
        context.chdir(folder)
        context.setenv("MLFLOW_AIFSM_RESPONSIBLE", "A. Ito")
        mlflow.set_tracking_uri(copied(migrated, folder))
        mlflow.set_experiment(EXPERIMENT)
        judged = aifsm.Verification(aifsm.Data(digits.images[:200], name="held out"), digits.labels[:200], latency=True)
        seen = aifsm.Verification(aifsm.Data(digits.images[:200], name="held out"), digits.labels[:200])
        with mlflow.start_run(run_name="float"):
            mlflow.log_metric("aifsm-like", 1.0)
            how = {"verified_model": "digits_1", "verification": seen, "registered_model_name": "frozen"}
            frozen = aifsm.freeze(digits.model, digits.example, aifsm.Onnx(dynamic_shapes="batch"), **how)
            first = aifsm.quantize(
                frozen, digits.images[:32], aifsm.Static(subset_size=32), verification=judged, registered_model_name="int8"
            )
        by_layer, named = (
            aifsm.Static(subset_size=32, granularity="layer"),
            {"verification": judged, "registered_model_name": "int8"},
        )
        with mlflow.start_run(run_name="layerwise"):
            layerwise = aifsm.quantize(frozen, digits.images[:32], by_layer, **named)
        with mlflow.start_run(run_name="dynamic"):
            dynamic = aifsm.quantize(frozen, None, aifsm.Dynamic(), verification=judged)
        with mlflow.start_run(run_name="broken") as failed, pytest.raises(ZeroDivisionError), aifsm.record_optimization():
            _ = 1 / 0
        with mlflow.start_run(run_name="training") as plain:
            mlflow.log_param("learning rate", 0.1)
    return Logged(folder / "mlflow.db", frozen, first, layerwise, dynamic, failed.info.run_id, plain.info.run_id)


@pytest.fixture
def logged(made: Logged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Logged]:
    """The logs, read from an empty working folder."""
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{made.database}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(EXPERIMENT)
    yield made
    assert not os.environ.get("MLFLOW_RUN_ID")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the calls to MLflow's client, in their order."""
    seen: list[str] = []
    for name in ("search_runs", "get_run", "search_experiments", "search_model_versions", "get_model_version"):
        monkeypatch.setattr(mlflow.MlflowClient, name, _counting(getattr(mlflow.MlflowClient, name), name, seen))
    return seen


def _counting(real, name: str, seen: list[str]):
    def counted(*given, **named):
        seen.append(name)
        return real(*given, **named)

    return counted
