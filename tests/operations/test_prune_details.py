"""What a pruning is not blamed for, what it must not disturb, and what it has to list."""

from __future__ import annotations

from contextlib import suppress

import mlflow
import numpy as np
import pytest
import torch
from torch import nn

import mlflow_aifsm as aifsm
from mlflow_aifsm.errors import AifsmError, InputError
from tests.models import Digits, digits

pytestmark = pytest.mark.usefixtures("experiment")

IMAGES, LABELS = (part[:256] for part in digits())


class Tokens(nn.Module):
    """A convolution, and a linear layer on three axes, whose weight the exporter gives a name of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mix = nn.Conv1d(4, 8, 3, padding=1), nn.Linear(8, 8)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        return self.mix(self.conv(text).transpose(1, 2))


def test_a_linear_layer_on_three_axes_is_looked_up_under_its_modules_name() -> None:
    torch.manual_seed(0)
    sparse = aifsm.prune(Tokens().eval(), aifsm.Magnitude(0.5), example_inputs=torch.rand(2, 4, 16), verified_model="tokens_1")
    assert sparse.findings == ()
    assert not [note for note in sparse.record.notes if "not looked up" in note]
    assert "recomputed from the parent's weights" in sparse.record.entries["aifsm.pruning.criteria"].value.text


class Residual(nn.Module):
    """A block whose last batch normalization begins at zero, as residual networks do: folded, its convolution is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        nn.init.zeros_(self.norm.weight)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.first(image))
        return features + self.norm(self.last(features))


@pytest.mark.parametrize("pattern", ["element", "block:4x4"])
def test_zeros_of_the_first_model_are_not_the_prunings(pattern: str) -> None:
    torch.manual_seed(0)
    config = aifsm.Magnitude(0.5, pattern=pattern)
    sparse = aifsm.prune(Residual().eval(), config, example_inputs=torch.rand(2, 1, 8, 8), verified_model="residual_1")
    assert sparse.findings == ()


def test_a_weight_that_was_zero_in_a_kept_block_breaks_no_pattern() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16)).eval()
    with torch.no_grad():
        model[0].weight[0, 0] = 0
        model[0].weight[:4, 1:4] = 1
    sparse = aifsm.prune(
        model, aifsm.Magnitude(0.5, pattern="block:4x4"), example_inputs=torch.rand(2, 16), verified_model="l_1"
    )
    assert sparse.findings == ()


def loader(count: int = 64) -> torch.utils.data.DataLoader[tuple[torch.Tensor, ...]]:
    rows = torch.utils.data.TensorDataset(torch.from_numpy(IMAGES[:count]), torch.from_numpy(LABELS[:count]))
    return torch.utils.data.DataLoader(rows, 16)


def test_what_is_watched_does_not_change_what_is_trained(digits: Digits) -> None:
    drawn: list[torch.Tensor] = []
    for verification in (None, aifsm.Verification(loader())):
        torch.manual_seed(5)
        aifsm.prune(
            digits.model,
            fine_tune=lambda _: drawn.append(torch.rand(3)),
            example_inputs=digits.example,
            verified_model="digits_1",
            verification=verification,
        )
        drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[2])
    assert torch.equal(drawn[1], drawn[3])


def test_a_metric_that_is_no_number_costs_a_cell_and_not_the_log(digits: Digits) -> None:
    metrics = {"f1": lambda _labels, _decided: float("nan")}
    verification = aifsm.Verification(digits.images, digits.labels, metrics=metrics)
    sparse = aifsm.prune(digits.model, example_inputs=digits.example, verified_model="digits_1", verification=verification)
    table = mlflow.artifacts.load_dict(f"runs:/{sparse.run_id}/aifsm/optimization/steps.json")
    assert {row[table["columns"].index("value")] for row in table["data"] if row[1] != "freeze"} == {None}


def test_data_that_gradients_come_from_are_listed_and_do_not_verify(digits: Digits) -> None:
    verification = aifsm.Verification(digits.images[:64], digits.labels[:64])
    seen = aifsm.Data(digits.images[:64], name="digits-seen", labels=digits.labels[:64])
    sparse = aifsm.prune(
        digits.model,
        aifsm.Gradient(0.2),
        data=seen,
        loss=nn.functional.cross_entropy,
        example_inputs=digits.example,
        verified_model="digits_1",
        verification=verification,
    )
    assert "data_reused" in {finding.code for finding in sparse.findings}
    assert "of cross_entropy on digits-seen, 64 samples" in sparse.record.entries["aifsm.pruning.criteria"].value.text
    used = mlflow.get_run(sparse.run_id).inputs.dataset_inputs
    assert "digits-seen" in {one.dataset.name for one in used}


def test_a_step_that_failed_is_no_step(digits: Digits) -> None:
    where = {"example_inputs": digits.example, "verified_model": "digits_1"}
    without, unknown = "an optimization without a step", aifsm.Magnitude(0.5, layers=("nope",))
    with pytest.raises(InputError, match=without), aifsm.optimization(digits.model, **where) as steps, suppress(AifsmError):
        steps.prune(unknown)
    with aifsm.optimization(digits.model, **where) as steps:
        with suppress(AifsmError):
            steps.quantize(None)
        steps.prune(aifsm.Magnitude(0.5))
    assert not steps.result.record.entries["aifsm.pruning.additional"].value.text.startswith("Step ")


def test_a_pruning_is_the_same_file_twice(digits: Digits) -> None:
    config = aifsm.Magnitude(0.5, "local", "vector:4")
    made = [aifsm.prune(digits.model, config, example_inputs=digits.example, verified_model="digits_1") for _ in range(2)]
    assert made[0].record.output_sha256 == made[1].record.output_sha256
    assert np.array_equal(made[0].model.fc.weight.detach(), made[1].model.fc.weight.detach())
