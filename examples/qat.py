"""Accuracy that quantization lost, won back by training: scikit-learn's digits, quantized after training, then trained on.

Run it with ``python examples/qat.py``. The quantization that loses accuracy is NNCF's default: its fast bias correction
measures the border of the zero padding, which is most of so small an image. Training begins with it. Both runs lie in the
experiment ``digits, quantization-aware training`` of ``mlflow.db``, side by side; nothing is downloaded.
"""

from __future__ import annotations

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("NNCF_CI", "1")  # NNCF's own switch for its telemetry
os.environ.setdefault("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # it writes between the lines

import argparse
import sys
from pathlib import Path

import mlflow
import numpy as np
import torch
from torch import nn

import mlflow_aifsm as aifsm

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from examples.quickstart import SEED, digits

SAMPLES = 300
"""Calibration samples."""
CONFIG = aifsm.NNCF(subset_size=SAMPLES, advanced_parameters={"activations_quantization_params": {"per_channel": False}})
"""NNCF's defaults, bias correction among them, with one scale for each activation, which ONNX Runtime computes in integers."""
RATES = {"float": 0.005, "fake-quantized": 0.001}
"""Learning rates of the two trainings: less where scales are learned too."""
BATCH = 64


class PooledNet(nn.Module):
    """A small residual CNN with a depthwise convolution, its features averaged over the image."""

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        down = nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.start = nn.Sequential(*stem, *down)
        self.depthwise = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.BatchNorm2d(32), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(32, 10))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Class scores ``[n, 10]`` of images ``[n, 1, 8, 8]``, float32 in [0, 1]."""
        features = self.start(image)
        scores: torch.Tensor = self.head((features + self.depthwise(features)).mean((2, 3)))
        return scores


def train(images: np.ndarray, labels: np.ndarray, epochs: int) -> PooledNet:
    """The float model, in evaluation mode."""
    torch.manual_seed(SEED)
    model = PooledNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATES["float"], weight_decay=1e-4)
    for _ in range(epochs):
        step_through(model, optimizer, torch.from_numpy(images), torch.from_numpy(labels))
    return model.eval()


def step_through(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: torch.Tensor, targets: torch.Tensor) -> float:
    """One epoch; the loss of its last batch."""
    model.train()
    for batch in torch.randperm(len(inputs)).split(BATCH):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs[batch]), targets[batch])
        loss.backward()
        optimizer.step()
    return float(loss.item())


def loop(qat: aifsm.QuantizationAwareTraining, data: dict[str, tuple[np.ndarray, np.ndarray]], epochs: int) -> None:
    """The training loop, as for any other model; ``qat`` is told what cannot be seen."""
    inputs, targets = (torch.from_numpy(part) for part in data["training"])
    optimizer = torch.optim.Adam([one for one in qat.model.parameters() if one.requires_grad], lr=RATES["fake-quantized"])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    qat.optimizer(optimizer, scheduler)
    for _ in range(qat.epochs, epochs):
        loss = step_through(qat.model, optimizer, inputs, targets)
        scheduler.step()
        qat.epoch(loss=loss, accuracy=accuracy(qat.model, *data["calibration"]))


def accuracy(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of right decisions, in evaluation mode."""
    model.eval()
    with torch.no_grad():
        return float((model(torch.from_numpy(images)).argmax(1).numpy() == labels).mean())


def quantized(model: PooledNet, data: dict[str, tuple[np.ndarray, np.ndarray]], responsible: str | None) -> aifsm.Result:
    """The model frozen and quantized after training, in a run of its own."""
    with mlflow.start_run(run_name="quantized after training"):
        frozen = aifsm.freeze(model, data["calibration"][0][:4], aifsm.Onnx(dynamic_shapes="batch"), responsible=responsible)
        return aifsm.quantize(frozen, calibration(data), CONFIG, verification=held_out(data), responsible=responsible)


def trained(
    model: PooledNet,
    data: dict[str, tuple[np.ndarray, np.ndarray]],
    ptq: aifsm.Result,
    epochs: int,
    responsible: str | None,
) -> aifsm.Result:
    """The same quantization, trained on and frozen, in another run."""
    torch.manual_seed(SEED)
    with (
        mlflow.start_run(run_name="quantization-aware training"),
        aifsm.quantization_aware_training(
            model,
            calibration(data),
            CONFIG,
            training_data=aifsm.Data(data["training"][0], name="digits, training"),
            base=ptq,
            responsible=responsible,
        ) as qat,
    ):
        loop(qat, data, epochs)
        return qat.freeze(verification=held_out(data))


def calibration(data: dict[str, tuple[np.ndarray, np.ndarray]]) -> aifsm.Data:
    """The data that ranges are set with."""
    return aifsm.Data(data["calibration"][0], name="digits, calibration", labels=data["calibration"][1])


def held_out(data: dict[str, tuple[np.ndarray, np.ndarray]]) -> aifsm.Verification:
    """The data that both are judged by."""
    images, labels = data["verification"]
    return aifsm.Verification(aifsm.Data(images, name="digits, verification"), labels)


def main() -> None:
    """Trains, quantizes, trains on, renders the reports, and says what it gained."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6, help="passes over the training images with fake quantizers")
    parser.add_argument("--responsible", help="the person who converts; your account name if left out")
    options = parser.parse_args()
    data = digits()
    mlflow.set_experiment("digits, quantization-aware training")
    with mlflow.start_run(run_name="float training"):
        model = train(*data["training"], epochs=20)
    ptq = quantized(model, data, options.responsible)
    qat = trained(model, data, ptq, options.epochs, options.responsible)
    conclude(model, data, {"quantized after training": ptq, "trained on": qat})


def conclude(model: PooledNet, data: dict[str, tuple[np.ndarray, np.ndarray]], results: dict[str, aifsm.Result]) -> None:
    """The table, and where everything is."""
    print()
    print(f"{'float':26}{accuracy(model, *data['verification']):.4f}")
    for name, result in results.items():
        print(f"{name:26}{result.verification.numbers['accuracy_after']:.4f}  run {result.run_id}  {result.record.status}")
    print(results["trained on"].record.entries["aifsm.recovery.learned"].value.text)
    for result in results.values():
        print(f"written  {', '.join(map(str, aifsm.render_report(result.run_id, output='aifsm-reports/')))}")
    print("compare  mlflow server --backend-store-uri sqlite:///mlflow.db --port 5000, and tick both runs")


if __name__ == "__main__":
    main()
