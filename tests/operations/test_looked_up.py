"""What was asked of a pruning, looked up on the exported file; files that were changed behind the log are found out."""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from mlflow_aifsm.backends import torch_prune, torch_scores
from mlflow_aifsm.measurement import measure
from mlflow_aifsm.operations import sources
from mlflow_aifsm.operations.configs import Onnx
from mlflow_aifsm.operations.freeze import exported_file
from mlflow_aifsm.operations.pruned import Pruned, looked_up
from mlflow_aifsm.operations.pruning import Gradient, Magnitude, Pruning
from mlflow_aifsm.samples import Data, Samples

PATTERNS = ("element", "vector:4", "block:4x4", "group", "channel", "2:4")
SCOPES = ("global", "local")
IMAGES = np.random.default_rng(5).normal(size=(64, 4, 8, 8)).astype(np.float32)
SAMPLES = Samples.of(Data(IMAGES, labels=np.arange(64) % 8))


class Net(nn.Module):
    """Convolutions whose batch normalization the exporter folds, one in groups, a transposed one, linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(16, 8, 2)
        self.hidden = nn.Linear(8 * 81, 24)
        self.head = nn.Linear(24, 8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.grouped(torch.relu(self.norm(self.conv(image)))))
        return self.head(torch.relu(self.hidden(self.up(features).flatten(1))))


def net() -> Net:
    torch.manual_seed(7)
    return Net().eval()


def configs() -> list[Pruning]:
    asked: list[Pruning] = []
    for scope, pattern in product(SCOPES, PATTERNS):
        amount = None if pattern == "2:4" else 0.4
        asked.append(Magnitude(amount, scope, pattern))
    return [*asked, *(Gradient(0.4, "global", "vector:4", score=score) for score in ("gradient", "weight_gradient"))]


def scores_of(model: nn.Module, layers: tuple[torch_prune.Prunable, ...], config: Pruning) -> torch_scores.Scores:
    if isinstance(config, Gradient):
        times = config.score == "weight_gradient"
        return torch_scores.gradient(model, layers, SAMPLES, nn.functional.cross_entropy, times_weight=times)
    return torch_scores.magnitude(model, layers)


@cache
def dense() -> Path:
    return frozen(net())


def frozen(model: nn.Module) -> Path:
    return exported_file(sources.opened(model, torch.from_numpy(IMAGES[:2]), None), Onnx(dynamic_shapes="batch")).path


def exported(config: Pruning) -> tuple[Path, Pruned]:
    """The pruned network as a file, and what was done; scores are kept whatever the criterion."""
    model = net()
    layers = torch_prune.prunable(model)
    scores = scores_of(model, layers, config)
    applied = torch_prune.apply(model, layers, scores, config.tiles, config.share, config.scope)
    torch_prune.finalize(model)
    return frozen(model), Pruned(config, (applied,), "PyTorch", ("torch",), scores)


@pytest.mark.parametrize("config", configs(), ids=lambda one: f"{getattr(one, 'score', 'magnitude')}-{one.scope}-{one.pattern}")
def test_the_file_holds_amount_pattern_and_threshold_as_asked(config: Pruning) -> None:
    path, pruned = exported(config)
    assert len(pruned.masks) == 5
    found = looked_up(path, dense(), pruned)
    assert (found.findings, found.notes) == ((), ())
    assert found.threshold.startswith("recomputed from the parent's weights")
    pattern = next(fact for fact in measure(path, pruning_logged=True).facts if fact.name == "pruning.patterns")
    assert pattern.value.data["pattern"] == config.pattern
    assert pattern.findings == ()


def test_a_local_threshold_prunes_each_layer_alike_and_a_global_one_does_not() -> None:
    reached = {scope: exported(Magnitude(0.4, scope))[1].applied[-1].reached.values() for scope in SCOPES}
    assert max(reached["local"]) - min(reached["local"]) < 0.01
    assert max(reached["global"]) - min(reached["global"]) > 0.1


def rewritten(path: Path, change: str) -> Path:
    """The file with its first weight changed behind the back of the log."""
    model = onnx.load(path)
    held = next(one for one in model.graph.initializer if one.name == "hidden.weight")
    values = numpy_helper.to_array(held).copy()
    flat = values.reshape(-1)
    zeros, others = np.flatnonzero(flat == 0), np.flatnonzero(flat)
    if change == "regrown":
        flat[zeros] = 0.01
    elif change == "scattered":
        flat[others[:: len(others) // 50]] = 0
    else:  # as many zeros as before, in other places: where the largest weights were
        rows = np.abs(values).sum(1)
        first, last = np.argsort(np.where(rows > 0, rows, np.inf))[0], np.argmax(rows)
        empty = np.flatnonzero(rows == 0)[0]
        values[empty], values[last] = values[first], 0
    held.CopyFrom(numpy_helper.from_array(values, held.name))
    out = path.with_name(f"{change}.onnx")
    onnx.save(model, out)
    return out


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ("regrown", {"amount_not_held", "zeros_lost"}),
        ("scattered", {"pattern_not_held"}),
        ("moved", {"zeros_lost"}),
    ],
)
def test_a_file_that_was_changed_behind_the_log_is_found_out(change: str, codes: set[str]) -> None:
    path, pruned = exported(Magnitude(0.4, "local", "channel"))
    found = looked_up(rewritten(path, change), dense(), pruned)
    assert codes <= {finding.code for finding in found.findings}
    assert looked_up(path, dense(), pruned).findings == ()
