"""Small real models on real data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn


class DigitsNet(nn.Module):
    """Convolution, batch normalization, dropout and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.25)
        self.fc = nn.Linear(8 * 64, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.fc(self.drop(torch.relu(self.norm(self.conv(image))).flatten(1)))


@dataclass(frozen=True)
class Digits:
    """A trained network in evaluation mode, and images ``[n, 1, 8, 8]`` that it has not seen."""

    model: nn.Module
    images: np.ndarray
    labels: np.ndarray

    @property
    def example(self) -> torch.Tensor:
        return torch.from_numpy(self.images[:4])


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits ``[n, 1, 8, 8]``, float32 in [0, 1], and their labels."""
    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32).reshape(-1, 1, 8, 8), labels


def trained_on(model: nn.Module, count: int, epochs: int, rate: float) -> None:
    """Trains ``model`` with Adam on the first ``count`` digits, in batches of 64."""
    images, labels = digits()
    inputs, targets = torch.from_numpy(images[:count]), torch.from_numpy(labels[:count])
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(epochs):
        for batch in torch.randperm(count).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()
            optimizer.step()


def fitted(kind: type[nn.Module], epochs: int) -> nn.Module:
    """A network of ``kind`` trained on the first 1,200 digits, in evaluation mode; the same at every call."""
    torch.manual_seed(0)
    model = kind()
    trained_on(model, 1200, epochs, 0.005)
    return model.eval()


@cache
def trained() -> Digits:
    images, labels = digits()
    return Digits(fitted(DigitsNet, 4), images[1200:], labels[1200:])
