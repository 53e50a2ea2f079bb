"""Masks on a module: through steps and training, on shared weights, and gone at the end."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from mlflow_aifsm.backends import torch_prune, torch_scores
from mlflow_aifsm.backends.torch_weights import effective, refresh
from mlflow_aifsm.capture.patterns import Pattern
from mlflow_aifsm.errors import InputError, OptimizationError
from tests.backends.pruning_net import Net, images, net, train


class Tied(nn.Module):
    """An embedding whose weight is that of the last layer, and a layer under two paths."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(12, 8)
        self.inner = nn.Linear(8, 8)
        self.again = self.inner
        self.last = nn.Linear(8, 12, bias=False)
        self.last.weight = self.embedding.weight

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.last(self.again(self.inner(self.embedding(words))))


def pruned(module: nn.Module, pattern: str, amount: float, scope: str = "global") -> torch_prune.Applied:
    layers = torch_prune.prunable(module)
    return torch_prune.apply(module, layers, torch_scores.magnitude(module, layers), Pattern.of(pattern), amount, scope)


def stored(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("pattern", ["element", "vector:4", "block:4x4", "group", "channel", "2:4"])
@pytest.mark.parametrize("scope", ["global", "local"])
def test_what_a_step_pruned_stays_pruned_and_counts_in_the_next(pattern: str, scope: str) -> None:
    module = net()
    layers, parameters = torch_prune.prunable(module), list(module.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01)
    before: dict[str, np.ndarray] = {}
    for amount in (0.25, 0.5, 0.75):
        scores = torch_scores.magnitude(module, layers)
        applied = torch_prune.apply(module, layers, scores, Pattern.of(pattern), amount, scope)
        assert all(not (mask & ~before[name]).any() for name, mask in applied.masks.items() if before)
        assert applied.amount == pytest.approx(0.5 if pattern == "2:4" else amount, abs=0.04)
        train(module, optimizer)
        before = applied.masks
    assert {id(one) for one in module.parameters()} == {id(one) for one in parameters}
    torch_prune.finalize(module)
    for layer in layers:
        zero = layer.orientation.out_first(module.state_dict()[layer.tensor].numpy()) == 0
        assert (zero == ~before[layer.tensor]).all()


def test_of_weights_that_score_nothing_those_already_pruned_are_taken_first() -> None:
    module = nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 8))
    layers = torch_prune.prunable(module)
    first = {layer.tensor: np.arange(layer.size, 0, -1, dtype=np.float32).reshape(layer.shape) for layer in layers}
    for pattern in ("vector:4", "element"):
        one = copy.deepcopy(module)
        before = torch_prune.apply(one, layers, first, Pattern.of(pattern), 0.25, "local")
        nothing = {layer.tensor: np.zeros(layer.shape, np.float32) for layer in layers}
        after = torch_prune.apply(one, layers, nothing, Pattern.of(pattern), 0.5, "local")
        assert set(after.reached.values()) == {0.5}
        assert all(not (mask & ~before.masks[name]).any() for name, mask in after.masks.items())


def test_a_smaller_amount_than_is_pruned_changes_nothing() -> None:
    module = net()
    layers = torch_prune.prunable(module)
    for pattern in ("element", "vector:4", "channel"):
        one = copy.deepcopy(module)
        scores = torch_scores.magnitude(one, layers)
        before = torch_prune.apply(one, layers, scores, Pattern.of(pattern), 0.5, "local")
        after = torch_prune.apply(one, layers, scores, Pattern.of(pattern), 0.3, "local")
        assert all((mask == before.masks[name]).all() for name, mask in after.masks.items())
        assert set(after.thresholds.values()) == {None}


def test_whole_channels_are_selected_by_pytorch_on_both_orientations() -> None:
    module = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ConvTranspose2d(8, 6, 2), nn.Conv1d(4, 6, 3), nn.Conv3d(2, 6, 3))
    applied = pruned(module, "channel", 0.5, "local")
    assert applied.function == "torch.nn.utils.prune.ln_structured"
    assert applied.arguments["dim"] == {"0.weight": 0, "1.weight": 1, "2.weight": 0, "3.weight": 0}
    assert applied.arguments["amount"] == {"0.weight": 4, "1.weight": 3, "2.weight": 3, "3.weight": 3}
    torch_prune.finalize(module)
    assert (module[1].weight == 0).all(dim=0).flatten(1).all(dim=1).sum() == 3
    assert all((module[at].weight == 0).flatten(1).all(dim=1).sum() * 2 == len(module[at].weight) for at in (0, 2, 3))


def test_channels_of_a_grouped_transposed_convolution_are_those_of_its_outputs() -> None:
    torch.manual_seed(0)
    module = nn.ConvTranspose2d(8, 6, 2, groups=2, bias=False)
    applied = pruned(module, "channel", 0.5, "local")
    torch_prune.finalize(module)
    dead = ~applied.masks["weight"].reshape(6, -1).any(axis=1)
    outputs = module(torch.randn(1, 8, 3, 3)).detach()[0].flatten(1).abs().sum(dim=1)
    assert ((outputs == 0).numpy() == dead).all()
    assert dead.sum() == 3


def test_shared_weights_are_pruned_once_and_stay_tied() -> None:
    module = Tied()
    layers = torch_prune.prunable(module)
    assert [(layer.tensor, layer.shared) for layer in layers] == [
        ("inner.weight", ("again.weight",)),
        ("last.weight", ("embedding.weight",)),
    ]
    applied = pruned(module, "element", 0.5, "local")
    words = torch.arange(12)
    embedded = module.embedding(words)
    assert ((embedded == 0).numpy() == ~applied.masks["last.weight"]).all()
    assert torch_prune.finalize(module) == ("embedding.weight", "inner.weight", "last.weight")
    assert module.last.weight is module.embedding.weight
    assert sum(int((one == 0).sum()) for one in (module.last.weight, module.inner.weight)) == (96 + 64) / 2


def test_the_module_itself_can_be_the_layer() -> None:
    module = nn.Linear(8, 4)
    assert pruned(module, "element", 0.5).reached == {"weight": 0.5}
    assert torch_prune.finalize(module) == ("weight",)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_keep_theirs(kind: torch.dtype) -> None:
    module = net().to(kind)
    assert pruned(module, "block:4x4", 0.5).amount == pytest.approx(0.5, abs=0.02)
    torch_prune.finalize(module)
    assert {one.dtype for one in module.parameters()} == {kind}


def test_attention_keeps_the_weight_it_reads_without_calling_its_module() -> None:
    module = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert [layer.tensor for layer in torch_prune.prunable(module)] == ["linear1.weight", "linear2.weight"]


@pytest.mark.parametrize("tensor", ["weight", "bias"])
def test_a_mask_in_force_is_refused_by_name(tensor: str) -> None:
    module = net()
    prune.random_unstructured(module.hidden, tensor, 0.3)
    with pytest.raises(InputError, match=rf"'hidden\.{tensor}' is pruned already.*prune\.remove"):
        torch_prune.prunable(module)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("normed", "remedy"),
    [
        (parametrizations.weight_norm, "parametrize.remove_parametrizations on it first, or name the layer in keep_dense"),
        (nn.utils.weight_norm, "torch.nn.utils.remove_weight_norm"),
        (nn.utils.spectral_norm, "torch.nn.utils.remove_spectral_norm"),
    ],
)
def test_a_computed_weight_is_refused_by_name_where_it_is_chosen(normed: Callable[[nn.Module], object], remedy: str) -> None:
    module = net()
    normed(module.conv)
    layers = torch_prune.prunable(module)
    conv, others = layers[0], layers[1:]
    assert (conv.tensor, "Conv2d" in conv.aliases) == ("conv.weight", True)
    with pytest.raises(InputError, match=rf"'conv' is computed from other parameters.*{remedy}"):
        torch_prune.apply(module, layers, {}, Pattern.of("element"), 0.5, "global")
    applied = torch_prune.apply(module, others, torch_scores.magnitude(module, others), Pattern.of("element"), 0.5, "global")
    assert set(applied.masks) == set(torch_prune.masks(module, layers)) == {layer.tensor for layer in others}
    assert applied.amount == pytest.approx(0.5, abs=0.01)
    torch_prune.finalize(module)


def test_weights_that_no_pruning_reaches_are_told_with_their_share() -> None:
    module = nn.ModuleDict({"words": nn.Embedding(10, 8), "memory": nn.LSTM(8, 4), "last": nn.Linear(4, 6)})
    left = torch_prune.left_out(module)
    assert left.sizes == {"words.weight": 80, "memory.weight_ih_l0": 128, "memory.weight_hh_l0": 64}
    assert left.share == pytest.approx(272 / 296)
    assert left.text.startswith("91.9% of the weights ")
    assert left.text.endswith("memory.weight_ih_l0 (128), words.weight (80), memory.weight_hh_l0 (64).")
    assert torch_prune.left_out(net()).text == ""
    tied = torch_prune.left_out(Tied())
    assert (dict(tied.sizes), tied.share) == ({}, 0)


@pytest.mark.parametrize("module", [nn.LazyLinear(4), nn.Linear(2, 2, device="meta")])
def test_a_weight_without_values_is_refused(module: nn.Module) -> None:
    (layer,) = torch_prune.prunable(module)
    with pytest.raises(InputError, match=r"has no values.*keep_dense"):
        _ = layer.matrix


def test_layers_of_another_module_are_refused() -> None:
    layers, other = torch_prune.prunable(nn.Linear(8, 4)), nn.ReLU()
    with pytest.raises(InputError, match="parameter weight is gone"):
        torch_scores.magnitude(other, layers)


def test_masks_whose_hooks_somebody_took_off_are_found_at_the_end() -> None:
    module = net()
    pruned(module, "element", 0.5)
    module.hidden._forward_pre_hooks.clear()
    with pytest.raises(OptimizationError, match=r"masks are left.*hidden\.weight_orig"):
        torch_prune.finalize(module)


def test_nothing_changes_where_the_pruning_is_refused() -> None:
    module = net()
    before = stored(module)
    with pytest.raises(InputError):
        pruned(module, "block:64x4", 0.5)
    assert stored(module).keys() == before.keys()


def test_a_trained_module_can_be_copied_once_it_is_refreshed() -> None:
    module: Net = net()
    pruned(module, "element", 0.5)
    train(module, torch.optim.SGD(module.parameters(), lr=0.1))
    module(torch.from_numpy(images(2)))
    with pytest.raises(RuntimeError):
        copy.deepcopy(module)
    refresh(module)
    other = copy.deepcopy(module)
    assert torch.equal(effective(other, "conv.weight"), effective(module, "conv.weight"))
