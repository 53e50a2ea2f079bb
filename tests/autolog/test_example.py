"""NNCF's own example, run as the script that it is, gives a log whose quantization fields are all measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from mlflow_aifsm.facts import State
from tests.autolog.recorded import the_log
from tests.operations.quantized_models import small

pytestmark = pytest.mark.usefixtures("experiment")

SCRIPT = Path(__file__).with_name("example_nncf_onnx.py")
MEASURED = {
    *(f"aifsm.ptq.{name}" for name in ("precision", "scheme", "technique", "granularity")),
    "aifsm.calibration.scale",
    "aifsm.calibration.transformation",
}
CAPTURED = {"aifsm.ptq.framework", "aifsm.ptq.packages", "aifsm.ptq.additional", "aifsm.calibration.method"}


def test_nncfs_own_example_with_a_run_and_autolog_added_is_measured(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    command = [sys.executable, str(SCRIPT), str(small().path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (run,) = mlflow.MlflowClient().search_runs([experiment])
    record = the_log(run.info.run_id)
    entries = record.entries
    assert float(done.stdout.rpartition(":")[2]) > 0.8
    assert {key: entries[key].state for key in MEASURED} == dict.fromkeys(MEASURED, State.MEASURED)
    assert {key: entries[key].state for key in CAPTURED} == dict.fromkeys(CAPTURED, State.CAPTURED)
    assert not [key for key, entry in entries.items() if entry.state is State.NOT_RECORDED]
    assert record.output_files[0].sha256 == record.output_sha256
    assert entries["aifsm.calibration.method"].value.data["consumed"] == 300
    assert entries["aifsm.ptq.additional"].value.data["source"]["name"].endswith(SCRIPT.name)
