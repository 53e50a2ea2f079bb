"""Which verified model a recorded call works on: named by an argument or a setting, and compared with what goes in."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import mlflow
import nncf
import onnx
import pytest
import torch

import mlflow_aifsm as aifsm
from mlflow_aifsm import identity
from mlflow_aifsm.config import PREFIX
from mlflow_aifsm.record import Entry
from tests.autolog.recorded import fed, graph, images, recording, the_log
from tests.models import Digits, DigitsNet
from tests.operations.quantized_models import small

pytestmark = pytest.mark.usefixtures("experiment")

VARIABLE = f"{PREFIX}VERIFIED_MODEL"


@pytest.fixture
def registered(digits: Digits, tmp_path: Path) -> str:
    """A registered PyTorch model that was declared verified."""
    name = f"verified-{tmp_path.name}"
    with mlflow.start_run():
        mlflow.pytorch.log_model(
            digits.model, name="digits", input_example=digits.images[:4], registered_model_name=name, pip_requirements=["torch"]
        )
    identity.stamp(f"models:/{name}/1", "doc://verification-17", "A. Ito")
    return f"models:/{name}/1"


@pytest.fixture
def quiet() -> Iterator[None]:
    """MLflow says on each log of a model what it thinks of it."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    yield
    logging.getLogger("mlflow").setLevel(logging.INFO)


def project(line: str) -> None:
    Path("aifsm.toml").write_text(line, "utf-8")


def exported(model: torch.nn.Module, digits: Digits, **settings: str) -> Entry:
    """The id of the input in the log of an export."""
    with recording(**settings), mlflow.start_run() as run:
        torch.onnx.export(model, (digits.example,), "net.onnx", dynamo=True, external_data=False)
    return the_log(run.info.run_id, "conversion").entries["aifsm.conversion.input_id"]


def codes(entry: Entry) -> list[str]:
    return [finding.code for finding in entry.findings]


def beside(entry: Entry) -> str:
    return next(fact.value.text for fact in entry.beside if fact.name == "input.verified")


def test_the_settings_name_the_model_and_the_log_says_which_file_did(digits: Digits, registered: str) -> None:
    project(f'verified_model = "{registered}"')
    entry = exported(digits.model, digits)
    assert entry.value.text == registered.removeprefix("models:/").replace("/", "_")
    assert str(entry.source) == f"aifsm.toml, registered model {registered}"
    assert beside(entry).endswith("the converted module has the same parameters")
    assert codes(entry) == []


def test_a_script_that_converts_another_model_than_the_projects_is_found_out(digits: Digits, registered: str) -> None:
    project(f'verified_model = "{registered}"')
    entry = exported(DigitsNet().eval(), digits)
    assert codes(entry) == ["input_is_another_model"]
    assert entry.findings[0].effect.endswith("by aifsm.toml: name the one that it is with verified_model=")


def test_a_variable_beats_the_file_and_an_argument_beats_both(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    project('verified_model = "detector_1"')
    monkeypatch.setenv(VARIABLE, "detector_2")
    entry = exported(digits.model, digits)
    assert (entry.value.text, str(entry.source)) == ("detector_2", f"{VARIABLE}")
    entry = exported(digits.model, digits, verified_model="detector_3")
    assert (entry.value.text, str(entry.source)) == ("detector_3", "argument verified_model")


def test_a_model_of_the_settings_that_does_not_exist_is_one_warning(
    digits: Digits, caplog: pytest.LogCaptureFixture, experiment: str
) -> None:
    project('verified_model = "models:/nobody/1"')
    with recording(strict=False), mlflow.start_run(), caplog.at_level(logging.WARNING, "mlflow_aifsm"):
        torch.onnx.export(digits.model, (digits.example,), "net.onnx", dynamo=True)
    (told,) = [one.getMessage() for one in caplog.records if one.name.startswith("mlflow_aifsm")]
    assert "ConfigError: verified_model in aifsm.toml: registered model models:/nobody/1 does not exist" in told
    (run,) = mlflow.MlflowClient().search_runs([experiment])
    assert not [key for key in run.data.tags if key.startswith("aifsm.")]


def test_a_quantized_module_is_compared_too(digits: Digits, registered: str) -> None:
    data = nncf.Dataset(list(digits.example.split(1)))
    for model, code in ((digits.model, []), (DigitsNet().eval(), ["input_is_another_model"])):
        with recording(verified_model=registered), mlflow.start_run() as run:
            nncf.quantize(model, data, subset_size=4)
        entry = the_log(run.info.run_id).entries["aifsm.optimization.input_id"]
        assert codes(entry) == code
        assert str(entry.source).endswith("other parameters" if code else "the same parameters")


def test_a_graph_is_compared_with_a_verified_graph(tmp_path: Path) -> None:
    name = f"graph-{tmp_path.name}"
    with mlflow.start_run():
        mlflow.onnx.log_model(onnx.load(small().path), name="graph", registered_model_name=name)
    other = onnx.load(small().path)
    other.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(
        onnx.numpy_helper.to_array(other.graph.initializer[0]) * 2, other.graph.initializer[0].name
    ))  # fmt: skip
    for model, code in ((onnx.load(small().path), []), (other, ["input_is_another_model"])):
        with recording(verified_model=f"models:/{name}/1"), mlflow.start_run() as run:
            nncf.quantize(model, nncf.Dataset(images(4), fed), subset_size=4)
        assert codes(the_log(run.info.run_id).entries["aifsm.optimization.input_id"]) == code


def test_what_cannot_be_compared_is_said_to_be_unseen(registered: str) -> None:
    with recording(verified_model=registered), mlflow.start_run() as run:
        nncf.quantize(graph(), nncf.Dataset(images(4), fed), subset_size=4)
    entry = the_log(run.info.run_id).entries["aifsm.optimization.input_id"]
    assert str(entry.source).endswith("whether it is what was optimized was not seen")


def test_verbs_take_the_setting_where_nothing_else_tells(digits: Digits, registered: str) -> None:
    project(f'verified_model = "{registered}"')
    frozen = aifsm.freeze(digits.model, digits.example)
    entry = frozen.record.entries["aifsm.conversion.input_id"]
    assert str(entry.source) == f"aifsm.toml, registered model {registered}"
    assert beside(entry).endswith("the converted module has the same parameters")
    with aifsm.record_conversion(converter="onnx") as log:
        log.output(small().path)
    entry = log.finished.record.entries["aifsm.conversion.input_id"]
    assert str(entry.source).startswith("aifsm.toml")
    assert beside(entry).endswith("whether they are what was converted was not seen")


@pytest.mark.usefixtures("quiet")
def test_a_verb_that_is_given_a_model_keeps_that_one(digits: Digits, registered: str) -> None:
    project('verified_model = "detector_9"')
    frozen = aifsm.freeze(registered)
    mine = registered.removeprefix("models:/").replace("/", "_")
    assert frozen.record.entries["aifsm.conversion.input_id"].value.text == mine
    assert frozen.record.subject == mine
    int8 = aifsm.quantize(frozen, digits.images[:8], aifsm.NNCF(subset_size=8))
    assert int8.record.subject == mine
