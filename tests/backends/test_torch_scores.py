"""Scores of a module's weights: what they are, that they do not depend on batches, that they leave no trace."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from mlflow_aifsm.backends import torch_prune, torch_scores
from mlflow_aifsm.capture.patterns import Pattern
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.samples import Data, Samples
from tests.backends.pruning_net import images, labels, net, samples

LOSS = nn.functional.cross_entropy


class Counting(nn.Module):
    """Counts its calls in a buffer, as some models do in evaluation mode too; one layer is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4 * 36, 8)
        self.unused = nn.Linear(3, 3)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.fc(image.flatten(1))


def gradients(module: nn.Module, **how: object) -> dict[str, np.ndarray]:
    layers = torch_prune.prunable(module)
    return torch_scores.gradient(module, layers, samples(), LOSS, **{"times_weight": False, **how})


def by_hand(module: nn.Module, size: int) -> dict[str, np.ndarray]:
    """|g| batch by batch, as everybody writes it, averaged by samples."""
    layers, sums = torch_prune.prunable(module), {}
    for part in torch.arange(len(images())).split(size):
        other = copy.deepcopy(module).eval()
        LOSS(other(torch.from_numpy(images())[part]), torch.from_numpy(labels())[part]).backward()
        for layer in layers:
            grad = other.get_parameter(layer.tensor).grad
            assert grad is not None
            share = layer.orientation.out_first(grad.abs().numpy()) * len(part) / len(images())
            sums[layer.tensor] = sums.get(layer.tensor, 0) + share
    return sums


def test_magnitude_is_the_absolute_weight_outputs_first() -> None:
    module = net()
    scores = torch_scores.magnitude(module, torch_prune.prunable(module))
    assert np.array_equal(scores["conv.weight"], module.conv.weight.detach().abs().numpy())
    assert scores["up.weight"].shape == (8, 8, 2, 2)
    assert scores["up.weight"][5, 3, 1, 0] == abs(float(module.up.weight[8 + 3, 1, 1, 0].detach()))


@pytest.mark.parametrize("size", [1, 7, 32, 64])
def test_absolute_gradients_are_averaged_over_batches(size: int) -> None:
    module = net()
    expected = by_hand(module, size)
    for name, score in gradients(module, batch_size=size).items():
        assert np.allclose(score, expected[name], rtol=1e-4, atol=1e-7)


def test_times_weight_is_the_product() -> None:
    module = net()
    magnitude = torch_scores.magnitude(module, torch_prune.prunable(module))
    plain, product = gradients(module), gradients(module, times_weight=True)
    assert all(np.allclose(product[name], plain[name] * magnitude[name], rtol=1e-6) for name in plain)


def test_the_module_is_left_as_it_was() -> None:
    module = Counting().train()
    module.fc.bias.requires_grad_(False)
    module.fc.weight.requires_grad_(False)
    module.fc.weight.grad = torch.ones_like(module.fc.weight)
    before, modes = copy.deepcopy(module.state_dict()), [part.training for part in module.modules()]
    layers = torch_prune.prunable(module)[:1]
    scores = torch_scores.gradient(module, layers, samples(), LOSS, times_weight=False)
    assert scores["fc.weight"].any()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert [part.training for part in module.modules()] == modes
    assert not module.fc.weight.requires_grad
    assert (module.fc.weight.grad == 1).all()


def test_dropout_and_batch_statistics_play_no_part() -> None:
    module = net().train()
    assert all(np.array_equal(one, gradients(module)[name]) for name, one in gradients(module).items())


def test_masked_weights_score_zero_and_the_module_can_be_copied() -> None:
    module = net()
    layers = torch_prune.prunable(module)
    applied = torch_prune.apply(module, layers, torch_scores.magnitude(module, layers), Pattern.of("vector:4"), 0.5, "local")
    for times_weight in (True, False):
        scores = torch_scores.gradient(module, layers, samples(), LOSS, times_weight=times_weight)
        assert all(not scores[name][~mask].any() for name, mask in applied.masks.items())
        assert all(scores[name][mask].any() for name, mask in applied.masks.items())
    copy.deepcopy(module)


def test_progress_tells_samples_done() -> None:
    seen: list[tuple[int, int | None]] = []
    gradients(net(), batch_size=20, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(20, 50), (40, 50), (50, 50)]


def test_a_layer_that_the_loss_does_not_depend_on_is_told() -> None:
    with pytest.raises(InputError, match=r"does not depend on unused\.weight.*keep_dense"):
        gradients(Counting())


def test_data_without_labels_are_refused() -> None:
    module = net()
    with pytest.raises(InputError, match="no labels"):
        torch_scores.gradient(module, torch_prune.prunable(module), Samples.of(images()), LOSS, times_weight=True)


def test_no_samples_are_refused() -> None:
    module, nothing = net(), Samples.of(Data(images(0), labels=labels(0)))
    with pytest.raises(InputError, match="no samples"):
        torch_scores.gradient(module, torch_prune.prunable(module), nothing, LOSS, times_weight=True)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda outputs, _: outputs, "cannot be differentiated; got shape"),
        (lambda *_: 1.0, "cannot be differentiated; got float"),
        (lambda *_: torch.tensor(1.0), "cannot be differentiated"),
        (lambda outputs, _: outputs.sum() * float("nan"), "loss is not finite"),
        (lambda outputs, _: outputs.sum() * 0, "all gradients are zero"),
    ],
)
def test_a_loss_that_says_nothing_is_refused(loss: Callable[..., object], words: str) -> None:
    module = net()
    with pytest.raises(InputError, match=words):
        torch_scores.gradient(module, torch_prune.prunable(module), samples(), loss, times_weight=True)
    assert module.training


def test_weights_that_are_not_finite_are_refused_by_name() -> None:
    module = net()
    with torch.no_grad():
        module.hidden.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match=r"scores of hidden\.weight are not finite"):
        torch_scores.magnitude(module, torch_prune.prunable(module))


def misshapen(side: int) -> Samples:
    return Samples.of(Data(images()[:, :, :side], labels=labels()))


@pytest.mark.parametrize(
    ("data", "loss", "words"),
    [
        (misshapen(1), LOSS, r"the data do not fit the module; got float32 \[8, 4, 1, 6\]: RuntimeError: "),
        (samples(), torch.matmul, r"the loss does not fit; got float32 \[8, 8\], int64 \[8\]: RuntimeError: "),
        (samples(), lambda outputs: outputs.mean(), r"the loss does not fit; got .*TypeError: "),
        (Samples.of(images()), LOSS, "no labels"),
    ],
)
def test_data_and_loss_that_do_not_fit_are_told_with_their_shapes(data: Samples, loss: torch_scores.Loss, words: str) -> None:
    module = net()
    layers = torch_prune.prunable(module)
    with pytest.raises(InputError, match=words):
        torch_scores.tried(module, layers, data, loss)
    with pytest.raises(InputError, match=words):
        torch_scores.gradient(module, layers, data, loss, times_weight=True)


def test_a_trial_reads_one_batch_and_leaves_no_trace() -> None:
    module, read = net().train(), []
    before, random = copy.deepcopy(module.state_dict()), torch.random.get_rng_state()

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        read.append(len(targets))
        return LOSS(outputs + torch.rand(()), targets)

    torch_scores.tried(module, torch_prune.prunable(module), samples(), loss)
    assert read == [torch_scores.BATCH]
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(one.grad is None for one in module.parameters())
    assert torch.equal(torch.random.get_rng_state(), random)
