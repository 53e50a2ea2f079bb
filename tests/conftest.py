"""What all tests share: no telemetry, one database a session, an experiment of its own for each test, a trained small model."""

from __future__ import annotations

import os

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "1"
os.environ["NNCF_CI"] = "1"
# NNCF compiles functions for PyTorch when they are first called; on a busy machine that takes longer than its minute
os.environ["NNCF_EXTENSION_LOAD_TIMEOUT"] = "0"
os.environ["MLFLOW_AIFSM_QUIET"] = "1"

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.models import Digits

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without content; its migrations cost seconds, so others are copies of it."""
    import mlflow

    path = tmp_path_factory.mktemp("migrated") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def database(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """URI of the session's database."""
    return copied(migrated, tmp_path_factory.mktemp("store"))


@pytest.fixture
def experiment(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Id of a fresh experiment of the session's database, which is the active one; the working folder is the test's own."""
    yield from entered(database, tmp_path, monkeypatch)


@pytest.fixture
def own_experiment(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """As ``experiment``, in a database of the test's own: what it registers first is version 1."""
    yield from entered(copied(migrated, tmp_path), tmp_path, monkeypatch)


def copied(database: Path, folder: Path) -> str:
    return f"sqlite:///{shutil.copy(database, folder)}"


def entered(database: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import mlflow

    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.setenv("MLFLOW_AIFSM_RESPONSIBLE", "A. Ito")
    mlflow.set_tracking_uri(database)
    made = mlflow.create_experiment(str(folder), artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_experiment(experiment_id=made)
    yield made
    while mlflow.active_run():
        mlflow.end_run()


@pytest.fixture(scope="session")
def digits() -> Digits:
    """A small CNN trained on scikit-learn's digits, with held-out images."""
    from tests.models import trained

    return trained()
