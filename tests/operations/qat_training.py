"""What the tests of quantization-aware training share: a small net, and a loop that trains it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

import mlflow_aifsm as aifsm
from mlflow_aifsm.operations.qat_session import QuantizationAwareTraining
from tests.models import digits, fitted
from tests.operations.quantized_models import SmallNet

TRAINED = 1200
"""Digits that the net was trained on; the rest is held out."""


def trained() -> nn.Module:
    """``SmallNet`` after two epochs, in evaluation mode."""
    return fitted(SmallNet, 2)


def calibration(count: int = 64) -> aifsm.Data:
    return aifsm.Data(digits()[0][:count], name="calibration")


def training_data() -> aifsm.Data:
    return aifsm.Data(digits()[0][:TRAINED], name="digits, training")


def held_out(**more: Any) -> aifsm.Verification:
    images, labels = digits()
    return aifsm.Verification(aifsm.Data(images[TRAINED:], name="held out"), labels[TRAINED:], **more)


def epoch(model: nn.Module, optimizer: torch.optim.Optimizer, samples: int = TRAINED) -> float:
    """One pass over the training digits; the last loss."""
    images, labels = digits()
    model.train()
    for batch in torch.randperm(samples).split(64):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(
            model(torch.from_numpy(images[batch.numpy()])), torch.from_numpy(labels[batch.numpy()])
        )
        loss.backward()
        optimizer.step()
    return float(loss.item())


def accuracy(model: nn.Module) -> float:
    """Share of held-out digits that the model decides rightly."""
    images, labels = digits()
    model.eval()
    with torch.no_grad():
        return float((model(torch.from_numpy(images[TRAINED:])).argmax(1).numpy() == labels[TRAINED:]).mean())


@contextmanager
def begun(config: Any = None, **settings: Any) -> Iterator[QuantizationAwareTraining]:
    torch.manual_seed(0)
    asked = aifsm.Static(subset_size=64) if config is None else config
    with aifsm.quantization_aware_training(trained(), calibration(), asked, **settings) as qat:
        yield qat


def run(
    epochs: int = 1, config: Any = None, rate: float = 1e-3, samples: int = 256, **settings: Any
) -> QuantizationAwareTraining:
    """A training of a few steps, told to the log as a careful user tells it."""
    with begun(config, **settings) as qat:
        optimizer = torch.optim.Adam([one for one in qat.model.parameters() if one.requires_grad], rate)
        qat.optimizer(optimizer, False)
        for _ in range(epochs):
            qat.epoch(loss=epoch(qat.model, optimizer, samples))
    return qat


def entry(result: aifsm.Result, key: str) -> aifsm.Entry:
    return result.record.entries[f"aifsm.recovery.{key}"]


def beside(result: aifsm.Result, name: str) -> Any:
    """A fact beside the row of quantization-aware training."""
    return next(fact for fact in entry(result, "qat").beside if fact.name == f"qat.{name}")


def codes(result: aifsm.Result) -> set[str]:
    return {finding.code for finding in result.findings}
