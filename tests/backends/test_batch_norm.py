"""NNCF's adaptation of batch normalizations, on modules whose masks are in force."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mlflow_aifsm.backends import torch_prune, torch_scores
from mlflow_aifsm.backends.batch_norm import Adapted, adapt
from mlflow_aifsm.capture.patterns import Pattern
from mlflow_aifsm.errors import InputError, OptimizationError
from mlflow_aifsm.samples import Data, Samples
from tests.backends.pruning_net import images, net, samples


def test_running_statistics_move_as_in_a_training_pass_and_nothing_else_changes() -> None:
    module = net()
    layers = torch_prune.prunable(module)
    torch_prune.apply(module, layers, torch_scores.magnitude(module, layers), Pattern.of("block:4x4"), 0.5, "global")
    before, expected = copy.deepcopy(module.state_dict()), copy.deepcopy(module)
    done = adapt(module, samples(), batch_size=20)
    assert done == Adapted("nncf.batch_norm_adaptation", ("norm",), 3, 50, (0.1,))
    after = module.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    assert len(torch_prune.finalize(module)) == len(layers)
    with torch.no_grad():
        for batch in torch.from_numpy(images()).split(20):
            expected.norm.train()(expected.conv(batch))
    assert torch.allclose(after["norm.running_mean"], expected.norm.running_mean, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_each_part_keeps_its_mode(training: bool) -> None:
    module = net().train(training)
    module.drop.train(not training)
    adapt(module, samples())
    assert [part.training for part in module.children()] == [training, training, training, training, not training, training]


def test_the_first_samples_are_used_where_a_number_is_given() -> None:
    done = adapt(net(), samples(), 30, batch_size=20)
    assert (done.samples, done.iterations) == (30, 2)
    assert done.text == (
        "running statistics of 1 batch normalization adapted by nncf.batch_norm_adaptation on 30 samples in 2 batches, "
        "momentum 0.1"
    )
    assert "on 1 sample in 1 batch, momentum" in adapt(net(), samples(), 1).text


def test_a_sequential_module_with_a_plain_mean_can_be_adapted() -> None:
    module = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8, momentum=None))
    done = adapt(module, samples())
    assert done.momentum == (None,)
    assert "momentum none (plain mean)" in done.text
    assert module[1].num_batches_tracked == 2


@pytest.mark.parametrize("norm", [nn.Identity(), nn.BatchNorm2d(8, track_running_stats=False), nn.GroupNorm(2, 8)])
def test_nothing_to_adapt_is_said(norm: nn.Module) -> None:
    done = adapt(nn.Sequential(nn.Conv2d(4, 8, 3), norm), samples())
    assert done == Adapted("", (), 0, 0, ())
    assert "nothing to adapt" in done.text


def test_no_samples_are_refused() -> None:
    with pytest.raises(InputError, match="no samples"):
        adapt(net(), Samples.of(Data(images(0))))


def test_samples_that_do_not_fit_are_told_with_the_name_of_the_call() -> None:
    with pytest.raises(OptimizationError, match=r"nncf\.batch_norm_adaptation failed: RuntimeError"):
        adapt(net(), Samples.of(images()[:, :2]))
