"""Samples as a module takes them, and evaluation mode that leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from mlflow_aifsm.backends.torch_batches import batches, evaluation
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.samples import Data, Samples

FIRST, SECOND = np.arange(12.0).reshape(6, 2), np.arange(6, dtype=np.int32).reshape(6, 1)


class Two(nn.Module):
    """Two inputs, one that may be left out, and a buffer that each call replaces."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 3)
        self.norm = nn.BatchNorm1d(3, track_running_stats=False)
        self.register_buffer("last", torch.zeros(1))
        self.register_buffer("cache", None)

    def forward(self, left: torch.Tensor, right: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        self.last, self.cache = left.sum().reshape(1), right
        return self.norm(self.fc(left)) * right * scale


@pytest.mark.parametrize("source", [(FIRST, SECOND), {"right": SECOND, "left": FIRST}], ids=["tuple", "dict"])
def test_inputs_come_in_the_order_of_forward_floats_in_the_type_of_the_weights(source: object) -> None:
    labels = np.arange(6, dtype=np.uint8)
    found = list(
        batches(Two(), Samples.of(Data(source if isinstance(source, dict) else lambda: [source], labels=labels)), 4, {})
    )
    assert [len(one) for (one, _), _ in found] == [4, 2]
    (left, right), said = found[0]
    assert torch.equal(left, torch.from_numpy(FIRST[:4]).float())
    assert right.dtype == torch.int32
    assert said is not None
    assert (said.dtype, said.tolist()) == (torch.int64, [0, 1, 2, 3])


def test_labels_of_a_regression_have_the_type_of_the_weights() -> None:
    _, labels = next(batches(nn.Linear(2, 1).half(), Samples.of(Data(FIRST, labels=FIRST)), 4, {}))
    assert labels is not None
    assert labels.dtype == torch.float16


def test_axes_tell_a_sample_of_a_function_from_a_batch() -> None:
    def one_by_one() -> Iterator[np.ndarray]:
        yield from FIRST

    (inputs,), labels = next(batches(nn.Linear(2, 1), Samples.of(one_by_one), 4, {"input": 2}))
    assert inputs.shape == (4, 2)
    assert labels is None


def test_data_of_other_names_are_refused() -> None:
    with pytest.raises(InputError, match=r"do not name the model's inputs; got \['a', 'b'\]; expected \['left', 'right'\]"):
        next(batches(Two(), Samples.of({"a": FIRST, "b": SECOND}), 4, {}))


def test_modes_and_buffers_come_back_replaced_ones_too() -> None:
    module = Two()
    module.norm.eval()
    kept = module.last
    with evaluation(module):
        assert not any(part.training for part in module.modules())
        module(torch.ones(4, 2), torch.ones(4, 1))
        assert float(module.last) == 8
    assert module.last is kept
    assert float(kept) == 0
    assert module.cache is None
    assert [part.training for part in module.modules()] == [True, True, False]
