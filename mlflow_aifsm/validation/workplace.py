"""Where a validation runs: an MLflow database of its own in a temporary folder, untouched by anybody's settings."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import chdir, contextmanager

import mlflow

from mlflow_aifsm import scratch
from mlflow_aifsm.errors import InputError

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_AIFSM_QUIET": "1",
}


@contextmanager
def workplace() -> Iterator[None]:
    """An empty tracking store and working folder; settings, folder and store of the caller are put back at the end.

    Raises:
        InputError: If a run is active, because the trials' logs would join it.
    """
    if mlflow.active_run() is not None:
        raise InputError("a run is active", expected="none", remedy="end it before the tool is validated")
    folder, store = scratch.folder(), mlflow.get_tracking_uri()
    with chdir(folder), _settings(), _quiet():
        mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').as_posix()}")
        try:
            made = mlflow.create_experiment("validation", artifact_location=(folder / "artifacts").as_uri())
            mlflow.set_experiment(experiment_id=made)
            yield
        finally:
            mlflow.set_tracking_uri(store)


@contextmanager
def _settings() -> Iterator[None]:
    """The environment without any setting of MLflow's or ours but those above."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ.update(SETTINGS)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
