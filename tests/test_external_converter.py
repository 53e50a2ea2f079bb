"""The example of a converter in an environment of its own, run as its users run it: TensorFlow is installed for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest

from mlflow_aifsm.audit import load_record
from mlflow_aifsm.digests import sha256_file
from mlflow_aifsm.facts import State
from mlflow_aifsm.record import Record, Status
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

CACHE = "AIFSM_TEST_TENSORFLOW"
"""Variable that names a folder for TensorFlow's environment, which is then kept for the next time."""


@dataclass(frozen=True)
class Ran:
    """The example after it ran: where, what it printed, its log."""

    folder: Path
    output: str
    record: Record

    def artifact(self, name: str) -> str:
        """Text of an artifact of its log."""
        found = mlflow.artifacts.download_artifacts(run_id=self.record.run_id, artifact_path=f"aifsm/conversion/{name}")
        return Path(found).read_text("utf-8")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The example, run in an empty folder."""
    folder = tmp_path_factory.mktemp("external")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    variables |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "PYTHONPATH": str(REPOSITORY),
    }
    where = os.environ.get(CACHE, ".venv-tf")
    command = [sys.executable, str(REPOSITORY / "examples" / "external_converter.py"), "--environment", where, "--by", "A. Ito"]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    mlflow.set_tracking_uri(variables["MLFLOW_TRACKING_URI"])
    run_id = re.search(r"^run +([0-9a-f]{32})$", done.stdout, re.MULTILINE)[1]
    return Ran(folder, done.stdout, load_record(run_id, "conversion"))


def test_the_log_is_complete_and_the_file_says_what_keras_said(ran: Ran) -> None:
    assert ran.record.status is Status.COMPLETE
    assert ran.record.verification.passed
    assert ran.record.verification.numbers["max_diff"] < 1e-4
    assert ran.record.verification.numbers["accuracy_after"] > 0.9
    assert "log complete" in ran.output


def test_what_ran_elsewhere_is_told_and_stored(ran: Ran) -> None:
    entry = ran.record.entries["aifsm.conversion.converter"]
    assert entry.value.text.startswith("python external_converter_keras.py convert keras-digits --opset 18 (external_con")
    assert "exit code 0" in entry.value.text
    assert str(ran.folder) not in ran.record.to_json().decode()
    script = (REPOSITORY / "examples" / "external_converter_keras.py").read_text("utf-8")
    assert ran.artifact("source/external_converter_keras.py") == script
    assert any(note.startswith("The conversion ran in another interpreter, Python 3.") for note in ran.record.notes)


def test_packages_are_those_of_tensorflows_environment(ran: Ran) -> None:
    assert ran.record.entries["aifsm.conversion.framework"].value.text == "tf2onnx 1.17.0"
    found = ran.record.entries["aifsm.conversion.packages"].value.data
    assert found["tensorflow-cpu"] == "2.21.0"
    assert "mlflow" not in found
    assert "tensorflow-cpu==2.21.0\n" in ran.artifact("packages-of-the-tool.txt")


def test_input_and_output_are_hashed(ran: Ran) -> None:
    made = ran.folder / "keras-digits"
    assert ran.record.input_sha256 == sha256_file(made / "model.keras")
    assert ran.record.output_sha256 == sha256_file(made / "model.onnx")


def test_what_the_file_tells_is_measured_and_what_people_know_is_declared(ran: Ran) -> None:
    entries = ran.record.entries
    for key in ("elimination.dropout", "elimination.batch_normalization", "conversion.opset", "model.inputs"):
        assert entries[f"aifsm.{key}"].state is State.MEASURED
    for key in ("training_framework", "training_run", "data_sets", "baseline_metrics"):
        assert (entries[f"aifsm.model.{key}"].state, entries[f"aifsm.model.{key}"].source.by) == (State.DECLARED, "A. Ito")
