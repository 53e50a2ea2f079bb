"""Small networks of five architectures, trained on the spot on scikit-learn's 1,797 digits: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from mlflow_aifsm.sources import Array

BRIGHTEST = 16.0
"""Largest value of a raw pixel; the networks are trained on pixels divided by it."""
TRAINED_ON = 1200
CALIBRATED_ON = 1400
"""Images are used in this order: training, calibration, verification."""
EPOCHS = 3

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Digits:
    """Images ``[n, 1, 8, 8]``, float32 in 0 … 1, with their labels ``[n]``."""

    images: Array
    labels: Array

    def part(self, chosen: slice | Array) -> Digits:
        """The images that ``chosen`` picks, with their labels."""
        return Digits(self.images[chosen], self.labels[chosen])

    @property
    def raw(self) -> Array:
        """The images before any preprocessing, 0 … 16."""
        return self.images * np.float32(BRIGHTEST)


@cache
def digits() -> Mapping[str, Digits]:
    """The digits by use: ``training``, ``calibration`` and ``verification``, which share no image."""
    images, labels = load_digits(return_X_y=True)
    pixels = (images / BRIGHTEST).astype(np.float32).reshape(-1, 1, 8, 8)
    cuts = {
        "training": slice(TRAINED_ON),
        "calibration": slice(TRAINED_ON, CALIBRATED_ON),
        "verification": slice(CALIBRATED_ON, None),
    }
    return {use: Digits(pixels[cut], labels[cut]) for use, cut in cuts.items()}


def trained(build: Callable[[], Network], seed: int = 0) -> Network:
    """A new network trained for a few epochs, in evaluation mode; another seed gives other weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build()
        _fit(network, digits()["training"], EPOCHS, 0.005)
        return network.eval()


def fine_tuned(network: nn.Module, data: Digits) -> None:
    """Trains ``network`` for another epoch on ``data``, in place and alike each time, and leaves it in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _fit(network.train(), data, 1, 0.001)
    network.eval()


def _fit(network: nn.Module, data: Digits, epochs: int, rate: float) -> None:
    inputs, targets = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(inputs)), 64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs[batch]), targets[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()


class Plain(nn.Module):
    """Convolution, batch normalization, dropout, linear."""

    def __init__(self, *, running: bool = True) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8, track_running_stats=running)
        self.drop, self.fc = nn.Dropout(0.25), nn.Linear(8 * 64, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Class scores ``[n, 10]`` of images ``[n, 1, 8, 8]``."""
        features = torch.relu(self.norm(self.conv(image))).flatten(1)
        return self.fc(self.drop(features))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """A depthwise separable convolution around which the signal is led, with ReLU6."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6())
        self.depthwise, self.pointwise = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)
        self.norm, self.fc = nn.BatchNorm2d(8), nn.Linear(8 * 16, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Class scores ``[n, 10]`` of images ``[n, 1, 8, 8]``."""
        first = self.stem(image)
        second = torch.relu(first + self.norm(self.pointwise(self.depthwise(first))))
        return self.fc(nn.functional.max_pool2d(second, 2).flatten(1))  # type: ignore[no-any-return]


class Separable(nn.Module):
    """Two depthwise separable convolutions in a row, with ReLU6, as in networks for small computers."""

    def __init__(self) -> None:
        super().__init__()
        layers = [_unit(1, 8, 3), _unit(8, 8, 3, groups=8), _unit(8, 16, 1), _unit(16, 16, 3, groups=16)]
        self.features, self.fc = nn.Sequential(*layers), nn.Linear(16 * 16, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Class scores ``[n, 10]`` of images ``[n, 1, 8, 8]``."""
        return self.fc(nn.functional.max_pool2d(self.features(image), 2).flatten(1))  # type: ignore[no-any-return]


def _unit(inputs: int, outputs: int, kernel: int, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


class Recurrent(nn.Module):
    """A GRU that reads the image line by line."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.fc = nn.GRU(8, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Class scores ``[n, 10]`` of images ``[n, 1, 8, 8]``."""
        return self.fc(self.gru(image.squeeze(1))[0][:, -1])  # type: ignore[no-any-return]


class Attention(nn.Module):
    """A transformer's encoder layer over the eight lines of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Linear(8, 32), nn.Parameter(torch.zeros(8, 32))
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.fc = nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Class scores ``[n, 10]`` of images ``[n, 1, 8, 8]``."""
        return self.fc(self.layer(self.embed(image.squeeze(1)) + self.position).mean(1))  # type: ignore[no-any-return]


def perceptron() -> nn.Sequential:
    """A multilayer perceptron with layer normalization and GELU."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.LayerNorm(64), nn.GELU(), nn.Dropout(0.1), nn.Linear(64, 10))
