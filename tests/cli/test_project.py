"""The entry points of ``MLproject``, run by ``mlflow run`` on a copy of the project: the run it starts is logged."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.projects._project_spec import load_project

from mlflow_aifsm.cli.main import group
from mlflow_aifsm.template import load
from tests.conftest import REPOSITORY
from tests.models import Digits
from tests.test_command_line_guide import SHELL

PROJECT = yaml.safe_load((REPOSITORY / "MLproject").read_text("utf-8"))["entry_points"]
VERBS = ("freeze", "quantize", "prune")
OPTIONS = {"limits": "limit", "model_uri": "", "target": ""}
"""Parameters that are called otherwise than their option; the model is an argument."""


FREEZE = ("model_uri=models:/digits/1", "verify=held-out.npz", "register=digits-frozen")
QUANTIZE = ("model_uri=models:/digits-frozen/1", "data=digits.npz", "config=int8.toml")
REPORT = ("target=models:/digits-frozen/1", "format=md")


class Project:
    """A copy of the project with data and configs, and a database with a registered PyTorch model."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.uri = folder, f"sqlite:///{folder / 'mlflow.db'}"

    def run(self, entry: str, *given: str, folder: str = ".") -> subprocess.CompletedProcess[str]:
        """``mlflow run`` as a user calls it, in ``folder``, with the interpreter of the tests first on PATH."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "NNCF_"))}
        environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        environment |= {"MLFLOW_TRACKING_URI": self.uri, "MLFLOW_AIFSM_RESPONSIBLE": "A. Ito"}
        where = self.folder / folder
        named = [part for pair in given for part in ("-P", pair)]
        command = ["mlflow", "run", os.path.relpath(self.folder, where), "--env-manager", "local", "-e", entry, *named]
        return subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)

    def logged(self, entry: str, *given: str, folder: str = ".") -> Run:
        """The one run that a successful call made."""
        before = {run.info.run_id for run in self.runs()}
        done = self.run(entry, *given, folder=folder)
        assert done.returncode == 0, done.stderr
        (made,) = [run for run in self.runs() if run.info.run_id not in before]
        return made

    def runs(self) -> list[Run]:
        client = MlflowClient(self.uri)
        return list(client.search_runs([found.experiment_id for found in client.search_experiments()]))


@pytest.fixture(scope="module")
def project(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("project"))
    shutil.copy(REPOSITORY / "MLproject", made.folder)
    (made.folder / "int8.toml").write_text('kind = "Static"\nsubset_size = 64', "utf-8")
    np.savez(made.folder / "digits.npz", image=digits.images[:64])
    np.savez(made.folder / "held-out.npz", image=digits.images[100:300], labels=digits.labels[100:300])
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(made.uri)
    experiment = mlflow.create_experiment("digits", artifact_location=(made.folder / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        mlflow.pytorch.log_model(digits.model, name="digits", input_example=digits.images[:4], registered_model_name="digits")
    mlflow.set_tracking_uri(before)
    return made


@pytest.fixture(scope="module")
def frozen(project: Project) -> Run:
    return project.logged("freeze", *FREEZE)


@pytest.fixture(scope="module")
def int8(project: Project, frozen: Run) -> Run:
    return project.logged("quantize", *QUANTIZE)


def test_the_first_entry_point_is_the_one_of_the_readme() -> None:
    assert list(PROJECT) == ["main", *VERBS, "check", "report"]
    assert PROJECT["main"]["command"] == "python examples/quickstart.py --epochs {epochs} --responsible {responsible}"


@pytest.mark.parametrize("entry", [name for name in PROJECT if name != "main"])
def test_an_entry_point_passes_each_parameter_to_an_option_that_its_command_has(entry: str) -> None:
    parameters, command = PROJECT[entry]["parameters"], group.get_command(None, entry)
    known = {option.lstrip("-") for parameter in command.params for option in parameter.opts}
    for name, one in parameters.items():
        option = OPTIONS.get(name, name.replace("_", "-"))
        assert (f"--{option} {{{name}}}" if option else f" {{{name}}}") in PROJECT[entry]["command"], name
        assert not option or option in known, name
        assert one["type"] == "string", name
    assert [name for name, one in parameters.items() if "default" not in one] == ["model_uri" if entry in VERBS else "target"]


@pytest.mark.parametrize("entry", [name for name in PROJECT if name != "main"])
def test_no_parameter_of_an_entry_point_has_the_name_of_a_key_of_ours(entry: str) -> None:
    keys = {field.key for log in ("conversion", "optimization") for field in load(log).fields}
    assert all(key.startswith("aifsm.") for key in keys)
    assert not keys & PROJECT[entry]["parameters"].keys()


def test_a_parameter_that_is_left_out_is_an_empty_value_for_the_shell() -> None:
    entry = load_project(str(REPOSITORY)).get_entry_point("prune")
    command = entry.compute_command({"model_uri": "models:/a b/1"}, None)
    assert command.startswith("mlflow-aifsm prune 'models:/a b/1' --data '' --config '' --verify '' ")


@pytest.mark.slow
def test_the_run_that_mlflow_run_starts_holds_the_log_and_the_parameters_of_both(int8: Run) -> None:
    assert int8.info.status == "FINISHED"
    assert int8.data.tags["mlflow.source.type"] == "PROJECT"
    assert int8.data.tags["mlflow.project.entryPoint"] == "quantize"
    given = {"model_uri": "models:/digits-frozen/1", "data": "digits.npz", "config": "int8.toml"}
    params = int8.data.params
    assert {name: params[name] for name in given} == given
    assert {name for name in params if not name.startswith("aifsm.")} == PROJECT["quantize"]["parameters"].keys()
    assert params["aifsm.ptq.precision"].startswith("int8")
    assert int8.data.tags["aifsm.optimization.log_id"] == f"digits_1-MO-{int8.info.run_id[:8]}"


@pytest.mark.slow
def test_a_frozen_model_is_registered_verified_and_named_after_its_run(project: Project, frozen: Run) -> None:
    assert frozen.data.tags["aifsm.conversion.status"] == "complete"
    version = MlflowClient(project.uri).get_model_version("digits-frozen", "1")
    assert version.tags["aifsm.conversion.log_id"] == f"digits_1-MC-{frozen.info.run_id[:8]}"


@pytest.mark.slow
def test_limits_with_spaces_reach_the_command_and_both_logs_of_a_pytorch_model_the_one_run(project: Project) -> None:
    asked = ("limits=accuracy_drop=0.5, flips=199", "verify=held-out.npz", "responsible=B. Kim", "output=pruned/")
    run = project.logged("prune", "model_uri=models:/digits/1", *asked)
    tags = run.data.tags
    assert {tags["aifsm.conversion.responsible"], tags["aifsm.optimization.responsible"]} == {"B. Kim"}
    assert tags["aifsm.optimization.status"] == "complete"
    assert (project.folder / "pruned" / "model.onnx").is_file()


@pytest.mark.slow
def test_files_are_looked_for_in_the_project_and_not_where_the_caller_stands(project: Project, int8: Run) -> None:
    elsewhere = project.folder / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(project.folder / "digits.npz", elsewhere / "here.npz")
    asked = ("model_uri=models:/digits-frozen/1", "config=int8.toml")
    done = project.run("quantize", *asked, "data=here.npz", folder="elsewhere")
    assert done.returncode == 1
    assert "File 'here.npz' does not exist." in done.stderr
    assert project.logged("quantize", *asked, f"data={elsewhere / 'here.npz'}", folder="elsewhere").info.status == "FINISHED"


@pytest.mark.slow
def test_check_fails_where_its_command_does(project: Project, frozen: Run) -> None:
    assert project.run("check", f"target={frozen.info.run_id}").returncode == 0
    training = project.runs()[-1].info.run_id
    done = project.run("check", f"target={training}")
    assert f"run {training} holds no log" in done.stderr
    assert done.returncode == 1


@pytest.mark.slow
def test_a_report_is_written_into_the_project(project: Project, frozen: Run) -> None:
    done = project.run("report", *REPORT)
    assert done.returncode == 0, done.stderr
    text = (project.folder / f"{frozen.data.tags['aifsm.conversion.log_id']}.md").read_text("utf-8")
    assert "\n# Model Conversion Log\n" in f"\n{text}"


def test_the_lines_of_the_guide_are_those_that_are_run_here() -> None:
    lines = [shlex.split(line) for line in SHELL if line.startswith("mlflow run ")]
    assert [line[:6] for line in lines] == [["mlflow", "run", ".", "--env-manager", "local", "-e"]] * 3
    assert [(line[6], *line[8::2]) for line in lines] == [("freeze", *FREEZE), ("quantize", *QUANTIZE), ("report", *REPORT)]
