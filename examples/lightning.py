"""Quantization-aware training in Lightning's ``Trainer``: one callback tells the log what the loop knows.

A small CNN is trained on scikit-learn's digits, trained on while its values are rounded to codes, and frozen to an integer
file. Lightning is not among the packages that mlflow-aifsm installs: ``pip install lightning``, then ``python
examples/lightning.py``. Everything stays on this machine, nothing is downloaded.
"""

from __future__ import annotations

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("NNCF_CI", "1")  # NNCF's own switch for its telemetry
os.environ.setdefault("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")

import argparse
import sys
from pathlib import Path

import mlflow
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import mlflow_aifsm as aifsm

if __name__ == "__main__":
    # the folder of a script is where Python looks first, and there this file would be taken for Lightning itself
    sys.path[0] = str(Path(__file__).resolve().parents[1])
from examples.quickstart import SEED, DigitsNet, digits

try:
    import lightning.pytorch as pl
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("this example needs Lightning: pip install lightning", name=error.name) from error

RATES = {"float": 0.005, "fake-quantized": 0.001}
"""Learning rates of the two trainings: less where scales are learned too."""


class Classifier(pl.LightningModule):
    """Trains any network that gives class scores; the same class for both trainings."""

    def __init__(self, network: nn.Module, rate: float) -> None:
        super().__init__()
        self.network, self.rate = network, rate

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        """Cross entropy of one batch, logged as ``loss``."""
        images, labels = batch
        loss = nn.functional.cross_entropy(self.network(images), labels)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[torch.optim.lr_scheduler.LRScheduler]]:
        """Adam, its rate falling by half with each epoch."""
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.rate)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


def fit(network: nn.Module, rate: float, loader: DataLoader, epochs: int, *callbacks: pl.Callback) -> None:
    """Trains ``network`` on the processor, quietly."""
    network.train()  # Lightning leaves each module in the mode in which it comes
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_epochs=epochs, accelerator="cpu", callbacks=list(callbacks), **quiet)
    trainer.fit(Classifier(network, rate), loader)


def main() -> None:
    """Trains, trains on codes, freezes, and says what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3, help="passes over the training images, in each training")
    parser.add_argument("--responsible", help="the person who converts; your account name if left out")
    options = parser.parse_args()
    data = digits()
    calibration = aifsm.Data(data["calibration"][0], name="digits, calibration")
    judged = aifsm.Verification(aifsm.Data(data["verification"][0], name="digits, verification"), data["verification"][1])
    pl.seed_everything(SEED, verbose=False)
    network = DigitsNet()
    loader = DataLoader(TensorDataset(*map(torch.from_numpy, data["training"])), batch_size=64, shuffle=True)
    fit(network, RATES["float"], loader, options.epochs)
    mlflow.set_experiment("digits, lightning")
    training = aifsm.quantization_aware_training(
        network.eval(), calibration, training_data=loader, responsible=options.responsible
    )
    with mlflow.start_run(), training as qat:
        fit(qat.model, RATES["fake-quantized"], loader, options.epochs, qat.callback())
        int8 = qat.freeze(verification=judged)
    numbers = int8.verification.numbers
    print(f"accuracy  {numbers['accuracy_before']:.4f} in float, {numbers['accuracy_after']:.4f} of the integer file")
    print(f"trained   {int8.record.entries['aifsm.recovery.qat'].value.text}")
    print(f"report    mlflow-aifsm report {int8.run_id}")


if __name__ == "__main__":
    main()
