"""What the objects of a training loop tell of training-specific operations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import mlflow_aifsm as aifsm
from mlflow_aifsm.capture.training import Training
from mlflow_aifsm.errors import InputError
from tests.models import Digits


def told(training: Training) -> dict[str, str]:
    return {fact.name: fact.value.text for fact in training.facts}


def optimizer(**settings: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1, **settings)


def test_weight_decay_is_read_from_the_optimizer() -> None:
    some = told(Training.of(optimizer(weight_decay=1e-4)))
    assert some == {"training.weight_regularization": "SGD, weight decay 0.0001; terms of the loss not stated"}
    none = told(Training.of(optimizer(), weight_regularization=False))
    assert none == {"training.weight_regularization": "SGD, weight decay 0; no term of the loss"}


def test_terms_of_the_loss_stand_beside_weight_decay() -> None:
    words = told(Training.of(optimizer(weight_decay=0.1), weight_regularization="L1, 1e-5"))
    assert words["training.weight_regularization"] == "SGD, weight decay 0.1; L1, 1e-5"


def test_a_schedule_is_named_with_its_settings() -> None:
    used = optimizer()
    words = told(Training.of(used, torch.optim.lr_scheduler.StepLR(used, step_size=3, gamma=0.5)))
    assert words["training.lr_scheduling"].startswith("StepLR (gamma 0.5, step_size 3")
    assert told(Training.of(scheduler=False)) == {"training.lr_scheduling": "Not used"}


@pytest.mark.parametrize(
    ("given", "text"), [(1.0, "Gradient clipping 1"), (False, "Not used"), ("by value, 0.5", "by value, 0.5")]
)
def test_gradient_clipping_is_as_stated(given: object, text: str) -> None:
    assert told(Training.of(gradient_clipping=given)) == {"training.gradient_clipping": text}


def test_what_is_left_out_stays_unknown() -> None:
    assert told(Training.of()) == {}


def test_label_smoothing_and_more_stand_in_the_open_row() -> None:
    words = told(Training.of(loss=nn.CrossEntropyLoss(label_smoothing=0.1), other=["exponential moving average, decay 0.999"]))
    assert words == {"training.other": "label smoothing 0.1 (CrossEntropyLoss), exponential moving average, decay 0.999"}


def test_what_is_no_optimizer_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected a torch\.optim\.Optimizer"):
        Training.of(optimizer=3)


@pytest.mark.usefixtures("experiment")
def test_a_freeze_prints_it_beside_the_file_and_finds_reused_data(digits: Digits) -> None:
    training = Training.of(
        optimizer(weight_decay=0.1), False, gradient_clipping=1.0, data=aifsm.Data(digits.images, name="all digits")
    )
    judged = aifsm.Verification(np.concatenate([digits.images[:5], digits.images[:5] * 0.5]), epsilon=1e-4, reason="a test")
    config = aifsm.Onnx(dynamic_shapes="batch")
    record = aifsm.freeze(
        digits.model, digits.example, config, verified_model="d_1", training=training, verification=judged
    ).record
    clipping = {fact.name: fact.value.text for fact in record.entries["aifsm.elimination.gradient_clipping"].beside}
    assert clipping == {"training.gradient_clipping": "Gradient clipping 1"}
    (finding,) = record.findings
    assert (finding.code, finding.measured) == ("data_reused", "5 samples are in both")
    assert finding.field == "aifsm.model.data_sets"
