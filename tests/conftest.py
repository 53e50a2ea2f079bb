"""What all tests share: no telemetry, one database a session, an experiment of its own for each test, a trained small model."""

from __future__ import annotations

import os

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "1"
os.environ["NNCF_CI"] = "1"
os.environ["MLFLOW_AIFSM_QUIET"] = "1"

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.models import Digits

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """URI of the session's database; its migrations cost seconds, so there is one."""
    import mlflow

    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    mlflow.MlflowClient(uri).search_experiments()
    return uri


@pytest.fixture
def experiment(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Id of a fresh experiment of the session's database, which is the active one; the working folder is the test's own."""
    import mlflow

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.setenv("MLFLOW_AIFSM_RESPONSIBLE", "A. Ito")
    mlflow.set_tracking_uri(database)
    made = mlflow.create_experiment(str(tmp_path), artifact_location=(tmp_path / "artifacts").as_uri())
    mlflow.set_experiment(experiment_id=made)
    yield made
    while mlflow.active_run():
        mlflow.end_run()


@pytest.fixture(scope="session")
def digits() -> Digits:
    """A small CNN trained on scikit-learn's digits, with held-out images."""
    from tests.models import trained

    return trained()
