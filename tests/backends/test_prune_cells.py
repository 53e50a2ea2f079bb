"""Every criterion, under every threshold, in every pattern: applied to a module, and read back from one exported file."""

from __future__ import annotations

import copy
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mlflow_aifsm.backends import torch_prune, torch_scores
from mlflow_aifsm.backends.exporters import to_onnx
from mlflow_aifsm.backends.pruned import Applied
from mlflow_aifsm.capture.layer_weights import layer_weights
from mlflow_aifsm.capture.onnx_graph import opened
from mlflow_aifsm.capture.patterns import Pattern
from mlflow_aifsm.capture.zero_patterns import holds
from tests.backends.pruning_net import SIDE, Net, net, samples

CRITERIA = ("|w|", "|g|", "|w·g|")
SCOPES = ("global", "local")
TILES = {
    "element": lambda rows, columns: (1, 1),
    "vector:4": lambda rows, columns: (1, 4),
    "block:4x4": lambda rows, columns: (4, 4),
    "group": lambda rows, columns: (rows, 1),
    "channel": lambda rows, columns: (1, columns),
}
PATTERNS = (*TILES, "2:4")
CELLS = tuple(product(CRITERIA, SCOPES, PATTERNS))
FUNCTIONS = {
    ("global", "element"): "global_unstructured",
    ("local", "element"): "l1_unstructured",
}
AMOUNT = 0.5


def scored(module: nn.Module, criterion: str) -> dict[str, np.ndarray]:
    layers = torch_prune.prunable(module)
    if criterion == "|w|":
        return torch_scores.magnitude(module, layers)
    loss = nn.functional.cross_entropy
    return torch_scores.gradient(module, layers, samples(), loss, times_weight=criterion == "|w·g|")


class Cell:
    """A pruned network, with what was done; weights of its own, as the exporter stores equal ones once."""

    def __init__(self, criterion: str, scope: str, pattern: str) -> None:
        self.module = net(CELLS.index((criterion, scope, pattern)))
        self.dense = copy.deepcopy(self.module)
        layers = torch_prune.prunable(self.module)
        self.scores = scored(self.module, criterion)
        self.applied: Applied = torch_prune.apply(self.module, layers, self.scores, Pattern.of(pattern), AMOUNT, scope)
        self.masked = copy.deepcopy(self.module)
        torch_prune.finalize(self.module)


class All(nn.Module):
    """The networks of all cells beside each other, so that one export has them all."""

    def __init__(self, nets: list[Net]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.stack([one(image) for one in self.nets])


@pytest.fixture(scope="module")
def cells() -> dict[tuple[str, str, str], Cell]:
    return {cell: Cell(*cell) for cell in CELLS}


@pytest.fixture(scope="module")
def exported(cells: dict[tuple[str, str, str], Cell], tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Zeros of every weight in the file, output channels first, by name."""
    path: Path = tmp_path_factory.mktemp("cells") / "model.onnx"
    model = All([cell.module for cell in cells.values()]).eval()
    to_onnx(model, (torch.randn(2, 4, SIDE, SIDE),), {}, path)
    file = opened(path)
    return {one.tensor: one.zero(file) for one in layer_weights(file)}


def matrix(array: np.ndarray) -> np.ndarray:
    return array.reshape(len(array), -1)


def tiles(array: np.ndarray, pattern: str) -> np.ndarray:
    """One row a tile; all sizes are divisible."""
    rows, columns = array.shape
    height, width = (1, 4) if pattern == "2:4" else TILES[pattern](rows, columns)
    parts = array.reshape(rows // height, height, columns // width, width).swapaxes(1, 2)
    return parts.reshape(-1, height * width)


@pytest.mark.parametrize("cell", CELLS, ids=" ".join)
def test_the_exported_file_holds_amount_and_pattern(
    cell: tuple[str, str, str], cells: dict[tuple[str, str, str], Cell], exported: dict[str, np.ndarray]
) -> None:
    number, applied = CELLS.index(cell), cells[cell].applied
    zeros = {name: exported[f"nets.{number}.{name}"] for name in applied.masks}
    assert len(zeros) == 4
    for name, zero in zeros.items():
        assert (zero == ~applied.masks[name]).all()
        assert holds(zero, Pattern.of(cell[2]))
        counts = tiles(matrix(zero), cell[2]).sum(axis=1)
        whole = {2} if cell[2] == "2:4" else {0, tiles(matrix(zero), cell[2]).shape[1]}
        assert set(counts.tolist()) <= whole
    total, largest = (
        sum(zero.size for zero in zeros.values()),
        max(tiles(matrix(zero), cell[2]).shape[1] for zero in zeros.values()),
    )
    assert applied.amount == pytest.approx(sum(zero.sum() for zero in zeros.values()) / total)
    if cell[1] == "global":
        assert abs(applied.amount - AMOUNT) <= largest / 2 / total
    for name, share in applied.reached.items() if cell[1] == "local" else ():
        assert abs(share - AMOUNT) <= 0.5 / len(tiles(matrix(zeros[name]), cell[2]))


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell[2] != "2:4"], ids=" ".join)
def test_thresholds_part_what_is_pruned_from_what_is_kept(
    cell: tuple[str, str, str], cells: dict[tuple[str, str, str], Cell]
) -> None:
    applied, scores = cells[cell].applied, cells[cell].scores
    means = {name: tiles(matrix(score).astype(float), cell[2]).mean(axis=1) for name, score in scores.items()}
    kept = {name: tiles(matrix(mask), cell[2]).all(axis=1) for name, mask in applied.masks.items()}
    groups = [[name] for name in means] if cell[1] == "local" else [list(means)]
    for group in groups:
        lost = max(means[name][~kept[name]].max(initial=0) for name in group)
        left = min(means[name][kept[name]].min(initial=np.inf) for name in group)
        assert lost <= left * (1 + 1e-6)
        assert all(applied.thresholds[name] == pytest.approx(lost, rel=1e-5) for name in group)
    assert (len(set(applied.thresholds.values())) == 1) == (cell[1] == "global")


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell[2] == "2:4"], ids=" ".join)
def test_two_of_four_keeps_the_two_best_of_each_group(
    cell: tuple[str, str, str], cells: dict[tuple[str, str, str], Cell]
) -> None:
    applied, scores = cells[cell].applied, cells[cell].scores
    for name, score in scores.items():
        groups, kept = tiles(matrix(score), "2:4"), tiles(matrix(applied.masks[name]), "2:4")
        assert (np.where(kept, groups, np.inf).min(axis=1) >= np.where(kept, -np.inf, groups).max(axis=1)).all()
    assert set(applied.thresholds.values()) == {None}
    assert applied.arguments == {"mask": {"pattern": "2:4"}}


@pytest.mark.parametrize("cell", CELLS, ids=" ".join)
def test_the_function_of_pytorch_is_named_where_it_selects(
    cell: tuple[str, str, str], cells: dict[tuple[str, str, str], Cell]
) -> None:
    expected = FUNCTIONS.get(cell[1:], "custom_from_mask")
    assert cells[cell].applied.function == f"torch.nn.utils.prune.{expected}"


@pytest.mark.parametrize("cell", CELLS, ids=" ".join)
def test_zeros_made_permanent_compute_what_the_masks_computed(
    cell: tuple[str, str, str], cells: dict[tuple[str, str, str], Cell]
) -> None:
    found, image = cells[cell], torch.randn(3, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        masked, permanent, dense = (one.eval()(image) for one in (found.masked, found.module, found.dense))
    assert torch.equal(masked, permanent)
    assert not torch.equal(permanent, dense)
