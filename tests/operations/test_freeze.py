"""Freezing real PyTorch models, given in each of the ways their users have them."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import mlflow_aifsm as aifsm
from mlflow_aifsm.errors import ConversionError, InputError, NotFoundError
from mlflow_aifsm.facts import State
from tests.models import Digits, DigitsNet

pytestmark = pytest.mark.usefixtures("experiment")


def logged(digits: Digits, model: nn.Module, **how: object) -> str:
    """URI of a registered version of ``model``, logged as its users log it."""
    with mlflow.start_run():
        info = mlflow.pytorch.log_model(
            model, name="digits", input_example=digits.images[:4], registered_model_name="digits-freeze", **how
        )
    return f"models:/digits-freeze/{info.registered_model_version}"


def accuracy(path: Path, digits: Digits) -> float:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {session.get_inputs()[0].name: digits.images})
    return float((scores.argmax(1) == digits.labels).mean())


def value(result: aifsm.Result, key: str) -> str:
    return result.record.entries[key].value.text


@pytest.mark.parametrize("how", [{}, {"serialization_format": "pickle"}], ids=["pt2", "pickle"])
def test_a_registered_model_is_frozen_by_its_uri(digits: Digits, how: dict[str, str]) -> None:
    uri = logged(digits, digits.model, **how)
    config = aifsm.Onnx(dynamic_shapes="batch" if how else None)
    frozen = aifsm.freeze(uri, config=config, verification=aifsm.Verification(digits.images, digits.labels))
    assert frozen.verification is not None
    assert frozen.verification.passed
    assert frozen.verification.samples == len(digits.images)
    assert accuracy(frozen.path, digits) > 0.9
    assert value(frozen, "aifsm.conversion.input_id") == "digits-freeze_" + uri.rpartition("/")[2]
    assert "Dropout" in value(frozen, "aifsm.model.architecture")
    assert frozen.record.entries["aifsm.elimination.dropout"].value.brief == "eliminated"
    assert frozen.record.entries["aifsm.elimination.batch_normalization"].value.brief == "folded"
    assert not frozen.record.gaps
    assert not frozen.findings


def test_a_pt2_model_logged_in_training_mode_is_put_right_on_the_graph_and_the_log_says_so(digits: Digits) -> None:
    model = DigitsNet()
    model.load_state_dict(digits.model.state_dict())
    uri = logged(digits, model.train())
    frozen = aifsm.freeze(uri, verification=aifsm.Verification(digits.images, digits.labels))
    assert accuracy(frozen.path, digits) > 0.9
    assert any("aten.dropout.default" in note for note in frozen.record.notes)
    assert any("aten.batch_norm.default" in note for note in frozen.record.notes)
    mode = next(fact for fact in frozen.record.entries["aifsm.model.architecture"].beside if fact.name == "model.mode")
    assert "training" in mode.value.text


def test_a_graph_module_that_mlflow_hands_back_is_frozen(digits: Digits) -> None:
    model = mlflow.pytorch.load_model(logged(digits, digits.model))
    frozen = aifsm.freeze(model, digits.example, aifsm.Onnx(dynamic_shapes="batch"))
    assert accuracy(frozen.path, digits) > 0.9


def test_a_module_in_training_mode_is_frozen_as_a_copy_and_left_as_it_was(digits: Digits) -> None:
    model = DigitsNet()
    model.load_state_dict(digits.model.state_dict())
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    frozen = aifsm.freeze(model, digits.example, aifsm.Onnx(dynamic_shapes="batch"), verified_model="digits_1")
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert any("training mode" in note for note in frozen.record.notes)
    assert accuracy(frozen.path, digits) > 0.9


def test_a_module_without_verified_model_is_unregistered_and_that_is_a_finding(digits: Digits) -> None:
    frozen = aifsm.freeze(digits.model, digits.example)
    assert value(frozen, "aifsm.conversion.input_id") == "unregistered"
    assert [finding.code for finding in frozen.findings] == ["input_unregistered"]
    assert frozen.log_id == f"unregistered-MC-{frozen.run_id[:8]}"


def test_without_verification_the_log_says_that_there_was_none(digits: Digits) -> None:
    frozen = aifsm.freeze(digits.model, digits.example, verified_model="digits_1")
    assert frozen.verification is None
    assert "not verified" in frozen.record.state_line


def test_the_opset_that_was_written_stands_beside_the_one_asked_for(digits: Digits) -> None:
    frozen = aifsm.freeze(digits.model, digits.example, aifsm.Onnx(opset=13), verified_model="digits_1")
    entry = frozen.record.entries["aifsm.conversion.opset"]
    assert entry.state is State.MEASURED
    assert entry.asked is not None
    assert (entry.asked.data, entry.value.data) == (13, 18)
    assert not entry.findings  # a newer operator set satisfies the one asked for


def test_no_absolute_path_of_the_source_is_left_in_the_frozen_file(digits: Digits) -> None:
    frozen = aifsm.freeze(digits.model, digits.example, verified_model="digits_1")
    kept = aifsm.freeze(digits.model, digits.example, aifsm.Onnx(strip_source_paths=False), verified_model="digits_1")
    folder = str(Path(__file__).parents[1]).encode()
    assert folder not in frozen.path.read_bytes()
    assert folder in kept.path.read_bytes()


def test_a_dict_of_arguments_is_taken_by_name(digits: Digits) -> None:
    frozen = aifsm.freeze(digits.model, {"image": digits.images[:4]}, aifsm.Onnx(dynamic_shapes="batch"), verified_model="d_1")
    assert accuracy(frozen.path, digits) > 0.9


def test_a_fixed_batch_is_verified_in_pieces_of_its_length(digits: Digits) -> None:
    frozen = aifsm.freeze(
        digits.model, digits.example, verified_model="d_1", verification=aifsm.Verification(digits.images[:10])
    )
    assert frozen.verification is not None
    assert (frozen.verification.passed, frozen.verification.samples) == (True, 10)


def test_the_log_says_how_the_environment_of_the_verification_differs(digits: Digits) -> None:
    here = aifsm.freeze(digits.model, digits.example, verified_model="d_1", verification=aifsm.Verification(digits.images[:4]))
    assert any("ran in one process" in note for note in here.record.notes)
    with torch.no_grad():
        outputs = digits.model(torch.from_numpy(digits.images[:4])).numpy()
    judged = aifsm.Verification(digits.images[:4], outputs=outputs, runtime="vendor runtime 2.1", epsilon=1e-4, reason="a test")
    there = aifsm.freeze(digits.model, digits.example, verified_model="d_1", verification=judged)
    assert any("target device, vendor runtime 2.1" in note for note in there.record.notes)


def test_verification_with_the_wrong_normalisation_fails_and_is_still_logged(digits: Digits) -> None:
    wrong = aifsm.Verification(
        aifsm.Data(digits.images, labels=digits.labels), outputs=np.zeros((len(digits.images), 10), "float32")
    )
    frozen = aifsm.freeze(
        digits.model, digits.example, aifsm.Onnx(dynamic_shapes="batch"), verified_model="d_1", verification=wrong
    )
    assert frozen.verification is not None
    assert not frozen.verification.passed
    assert frozen.record.status == "verification failed"
    assert mlflow.get_run(frozen.run_id).data.tags["aifsm.conversion.status"] == "verification failed"


@pytest.mark.parametrize(
    ("example", "config", "words"),
    [
        (np.zeros((2, 3, 8, 8), "float32"), None, "example inputs do not fit the model"),
        (np.zeros((1, 1, 8, 8), "float32"), aifsm.Onnx(dynamic_shapes="batch"), "expected a batch of at least 2"),
        (None, None, "no example inputs"),
        ({"picture": np.zeros((2, 1, 8, 8), "float32")}, None, "example inputs do not fit the model"),
    ],
    ids=["wrong channels", "batch of one", "none", "wrong name"],
)
def test_an_example_that_does_not_fit_is_one_line_and_starts_no_run(
    digits: Digits, experiment: str, example: object, config: aifsm.Onnx | None, words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        aifsm.freeze(digits.model, example, config, verified_model="d_1")
    assert "\n" not in str(caught.value)
    assert mlflow.search_runs([experiment]).empty


@pytest.mark.parametrize("uri", ["models:/nobody/1", "models:/nobody@champion", "models:/nobody/latest", "runs:/0a1b/model"])
def test_a_model_that_does_not_exist_is_named_with_a_remedy(uri: str, experiment: str) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        aifsm.freeze(uri)
    assert mlflow.search_runs([experiment]).empty


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"cannot freeze a dict; expected a torch.nn.Module"):
        aifsm.freeze({"weights": 1}, torch.zeros(1))


class Refused(nn.Module):
    """Runs, and cannot be exported: its control flow depends on data."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * 2 if image.sum().item() > 0 else image


def test_a_conversion_that_fails_leaves_a_log_that_says_why(experiment: str) -> None:
    with pytest.raises(ConversionError, match="failed") as caught:
        aifsm.freeze(Refused().eval(), torch.ones(2, 3), verified_model="d_1")
    assert "\n" not in str(caught.value)
    (run,) = mlflow.MlflowClient().search_runs([experiment])
    assert run.info.status == "FAILED"
    assert run.data.tags["aifsm.conversion.status"] == "failed"
    assert "export" in aifsm.load_record(run.info.run_id).failure
