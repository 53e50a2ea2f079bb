"""One run with both logs, complete and verified, which the tests of this folder read and do not change."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest

import mlflow_aifsm as aifsm
from mlflow_aifsm.operations.quantization import Static
from tests.models import Digits


@dataclass(frozen=True)
class Logged:
    """A run that holds both logs, the database it is in, and a working folder of its own."""

    run_id: str
    frozen: aifsm.Result
    int8: aifsm.Result


@pytest.fixture(scope="session")
def complete(database: str, digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """From a registered PyTorch model to a registered integer one, in one run."""
    folder, patch = tmp_path_factory.mktemp("complete"), pytest.MonkeyPatch()
    with patch.context() as context:
        context.chdir(folder)
        context.setenv("MLFLOW_AIFSM_RESPONSIBLE", "A. Ito")
        mlflow.set_tracking_uri(database)
        made = mlflow.create_experiment(str(folder), artifact_location=(folder / "artifacts").as_uri())
        with mlflow.start_run(experiment_id=made):
            mlflow.log_param("learning rate", 0.005)
            how = {"serialization_format": "pickle", "input_example": digits.images[:4]}
            mlflow.pytorch.log_model(digits.model, name="digits", registered_model_name="cli-digits", **how)
        judged = aifsm.Verification(aifsm.Data(digits.images[100:], name="held out"), digits.labels[100:])
        with mlflow.start_run(experiment_id=made) as run:
            named = {"verification": judged, "responsible": "A. Ito"}
            how = {"config": aifsm.Onnx(dynamic_shapes="batch"), "registered_model_name": "cli-frozen"}
            frozen = aifsm.freeze("models:/cli-digits/1", **how, **named)
            data = aifsm.Data(digits.images[:64], name="calibration")
            asked = Static(subset_size=64)
            int8 = aifsm.quantize(frozen, data, asked, registered_model_name="cli-int8", **named)
    return Logged(run.info.run_id, frozen, int8)


@pytest.fixture
def logged(complete: Logged, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Logged]:
    """The run, read from an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    mlflow.set_tracking_uri(database)
    yield complete
    assert not os.environ.get("MLFLOW_RUN_ID")
