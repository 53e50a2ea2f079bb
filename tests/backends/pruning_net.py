"""A small network with the layers that can be pruned, of sizes that 4 divides, and data for its gradients."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mlflow_aifsm.samples import Data, Samples

SIDE, CLASSES = 6, 8


class Net(nn.Module):
    """Convolution, batch normalization, transposed convolution in two groups, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 16, 3)
        self.norm = nn.BatchNorm2d(16)
        self.up = nn.ConvTranspose2d(16, 8, 2, groups=2)
        self.hidden = nn.Linear(8, 12)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(12, CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.up(torch.relu(self.norm(self.conv(image)))).mean((2, 3))
        return self.out(self.drop(torch.relu(self.hidden(features))))


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def images(count: int = 50) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 4, SIDE, SIDE), dtype=np.float32)


def labels(count: int = 50) -> np.ndarray:
    return np.random.default_rng(1).integers(0, CLASSES, count)


def samples(count: int = 50) -> Samples:
    return Samples.of(Data(images(count), labels=labels(count)))


def train(module: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    inputs, targets = torch.from_numpy(images()), torch.from_numpy(labels())
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module.train()(inputs), targets).backward()
        optimizer.step()
