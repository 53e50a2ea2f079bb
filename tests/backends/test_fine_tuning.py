"""What a training really did, whoever wrote it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.utils import prune
from torch.optim.optimizer import _global_optimizer_post_hooks

from mlflow_aifsm.backends import torch_prune, torch_scores
from mlflow_aifsm.backends.fine_tuning import FineTuned, observed
from mlflow_aifsm.capture.patterns import Pattern
from mlflow_aifsm.errors import OptimizationError
from tests.backends.pruning_net import Net, net, train


def masked() -> Net:
    module = net()
    layers = torch_prune.prunable(module)
    torch_prune.apply(module, layers, torch_scores.magnitude(module, layers), Pattern.of("element"), 0.5, "global")
    return module


def test_optimizers_rates_steps_and_seed_are_seen() -> None:
    module = masked()
    torch.manual_seed(11)
    with observed(module) as seen:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        for _ in range(3):
            train(module, optimizer, 1)
            schedule.step()
        train(module, torch.optim.AdamW(module.parameters(), lr=0.03), 2)
    found = seen()
    assert found.optimizers == ("SGD", "AdamW")
    assert found.steps == 5
    assert found.learning_rates == pytest.approx((0.025, 0.1, 0.03))
    assert found.settings["momentum"] == [0.9]
    assert found.settings["betas"] == [[0.9, 0.999]]
    assert found.settings["weight_decay"] == [0.01]
    assert found.seed == 11
    assert found.seconds > 0
    assert found.masks_held
    assert set(found.trained) == {name for name, _ in net().named_parameters()}


def test_another_optimizer_of_another_module_is_not_counted() -> None:
    module, other = masked(), net(1)
    with observed(module) as seen:
        train(other, torch.optim.SGD(other.parameters(), lr=0.1))
    assert seen() == FineTuned((), 0, None, {}, seen().seed, seen().seconds, (), {})


def test_a_training_of_a_copy_changed_nothing() -> None:
    module = masked()
    other = copy.deepcopy(module)
    with observed(module) as seen:
        train(other, torch.optim.SGD(other.parameters(), lr=0.1))
    assert not seen().changed


def test_part_of_the_parameters_is_told_by_name() -> None:
    module = masked()
    with observed(module) as seen:
        train(module, torch.optim.SGD(module.out.parameters(), lr=0.1))
    assert set(seen().trained) == {"out.weight", "out.bias"}


def test_an_update_without_an_optimizer_shows_in_the_weights() -> None:
    module = masked()
    with observed(module) as seen, torch.no_grad():
        module.out.bias.add_(1)
    assert (seen().steps, seen().learning_rates, seen().trained) == (0, None, ("out.bias",))


def test_weights_that_came_back_are_counted() -> None:
    module = masked()
    zeros = int((module.hidden.weight_mask == 0).sum())
    with observed(module) as seen:
        prune.remove(module.hidden, "weight")
        train(module, torch.optim.SGD(module.parameters(), lr=0.1))
    assert not seen().masks_held
    assert 0 < seen().regrown["hidden.weight"] <= zeros
    assert set(seen().regrown) == {"hidden.weight"}


def test_a_training_that_diverged_does_not_hold_its_zeros() -> None:
    module = masked()
    with observed(module) as seen, torch.no_grad():
        module.hidden.weight_orig.fill_(float("nan"))
    assert seen().regrown == {"hidden.weight": int((module.hidden.weight_mask == 0).sum())}


def test_nothing_is_seen_after_the_block_and_nothing_told_within() -> None:
    module = masked()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    with observed(module) as seen:
        with pytest.raises(OptimizationError, match="has not ended"):
            seen()
        train(module, optimizer, 1)
    train(module, optimizer, 4)
    assert seen().steps == 1


def test_the_hook_is_gone_when_the_training_fails() -> None:
    known, module = dict(_global_optimizer_post_hooks), masked()

    def failing() -> None:
        with observed(module):
            assert len(_global_optimizer_post_hooks) == len(known) + 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert known == _global_optimizer_post_hooks
