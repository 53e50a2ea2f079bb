"""What a training says of odd models: weights used twice, scalar outputs, layers that a runtime fuses, failing freezes."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from torch import nn

import mlflow_aifsm as aifsm
from mlflow_aifsm import audit
from mlflow_aifsm.errors import InputError, TrackingError
from mlflow_aifsm.operations.qat_session import QuantizationAwareTraining
from mlflow_aifsm.operations.qat_watch import Watch
from mlflow_aifsm.verification import integer_execution
from tests.operations.qat_training import begun, beside, codes, held_out, run

SAMPLES = np.random.default_rng(0).random((16, 8), dtype=np.float32)


class Twice(nn.Module):
    """A layer that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.inner(torch.relu(self.inner(rows)))))


class Scalar(nn.Module):
    """A network whose output has no axis."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.layer(rows).mean()


def trained(model: nn.Module, steps: int = 2, rate: float = 0.01) -> QuantizationAwareTraining:
    torch.manual_seed(0)
    with aifsm.quantization_aware_training(model, SAMPLES, aifsm.Static(subset_size=16)) as qat:
        optimizer = torch.optim.SGD(qat.model.parameters(), rate)
        for _ in range(steps):
            optimizer.zero_grad()
            qat.model(torch.from_numpy(SAMPLES)).square().mean().backward()
            optimizer.step()
    return qat


def stepped(optimizers: list[torch.optim.Optimizer], model: nn.Module, steps: int) -> None:
    for _ in range(steps):
        model(torch.from_numpy(SAMPLES)).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.parametrize("steps", [0, 2])
def test_a_weight_that_is_used_twice_has_the_scale_of_each_of_its_quantizers(experiment: str, steps: int) -> None:
    int8 = trained(Twice(), steps).freeze()
    assert "scale_not_as_trained" not in codes(int8)
    text = int8.record.entries["aifsm.recovery.learned"].value.text
    assert "6 of 6 have the trained scale in the file" in text


def test_a_layer_that_the_runtime_fuses_is_named_as_in_the_file_and_not_called_float(experiment: str) -> None:
    torch.manual_seed(0)
    int8 = trained(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), 10).freeze()
    assert [name.partition(" ")[0] for name in integer_execution.float_layers(int8.path)] == ["fused"]
    fact = beside(int8, "float_layers").value
    assert fact.text == "Computed in float: layers.0: ONNX Runtime has no kernel on integers for it"


def test_a_scalar_output_is_compared_on_all_samples(experiment: str) -> None:
    assert "; 16 samples" in beside(trained(Scalar()).freeze(), "agreement").value.text


def test_steps_of_each_optimizer_are_counted_once_however_often_they_are_read() -> None:
    model = Twice()
    watch = Watch(model, [])
    with watch.watching():
        parts = [torch.optim.SGD(part.parameters(), 0.01) for part in (model.inner, model.last)]
        stepped([*parts, torch.optim.Adam([{"params": [one]} for one in model.parameters()], 0.1)], model, 10)
    assert [watch.steps for _ in range(3)] == [30, 30, 30]


def test_an_optimizer_made_anew_goes_on_with_the_same_group() -> None:
    model = Twice()
    watch = Watch(model, [])
    with watch.watching():
        for _ in range(3):
            stepped([torch.optim.SGD(model.parameters(), 0.01)], model, 5)
    assert [watch.groups[0].rates for _ in range(2)] == [[[0.01, 15]], [[0.01, 15]]]
    assert (len(watch.groups), watch.steps) == (1, 15)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"config": aifsm.Onnx(exporter="torchscript")}, "exporter of an integer file"),
        ({"example_inputs": "x"}, "example inputs"),
        ({"verification": aifsm.Verification(np.zeros((4, 9), np.float32))}, "held-out data do not fit|forward takes|shape"),
    ],
)
def test_a_freeze_that_failed_can_be_called_again(experiment: str, wrong: dict[str, object], words: str) -> None:
    qat = trained(Twice())
    with pytest.raises(InputError, match=words):
        qat.freeze(**wrong)
    assert mlflow.MlflowClient().get_run(qat.run_id).data.tags["aifsm.optimization.status"] == "failed"
    int8 = qat.freeze()
    tags = mlflow.MlflowClient().get_run(qat.run_id).data.tags
    assert (int8.run_id, tags["aifsm.optimization.status"]) == (qat.run_id, str(int8.record.status))
    assert aifsm.load_record(qat.run_id).failure == ""
    with pytest.raises(InputError, match="is finished"):
        qat.freeze()


def test_a_freeze_that_mlflow_refused_can_be_called_again(experiment: str, tmp_path: Path) -> None:
    qat = trained(Twice())
    blocked = tmp_path / "artifacts"
    shutil.rmtree(blocked, ignore_errors=True)
    blocked.write_text("a file where MLflow wants a folder", "utf-8")
    with pytest.raises(TrackingError):
        qat.freeze()
    blocked.unlink()
    int8 = qat.freeze()
    tags = mlflow.MlflowClient().get_run(qat.run_id).data.tags
    assert tags["aifsm.optimization.status"] == str(int8.record.status) != "failed"
    # what MLflow refused is not unsaid: that conversion stays a failed one, and the second has a run of its own
    assert tags["aifsm.conversion.status"] == "failed"
    assert any("holds a conversion log already" in note for note in qat.conversion.record.notes)
    for run_id, log, result in ((qat.run_id, "optimization", int8), (qat.conversion.run_id, "conversion", qat.conversion)):
        (evidence,) = audit.read(run_id, log)
        assert (evidence.sha256, evidence.record.failure) == (result.record.sha256, "")
        assert not [check for check in evidence.checks if check.holds is False]


@pytest.mark.parametrize("value", [None, "abc", "1", torch.tensor([1.0, 2.0]), [1.0]])
def test_a_metric_that_is_no_number_is_refused(experiment: str, value: object) -> None:
    with pytest.raises(InputError, match=r"metric 'accuracy' of an epoch.*expected one number"), begun() as qat:
        qat.epoch(accuracy=value)


def test_a_name_that_is_no_string_is_refused(experiment: str) -> None:
    with pytest.raises(InputError, match="name of a metric; got 3"), begun() as qat:
        qat.epoch({3: 1.0})


def test_a_metric_that_is_not_finite_is_kept_over_an_interruption(experiment: str, tmp_path: Path) -> None:
    with begun(checkpoint=tmp_path / "state") as qat:
        qat.epoch(loss=float("nan"))
    with begun(checkpoint=tmp_path / "state", resume=True) as again:
        assert again.epochs == 1
    assert np.isnan(again.metrics[0]["loss"])


def test_one_epoch_of_one_step_is_said_in_the_singular(experiment: str) -> None:
    int8 = run(samples=64).freeze(verification=held_out())
    assert "Quantization-aware training: 1 epoch, 1 optimizer step seen" in int8.record.entries["aifsm.recovery.qat"].value.text
