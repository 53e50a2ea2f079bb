"""A script as people have it: a CNN is trained on scikit-learn's digits, exported to ONNX, quantized by NNCF, and judged.

The three lines that end in ``# added`` log the export and the quantization, and write both reports into ``aifsm-reports``.
Without them the script does the same and writes the same models. Run it with ``python examples/existing_script.py``.
"""

from __future__ import annotations

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("NNCF_CI", "1")  # NNCF's own switch for its telemetry
os.environ.setdefault("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
import nncf
import numpy as np
import onnx
import onnxruntime
import torch
from sklearn.datasets import load_digits
from torch import nn

import mlflow_aifsm as aifsm  # added

TRAINED, CALIBRATED = 1000, 1300
"""Images before the first number train, those up to the second calibrate, the rest judge."""


def digits() -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32).reshape(-1, 1, 8, 8), labels


def trained(images: np.ndarray, labels: np.ndarray) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Flatten(), nn.Dropout(0.25), nn.Linear(32 * 16, 10)),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    inputs, targets = torch.from_numpy(images), torch.from_numpy(labels)
    for _ in range(4):
        for batch in torch.randperm(len(inputs)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()
            optimizer.step()
    return model.eval()


def quantized(path: str, images: np.ndarray) -> onnx.ModelProto:
    model = onnx.load(path)
    samples = nncf.Dataset(np.split(images, len(images)), lambda image: {"image": image})
    return nncf.quantize(model, samples, subset_size=len(images))


def accuracy(path: str, images: np.ndarray, labels: np.ndarray) -> float:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"image": images})
    return float((scores.argmax(1) == labels).mean())


def main() -> None:
    images, labels = digits()
    with mlflow.start_run():
        model = trained(images[:TRAINED], labels[:TRAINED])
        example, batch = torch.from_numpy(images[:2]), {0: torch.export.Dim("batch")}
        torch.onnx.export(
            model, (example,), "digits.onnx", input_names=["image"], dynamic_shapes=(batch,), external_data=False, verbose=False
        )
        onnx.save(quantized("digits.onnx", images[TRAINED:CALIBRATED]), "digits-int8.onnx")
        for path in ("digits.onnx", "digits-int8.onnx"):
            right = accuracy(path, images[CALIBRATED:], labels[CALIBRATED:])
            mlflow.log_metric(path.removesuffix(".onnx"), right)
            print(f"{path:18}{right:.4f} of the images that it has not seen are decided rightly")


if __name__ == "__main__":
    aifsm.autolog()  # added
    main()
    aifsm.render_report(mlflow.last_active_run().info.run_id, output="aifsm-reports/")  # added
