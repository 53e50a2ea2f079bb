"""Example inputs of a PyTorch model from calibration data of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.operations.float_model import example
from mlflow_aifsm.samples import Samples

RNG = np.random.default_rng(5)
IMAGES = np.ones((8, 3, 8, 8), np.float32)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


class Two(torch.nn.Module):
    """A layer for each of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = torch.nn.Linear(5, 4), torch.nn.Linear(6, 4)

    def forward(self, u: torch.Tensor, v: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return scale * (self.left(u) + self.right(v))


def convolution() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))


def pairs(*arrays: np.ndarray) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*map(torch.from_numpy, arrays)), batch_size=4)


def test_the_inputs_of_forward_part_the_items_of_a_loader() -> None:
    left, right = example(Samples.of(pairs(normal(8, 5), normal(8, 6))), Two())
    assert (left.shape, right.shape) == ((2, 5), (2, 6))
    assert example(Samples.of(pairs(IMAGES, np.arange(8))), convolution()).shape == (2, 3, 8, 8)
    named = example(Samples.of({"u": normal(8, 5), "v": normal(8, 6)}), Two())
    assert {name: array.shape for name, array in named.items()} == {"u": (2, 5), "v": (2, 6)}


@pytest.mark.parametrize("source", [IMAGES, list(IMAGES), lambda: iter([IMAGES])], ids=["array", "list", "function of batches"])
def test_an_example_of_one_input_comes_from_any_source(source: Any) -> None:
    model = convolution()
    assert example(Samples.of(source), model).shape == (2, 3, 8, 8)
    assert model[1].num_batches_tracked == 0  # a copy was run


@pytest.mark.parametrize(
    ("source", "model", "message"),
    [
        (lambda: iter(IMAGES), convolution(), r"does not take the first calibration samples: .*; got shape \[2, 8, 8\]"),
        (normal(8, 5), Two(), "do not tell an example input; got 1 parts; expected what forward takes: u, v"),
        (pairs(normal(8, 6), normal(8, 5)), Two(), r"got shape \[2, 6\], shape \[2, 5\]"),
    ],
    ids=["a function of samples", "one part for two", "in another order"],
)
def test_an_example_that_does_not_fit_is_asked_for(source: Any, model: torch.nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=f"{message}.*pass example_inputs="):
        example(Samples.of(source), model)
