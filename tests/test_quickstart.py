"""The main job, run twice as its users run it, and everything that it promises."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from mlflow_aifsm.audit import read
from mlflow_aifsm.facts import State
from mlflow_aifsm.record import Status
from mlflow_aifsm.template import LOGS, load
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Job:
    """A finished main job: where it ran, what it printed, the run it names."""

    folder: Path
    output: str
    run_id: str

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def run(self) -> Run:
        return MlflowClient(self.uri).get_run(self.run_id)


def main_job(folder: Path) -> Job:
    """Runs the project as the README does, with the interpreter of the tests first on PATH."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "NNCF_"))}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["mlflow", "run", ".", "--env-manager", "local", "-P", "responsible=A. Ito"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Job(folder, done.stdout, re.search(r"^run +([0-9a-f]{32})$", done.stdout, re.MULTILINE)[1])


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Job]:
    """The main job in a copy of the project, twice."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(REPOSITORY / "MLproject", folder)
    shutil.copytree(REPOSITORY / "examples", folder / "examples")
    return main_job(folder), main_job(folder)


@pytest.fixture
def job(jobs: tuple[Job, Job], monkeypatch: pytest.MonkeyPatch) -> Job:
    """The first main job, its database being the active one."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", jobs[0].uri)
    mlflow.set_tracking_uri(jobs[0].uri)
    return jobs[0]


@pytest.mark.parametrize("log", LOGS)
def test_each_field_has_its_key_in_the_run_where_its_definition_says(job: Job, log: str) -> None:
    data = job.run.data
    places = {"tag": data.tags, "param": data.params, "metric": data.metrics}
    missing = [field.key for field in load(log).fields if field.key not in places[field.log_as]]
    assert missing == []


@pytest.mark.parametrize("log", LOGS)
def test_both_logs_answer_every_field_and_hold_when_looked_at_again(job: Job, log: str) -> None:
    (evidence,) = read(job.run_id, log)
    assert evidence.record.gaps == ()
    assert evidence.record.findings == ()
    assert [check.holds for check in evidence.checks] == [True] * 4
    assert evidence.status is Status.COMPLETE
    assert evidence.record.verification is not None
    assert evidence.record.verification.passed
    assert evidence.record.verification.samples == 540


def test_what_the_file_can_tell_is_measured_on_it(job: Job) -> None:
    for log in LOGS:
        record = read(job.run_id, log)[0].record
        states = {row.key: record.entries[row.key].state for row in record.template.fields if row.basis is State.MEASURED}
        assert len(states) >= 8
        assert set(states.values()) <= {State.MEASURED, State.NOT_APPLICABLE}


def test_the_quantized_model_is_smaller_and_as_accurate(job: Job) -> None:
    sizes, accuracies = (
        [point.value for point in MlflowClient(job.uri).get_metric_history(job.run_id, key)]
        for key in ("aifsm.size", "aifsm.accuracy")
    )
    assert sizes[1] < 0.6 * sizes[0]
    assert min(accuracies) > 0.95
    assert accuracies[0] - accuracies[1] <= 0.01


def test_database_and_artifacts_lie_where_the_readme_says(job: Job) -> None:
    assert (job.folder / "mlflow.db").is_file()
    assert "mlartifacts" in job.run.info.artifact_uri
    files = {path.name for path in (job.folder / "mlartifacts" / job.run_id / "artifacts" / "aifsm" / "optimization").iterdir()}
    assert files >= {
        "record.json",
        "manifest.json",
        "report.html",
        "quantizers.csv",
        "quantizers.json",
        "packages.txt",
        "source",
    }


def test_the_output_ends_with_a_table_and_the_lines_to_copy(job: Job) -> None:
    lines = job.output.strip().splitlines()
    table = next(index for index, line in enumerate(lines) if "accuracy" in line and "largest deviation" in line)
    assert [line.split()[0] for line in lines[table + 1 : table + 3]] == ["frozen", "int8"]
    assert f"mlflow-aifsm report {job.run_id}" in lines[-2]
    assert "mlflow server --backend-store-uri sqlite:///mlflow.db" in lines[-1]


def test_the_printed_report_line_works_as_it_stands(job: Job) -> None:
    line = next(line for line in job.output.splitlines() if line.startswith("report "))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(line.split()[1:], cwd=job.folder, env=environment, capture_output=True, text=True, check=True)
    written = [job.folder / name for name in done.stdout.split()]
    assert len(written) == len(LOGS)
    assert all("<!doctype html>" in path.read_text("utf-8")[:100].lower() for path in written)


def test_a_second_run_makes_new_versions_and_breaks_nothing(jobs: tuple[Job, Job]) -> None:
    client = MlflowClient(jobs[0].uri)
    for name in ("digits", "digits-frozen", "digits-int8"):
        assert {int(found.version) for found in client.search_model_versions(f"name = '{name}'")} == {1, 2}
    assert jobs[0].run_id != jobs[1].run_id


def test_two_runs_with_one_seed_deliver_the_same_bytes(jobs: tuple[Job, Job]) -> None:
    digests = [[job.run.data.tags[f"aifsm.{log}.output_sha256"] for log in LOGS] for job in jobs]
    assert digests[0] == digests[1]


def test_the_registered_versions_say_what_they_are(job: Job) -> None:
    version = MlflowClient(job.uri).get_model_version("digits-int8", "1")
    assert version.tags["aifsm.made_from"] == "models:/digits-frozen/1"
    assert version.tags["aifsm.optimization.output_sha256"] == job.run.data.tags["aifsm.optimization.output_sha256"]
    assert version.tags["aifsm.precision"].startswith("int8")
    assert version.tags["aifsm.optimization.log_id"] in version.description
