"""``prune``: a module or a frozen file becomes sparse; its log says what the file holds, and what won accuracy back."""

from __future__ import annotations

import copy
from typing import Any

import mlflow
import numpy as np
import onnx
import pytest
import torch
from torch import nn

import mlflow_aifsm as aifsm
from mlflow_aifsm.capture.layer_weights import layer_weights
from mlflow_aifsm.capture.onnx_graph import opened
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import State
from tests.models import Digits, digits, trained_on

pytestmark = pytest.mark.usefixtures("experiment")

IMAGES, LABELS = (part[:1200] for part in digits())


def train(module: nn.Module) -> None:
    torch.manual_seed(3)
    trained_on(module.train(), 1200, epochs=1, rate=1e-3)


def judged(digits: Digits) -> aifsm.Verification:
    return aifsm.Verification(digits.images, digits.labels, limits={"accuracy_drop": 0.05}, reason="a test")


def zeros_of(result: aifsm.Result) -> dict[str, np.ndarray]:
    assert result.path is not None
    return {weight.label: weight.zero(opened(result.path)) for weight in layer_weights(result.path)}


def recovery_of(result: aifsm.Result) -> aifsm.Value:
    beside = result.record.entries["aifsm.pruning.additional"].beside
    return next(fact.value for fact in beside if fact.name == "pruning.recovery")


@pytest.fixture(scope="module")
def sparse(digits: Digits, database: str, tmp_path_factory: pytest.TempPathFactory) -> aifsm.Result:
    """A registered module pruned in three steps with training between; made once."""
    folder = tmp_path_factory.mktemp("sparse")
    mlflow.set_tracking_uri(database)
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(str(folder), artifact_location=(folder / "a").as_uri()))
    tuning = aifsm.FineTuning(train, epochs=1, data=aifsm.Data(IMAGES, name="digits-training"))
    with mlflow.start_run():
        mlflow.pytorch.log_model(digits.model, name="dense", registered_model_name="dense", serialization_format="pickle")
        return aifsm.prune(
            "models:/dense/1",
            aifsm.Magnitude(0.7, steps=3),
            fine_tune=tuning,
            example_inputs=digits.example,
            verification=judged(digits),
            responsible="A. Ito",
        )


def test_the_log_of_a_pruned_module_is_whole_and_stands_beside_that_of_its_conversion(
    digits: Digits, sparse: aifsm.Result
) -> None:
    entries, tags = sparse.record.entries, mlflow.get_run(sparse.run_id).data.tags
    assert sparse.record.gaps == ()
    assert sparse.findings == ()
    assert entries["aifsm.optimization.input_id"].value.text == "dense_1"
    assert entries["aifsm.pruning.framework"].value.text.startswith(f"PyTorch {torch.__version__}")
    assert entries["aifsm.pruning.patterns"].state is State.MEASURED
    assert entries["aifsm.pruning.patterns"].value.data["pattern"] == "element"
    assert entries["aifsm.ptq.technique"].state is State.NOT_APPLICABLE
    assert tags["aifsm.conversion.log_id"].startswith("dense_1-MC-")
    assert tags["aifsm.optimization.log_id"] == sparse.log_id
    conversion = aifsm.load_record(sparse.run_id, log="conversion")
    assert {finding.code for finding in conversion.findings} == {"changed_after_verification"}


def test_zeros_are_as_many_as_asked_and_the_callers_module_keeps_its_weights(digits: Digits) -> None:
    before = copy.deepcopy(digits.model.state_dict())
    sparse = aifsm.prune(digits.model, aifsm.Magnitude(0.5), example_inputs=digits.example, verified_model="digits_1")
    zeros = zeros_of(sparse)
    total = sum(zero.size for zero in zeros.values())
    assert sum(int(zero.sum()) for zero in zeros.values()) == round(0.5 * total)
    assert all(torch.equal(before[name], value) for name, value in digits.model.state_dict().items())
    assert not [name for name in sparse.model.state_dict() if name.endswith(("_mask", "_orig"))]
    names = [one.name for one in onnx.load(sparse.path).graph.initializer]
    assert not [name for name in names if "mask" in name or name.endswith("_orig")]


def test_the_threshold_is_recomputed_from_the_parents_weights(digits: Digits) -> None:
    sparse = aifsm.prune(digits.model, aifsm.Magnitude(0.5), example_inputs=digits.example, verified_model="digits_1")
    weights = np.concatenate([value.detach().numpy().ravel() for value in (digits.model.conv.weight, digits.model.fc.weight)])
    entry = sparse.record.entries["aifsm.pruning.criteria"]
    (limit,) = set(entry.value.data[0]["steps"][0]["thresholds"].values())
    assert np.mean(np.abs(weights) <= limit) == pytest.approx(0.5, abs=1 / weights.size)
    assert entry.value.text.startswith(
        f"Weight magnitude |w|, global threshold, {limit:.4g} (recomputed from the parent's weights"
    )
    assert entry.value.brief == "weight_magnitude_global"


def test_each_step_is_a_point_of_the_curve_and_a_row_of_the_table(sparse: aifsm.Result) -> None:
    client = mlflow.MlflowClient()
    curve = {point.step: point.value for point in client.get_metric_history(sparse.run_id, "aifsm.pruning.accuracy")}
    zeros = [point.value for point in client.get_metric_history(sparse.run_id, "aifsm.pruning.zeros")]
    stored = mlflow.artifacts.load_dict(f"runs:/{sparse.run_id}/aifsm/optimization/steps.json")
    table = dict(zip(stored["columns"], zip(*stored["data"], strict=True), strict=True))
    assert list(curve) == list(range(7))
    assert zeros == sorted(zeros)
    assert zeros[-1] == pytest.approx(0.7, abs=0.001)
    assert list(table["operation"]) == ["start", *["prune", "fine_tune"] * 3, "freeze"]
    assert list(table["value"])[:7] == pytest.approx(list(curve.values()))
    assert curve[6] > curve[5]  # what the last step cost is won back
    assert len(set(table["sha256"])) == 8


def test_what_trained_is_seen_and_what_it_cannot_see_is_told(sparse: aifsm.Result) -> None:
    recovery = recovery_of(sparse)
    assert "Adam, 19 steps, learning rate 0.001" in recovery.text
    assert "1 epoch, on digits-training, 1200 samples" in recovery.text
    assert recovery.text.count("fine-tuned by train") == 3
    used = mlflow.get_run(sparse.run_id).inputs.dataset_inputs
    contexts = {one.dataset.name: tag.value for one in used for tag in one.tags if tag.key == "mlflow.data.context"}
    assert contexts["digits-training"] == "training"


def test_every_zero_survives_freeze_and_quantization(digits: Digits, sparse: aifsm.Result) -> None:
    int8 = aifsm.quantize(sparse, aifsm.Data(IMAGES[:300], name="digits-training"), verification=judged(digits))
    before, after = zeros_of(sparse), zeros_of(int8)
    assert before.keys() == after.keys()
    assert all((after[name] >= zero).all() for name, zero in before.items())
    entries = int8.record.entries
    assert entries["aifsm.optimization.input_id"].value.text == "dense_1"
    assert entries["aifsm.pruning.criteria"].value.text.endswith(f"(earlier, log {sparse.log_id})")
    assert entries["aifsm.pruning.patterns"].value.data["pattern"] == "element"
    assert any(sparse.log_id in note for note in int8.record.notes)
    assert int8.findings == ()


def test_a_frozen_file_is_pruned_by_magnitude(digits: Digits) -> None:
    frozen = aifsm.freeze(digits.model, digits.example, aifsm.Onnx(dynamic_shapes="batch"), verified_model="digits_1")
    sparse = aifsm.prune(frozen, aifsm.Magnitude(0.25, "local", "block:2x4"))
    entries = sparse.record.entries
    assert entries["aifsm.optimization.input_id"].value.text == frozen.log_id
    assert entries["aifsm.pruning.framework"].value.text.startswith("mlflow-aifsm ")
    assert entries["aifsm.pruning.patterns"].value.data["pattern"] == "block:2x4"
    assert "layer by layer, for 2 layers" in entries["aifsm.pruning.criteria"].value.text
    assert sparse.findings == ()
    assert sparse.model is None


def test_a_model_that_mlflow_saved_as_pt2_is_frozen_first_and_pruned_as_a_file(digits: Digits) -> None:
    mlflow.pytorch.log_model(digits.model, name="p", registered_model_name="pt2-digits", input_example=digits.images[:4])
    mlflow.end_run()
    sparse = aifsm.prune("models:/pt2-digits/1", aifsm.Magnitude(0.5))
    tags = mlflow.get_run(sparse.run_id).data.tags
    assert sparse.record.entries["aifsm.optimization.input_id"].value.text == tags["aifsm.conversion.log_id"]
    assert sparse.findings == ()


def test_zeros_that_no_log_explains_are_a_finding(digits: Digits) -> None:
    sparse = aifsm.prune(digits.model, aifsm.Magnitude(0.5), example_inputs=digits.example, verified_model="digits_1")
    int8 = aifsm.quantize(sparse.path, IMAGES[:300], verified_model="digits_1")
    assert "zeros_without_pruning" in {finding.code for finding in int8.findings}


class Tied(nn.Module):
    """Two linear layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)
        self.second.weight = self.first.weight

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(image)))


def test_a_shared_weight_is_pruned_once_and_the_log_says_so() -> None:
    torch.manual_seed(0)
    model = Tied().eval()
    sparse = aifsm.prune(model, aifsm.Magnitude(0.5), example_inputs=torch.rand(2, 16), verified_model="tied_1")
    assert sparse.model.first.weight is sparse.model.second.weight
    assert int((sparse.model.first.weight == 0).sum()) == 128
    assert any("first.weight = second.weight" in note for note in sparse.record.notes)
    assert sparse.findings == ()


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "layer name": (aifsm.Magnitude(0.5, layers=("cnv",)), {}, "layers names no layer; got 'cnv'.*nearest: conv"),
    "nothing left": (aifsm.Magnitude(0.5, keep_dense=("*",)), {}, "nothing to prune"),
    "large tiles": (aifsm.Magnitude(0.5, pattern="block:16x4"), {}, "pattern block:16x4 is larger than conv.weight"),
    "wide groups": (aifsm.Magnitude(pattern="8:16"), {}, "pattern 8:16 is larger than conv.weight"),
    "too little": (aifsm.Magnitude(0.001, pattern="channel"), {}, "prunes nothing"),
    "no data": (aifsm.Gradient(0.5), {"loss": nn.functional.cross_entropy}, "Gradient needs .* got no data"),
    "no loss": (aifsm.Gradient(0.5), {"data": IMAGES[:8]}, "Gradient needs .* got no loss"),
    "loss": (aifsm.Gradient(0.5), {"data": IMAGES[:8], "loss": "cross"}, "loss; got 'cross'; expected a function"),
    "adaptation": (aifsm.Magnitude(0.5, batch_norm_adaptation=64), {}, "batch_norm_adaptation needs data"),
    "fine_tune": (aifsm.Magnitude(0.5), {"fine_tune": 3}, "fine_tune; got 3"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_pruned_is_refused_before_a_run_starts(digits: Digits, experiment: str, kind: str) -> None:
    config, more, message = BAD[kind]
    with pytest.raises(InputError, match=message) as caught:
        aifsm.prune(digits.model, config, example_inputs=digits.example, verified_model="digits_1", **more)
    assert "\n" not in str(caught.value)
    assert mlflow.search_runs([experiment]).empty


def test_a_model_without_convolutions_and_linear_layers_has_nothing_to_prune() -> None:
    with pytest.raises(InputError, match="nothing to prune; got no weight"):
        aifsm.prune(nn.Sequential(nn.BatchNorm1d(4)).eval(), example_inputs=torch.rand(2, 4), verified_model="norm_1")


@pytest.mark.parametrize(
    ("config", "more", "message"),
    [
        (aifsm.Gradient(0.5), {}, "a frozen file has no gradients"),
        (aifsm.Magnitude(0.5, steps=2), {}, "a frozen file is not trained; got steps"),
        (aifsm.Magnitude(0.5), {"fine_tune": train}, "a frozen file is not trained; got fine_tune"),
    ],
)
def test_what_a_frozen_file_cannot_have_is_refused(digits: Digits, config: Any, more: dict[str, Any], message: str) -> None:
    frozen = aifsm.freeze(digits.model, digits.example, aifsm.Onnx(dynamic_shapes="batch"), verified_model="digits_1")
    with pytest.raises(InputError, match=message):
        aifsm.prune(frozen, config, **more)


def test_a_training_that_lets_weights_come_back_fails_and_the_log_says_so(digits: Digits) -> None:
    def careless(module: nn.Module) -> None:
        with torch.no_grad():
            module.fc.weight_mask.fill_(1)

    with mlflow.start_run() as run, pytest.raises(InputError, match="fine_tune let pruned weights come back"):
        aifsm.prune(digits.model, fine_tune=careless, example_inputs=digits.example, verified_model="digits_1")
    record = aifsm.load_record(run.info.run_id, log="optimization")
    assert record.failure.startswith("InputError: fine_tune let pruned weights come back")


def test_a_training_that_changes_nothing_is_noted(digits: Digits) -> None:
    sparse = aifsm.prune(digits.model, fine_tune=lambda _: None, example_inputs=digits.example, verified_model="digits_1")
    assert "fine_tune changed no parameter of the module that it got." in sparse.record.notes


def test_batch_normalizations_are_adapted_by_nncf_after_the_step(digits: Digits) -> None:
    config = aifsm.Magnitude(0.5, batch_norm_adaptation=256)
    sparse = aifsm.prune(digits.model, config, data=IMAGES, example_inputs=digits.example, verified_model="digits_1")
    recovery = recovery_of(sparse)
    assert "adapted by nncf.batch_norm_adaptation on 256 samples" in recovery.text
    assert recovery.brief == "batch_norm_adaptation"
