"""Small networks, each with something that an integer file must get right or name."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from mlflow_aifsm.backends import nncf_training
from mlflow_aifsm.backends.integer_export import IntegerFile, integer_file

PER_TENSOR = {"advanced_parameters": {"activations_quantization_params": {"per_channel": False}}}


def normalized(channels: int) -> nn.BatchNorm2d:
    """A batch normalization as training leaves it, half of its gains negative and one zero."""
    made = nn.BatchNorm2d(channels)
    with torch.no_grad():
        made.weight.copy_(torch.linspace(-1.5, 2, channels))
        made.weight[1] = 0.0
        made.bias.uniform_(-1, 1)
        made.running_mean.normal_()
        made.running_var.uniform_(0.5, 2)
    return made


class Residual(nn.Module):
    """A depthwise convolution, a residual addition, an average pool, normalizations with negative and zero gains."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 8, 3, padding=1), normalized(8)
        self.depth, self.depth_norm = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), normalized(8)
        self.point, self.point_norm, self.six = nn.Conv2d(8, 8, 1), normalized(8), nn.ReLU6()
        self.head = nn.Linear(8, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        start = torch.relu(self.norm(self.stem(image)))
        inner = self.point_norm(self.point(self.six(self.depth_norm(self.depth(start)))))
        return self.head(nn.functional.avg_pool2d(start + inner, 8).flatten(1))


class Concatenated(nn.Module):
    """Two convolutions into one tensor, and two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.join = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(8, 4, 3)
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(64, 3)

    def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        both = torch.cat([torch.relu(self.left(one)), torch.relu(self.right(other))], 1)
        return self.head(self.pool(torch.relu(self.join(both))).flatten(1))


class Smooth(nn.Module):
    """An activation that is no clamp behind a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.last(nn.functional.silu(self.conv(image)))


class Transposed(nn.Module):
    """A transposed convolution with a normalization behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up, self.norm, self.out = (
            nn.Conv2d(1, 4, 3),
            nn.ConvTranspose2d(4, 6, 2, 2),
            normalized(6),
            nn.Conv2d(6, 2, 1),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.norm(self.up(torch.relu(self.conv(image))))))


class Grouped(nn.Module):
    """A transposed convolution whose groups share the scales of its weight, with a bias of its own or a normalization."""

    def __init__(self, groups: int = 4, bias: bool = True) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 8, 2, 2, groups=groups, bias=bias)
        self.norm, self.out = nn.Identity() if bias else normalized(8), nn.Conv2d(8, 2, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.norm(self.up(torch.relu(self.conv(image))))))


class GroupedNormalized(Grouped):
    """With a normalization, which cannot be folded."""

    def __init__(self) -> None:
        super().__init__(groups=2, bias=False)


class Recurrent(nn.Module):
    """An LSTM between linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.cells, self.head = nn.Linear(8, 8), nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        return self.head(self.cells(torch.relu(self.enter(steps)))[0][:, -1])


SHAPES = {Residual: ((1, 8, 8),), Concatenated: ((1, 10, 10), (1, 10, 10)), Smooth: ((1, 8, 8),), Transposed: ((1, 8, 8),)}
SHAPES |= {Recurrent: ((5, 8),), Grouped: ((1, 8, 8),), GroupedNormalized: ((1, 8, 8),)}


@cache
def made(
    kind: type[nn.Module], activations: str = "uint8", preset: str = "mixed"
) -> tuple[nn.Module, IntegerFile, tuple[torch.Tensor, ...]]:
    """The fake-quantized net of ``kind`` as calibration leaves it, its integer file, and 16 samples of its inputs."""
    torch.manual_seed(0)
    net = kind().eval()
    samples = tuple(torch.rand(16, *shape) for shape in SHAPES[kind])
    items = [tuple(part[place : place + 1] for part in samples) for place in range(16)]
    model = nncf_training.quantized(net, items, {"preset": preset, "subset_size": 16, **PER_TENSOR}).model
    return model, integer_file(model, (samples, {}), activations, dynamic_shapes="batch"), samples
