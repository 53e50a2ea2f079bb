"""MobileNetV2 trained to agree with its float self while its values are rounded to 8 bits: self-distillation, without labels.

Run it with ``python examples/qat_mobilenet.py``; weights and pictures are those of ``examples/mobilenet.py``. 300 steps of 8
crops take some 20 minutes on two cores.
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
import numpy as np
import torch
from torch import nn

import mlflow_aifsm as aifsm

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from examples.mobilenet import CALIBRATION, JUDGED, MobileNetV2, downloaded, pretrained, stacked

BATCH = 8
TRAINING_SEED = 3
RATE = 1e-4
CONFIG = aifsm.Static(subset_size=CALIBRATION[0], bias_correction=False)


def agreement(model: nn.Module, teacher: nn.Module, images: np.ndarray) -> float:
    """Share of crops that both decide alike, in evaluation mode."""
    model.eval()
    with torch.no_grad():
        pairs = [(model(part).argmax(1), teacher(part).argmax(1)) for part in torch.from_numpy(images).split(BATCH)]
    return float(torch.cat([one == other for one, other in pairs]).float().mean())


def distil(qat: aifsm.QuantizationAwareTraining, teacher: MobileNetV2, images: np.ndarray) -> None:
    """Trains the fake-quantized model to give the teacher's class probabilities; statistics of batch normalization stay."""
    trained = [one for one in qat.model.parameters() if one.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=RATE)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(images) // BATCH)
    qat.optimizer(optimizer, scheduler)
    qat.model.eval()
    for part in torch.from_numpy(images).split(BATCH):
        with torch.no_grad():
            wanted = teacher(part).softmax(1)
        optimizer.zero_grad()
        loss = nn.functional.kl_div(qat.model(part).log_softmax(1), wanted, reduction="batchmean")
        loss.backward()
        optimizer.step()
        scheduler.step()
    qat.epoch(loss=loss.item())


def main() -> None:
    """Trains, freezes, and says what it gained."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, help="torchvision's file; downloaded if left out")
    parser.add_argument("--steps", type=int, default=300, help="optimizer steps")
    parser.add_argument("--judged", type=int, default=JUDGED[0][0], help="crops to judge with")
    parser.add_argument("--responsible", help="the person who converts; your account name if left out")
    options = parser.parse_args()
    teacher = pretrained(options.weights or downloaded(Path()))
    images = stacked(options.steps * BATCH, TRAINING_SEED)
    judged = stacked(options.judged, JUDGED[0][1])
    calibration = aifsm.Data(stacked(*CALIBRATION), name="144 crops of 18 pictures, seed 1")
    mlflow.set_experiment("mobilenet")
    torch.manual_seed(0)
    with (
        mlflow.start_run(run_name="quantization-aware training"),
        aifsm.quantization_aware_training(
            teacher,
            calibration,
            CONFIG,
            training_data=aifsm.Data(images, name="crops, seed 3"),
            verified_model="mobilenet_2",
            responsible=options.responsible,
        ) as qat,
    ):
        before = agreement(qat.model, teacher, judged)
        distil(qat, teacher, images)
        limits = aifsm.Verification(
            aifsm.Data(judged, name="crops, seed 2"), limits={"agreement": before}, reason="what calibration alone gives"
        )
        int8 = qat.freeze(verification=limits, replication=limits)
    print(f"agreement before  {before:.3f}, as calibrated")
    print(f"agreement after   {1 - int8.verification.numbers['flips'] / int8.verification.samples:.3f}, of the integer file")
    print(int8.record.entries["aifsm.recovery.learned"].value.text)
    print(f"report            mlflow-aifsm report {int8.run_id}")


if __name__ == "__main__":
    main()
