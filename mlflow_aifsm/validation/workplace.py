"""Where a validation runs: an MLflow database of its own in a temporary folder, untouched by anybody's settings."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import chdir, contextmanager

import mlflow
from torch import nn

from mlflow_aifsm import scratch
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.tracking.connection import client

SETTINGS = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_AIFSM_QUIET": "1"}
REGISTERED = "digits"


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


def registered(network: nn.Module) -> str:
    """The URI of ``network`` as a version of a registered model, saved as MLflow's users save a PyTorch model."""
    with mlflow.start_run():
        how = {"serialization_format": "pickle", "pip_requirements": ["torch"]}
        made = mlflow.pytorch.log_model(network, name=REGISTERED, **how)
    client().create_registered_model(REGISTERED)
    version = client().create_model_version(REGISTERED, made.model_uri, model_id=made.model_id)
    return f"models:/{REGISTERED}/{version.version}"


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
