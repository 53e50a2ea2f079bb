"""From a trained model to a frozen and an integer one, each with its log: the whole flow on scikit-learn's digits.

Run it with ``mlflow run . --env-manager local`` or ``python examples/quickstart.py``. Everything stays on this machine: the
database is ``mlflow.db``, files go to ``mlartifacts``, nothing is downloaded.
"""

from __future__ import annotations

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("NNCF_CI", "1")  # NNCF's own switch for its telemetry
os.environ.setdefault("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # it writes between the lines

import argparse
from pathlib import Path

import mlflow
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import mlflow_aifsm as aifsm

SEED = 0


class DigitsNet(nn.Module):
    """A small CNN with the layers a freeze must deal with: BatchNorm, Dropout, a depthwise convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.25), nn.Linear(32 * 16, 10))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Class scores ``[n, 10]`` of images ``[n, 1, 8, 8]``, float32 in [0, 1]."""
        scores: torch.Tensor = self.head(self.features(image))
        return scores


def digits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Training, calibration and verification images ``[n, 1, 8, 8]``, float32 in [0, 1], with labels; no image in two sets."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    training, rest, training_labels, rest_labels = train_test_split(
        images, labels, test_size=0.5, random_state=SEED, stratify=labels
    )
    calibration, held_out, calibration_labels, held_out_labels = train_test_split(
        rest, rest_labels, test_size=0.6, random_state=SEED, stratify=rest_labels
    )
    return {
        "training": (training, training_labels),
        "calibration": (calibration, calibration_labels),
        "verification": (held_out, held_out_labels),
    }


def train(images: np.ndarray, labels: np.ndarray, epochs: int) -> DigitsNet:
    """A trained network in evaluation mode."""
    torch.manual_seed(SEED)
    model, inputs, targets = DigitsNet(), torch.from_numpy(images), torch.from_numpy(labels)
    mlflow.log_params({"epochs": epochs, "optimizer_name": "Adam", "lr": 0.002, "weight_decay": 0.0001, "seed": SEED})
    mlflow.log_params({"gradient_clip_val": 1.0, "lr_scheduler": "ExponentialLR"})
    optimizer = torch.optim.Adam(model.parameters(), lr=0.002, weight_decay=0.0001)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    for epoch in range(epochs):
        model.train()
        for batch in torch.randperm(len(inputs)).split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs[batch]), targets[batch])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        schedule.step()
        mlflow.log_metric("loss", loss.item(), step=epoch)
    return model.eval()


def register(model: DigitsNet, images: np.ndarray, labels: np.ndarray) -> str:
    """Registers the trained model as its users do, with an input example, and returns its URI."""
    with torch.no_grad():
        accuracy = (model(torch.from_numpy(images)).argmax(1).numpy() == labels).mean()
    mlflow.log_metric("test_accuracy", float(accuracy))
    logged = mlflow.pytorch.log_model(model, name="digits", input_example=images[:4], registered_model_name="digits")
    return f"models:/digits/{logged.registered_model_version}"


def main() -> None:
    """Trains, freezes, quantizes, renders both reports, and says where everything is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=8, help="passes over the training images")
    parser.add_argument("--responsible", default="", help="the person who converts; your account name if left out")
    options = parser.parse_args()
    project_run = os.environ.pop("MLFLOW_RUN_ID", None)  # of ``mlflow run``; it keeps its artifacts elsewhere
    data = digits()
    verification = aifsm.Verification(aifsm.Data(data["verification"][0], name="digits, verification"), data["verification"][1])
    with mlflow.start_run(experiment_id=experiment(), parent_run_id=project_run) as run:
        mlflow.log_input(
            mlflow.data.from_numpy(data["training"][0], targets=data["training"][1], name="digits, training"), "training"
        )
        source = register(train(*data["training"], options.epochs), *data["verification"])
        frozen = aifsm.freeze(
            source, verification=verification, responsible=options.responsible or None, registered_model_name="digits-frozen"
        )
        int8 = aifsm.quantize(
            frozen,
            aifsm.Data(data["calibration"][0], name="digits, calibration", labels=data["calibration"][1]),
            verification=verification,
            responsible=options.responsible or None,
            registered_model_name="digits-int8",
        )
    reports = aifsm.render_report(run.info.run_id, output="aifsm-reports/")
    conclude(run.info.run_id, frozen, int8, reports)


def experiment() -> str:
    """Id of this example's experiment, whose artifacts lie beside the database."""
    found = mlflow.get_experiment_by_name("digits")
    location = Path("mlartifacts").resolve().as_uri()
    return str(found.experiment_id if found else mlflow.create_experiment("digits", artifact_location=location))


def conclude(run_id: str, frozen: aifsm.Result, int8: aifsm.Result, reports: tuple[Path, ...]) -> None:
    """The table, and the lines to copy."""
    print()
    print(f"{'':10}{'accuracy':>10}{'largest deviation':>20}{'size':>12}  log")
    for name, result in (("frozen", frozen), ("int8", int8)):
        numbers = result.verification.numbers
        size = sum(file.size for file in result.record.output_files)
        print(f"{name:10}{numbers['accuracy_after']:>10.4f}{numbers['max_diff']:>20.2g}{size:>12,}  {result.record.status}")
    print()
    print(f"run      {run_id}")
    print(f"written  {', '.join(map(str, reports))}")
    print(f"report   mlflow-aifsm report {run_id}")
    print("look     mlflow server --backend-store-uri sqlite:///mlflow.db --artifacts-destination mlartifacts --port 5000")


if __name__ == "__main__":
    main()
