"""Tiles to prune: scores by tile, and the masks that keep the highest, under one threshold for all layers or one for each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlflow_aifsm.capture.patterns import N_OF_M, Pattern, as_matrix, sizes, spread, tiled
from mlflow_aifsm.errors import InputError

Array = npt.NDArray[Any]

Masks = dict[str, Array]
"""By layer: 1 where a weight is kept, 0 where it is pruned, float32 in the weight's shape."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What was selected.

    Attributes:
        masks: Masks by layer.
        thresholds: Largest mean score of a pruned tile, by layer; one value for all of them under a global threshold; None
            where nothing was pruned, or where no threshold selects (n:m).
    """

    masks: Masks
    thresholds: dict[str, float | None]


def select(scores: Mapping[str, Array], pattern: Pattern, amount: float, scope: str) -> Selection:
    """Masks that prune the tiles with the lowest mean scores, as many weights as were asked for, to the nearest tile.

    Tiles of the same mean are pruned in their order, layer by layer, so that the same scores always give the same masks. Means
    are taken in the scores' own precision, at least float32.

    Args:
        scores: A score a weight, by layer, float, in the weight's shape, output channels first; higher is kept longer.
        pattern: The tiles.
        amount: Share of the weights to prune, ratio in (0, 1); not used for n:m, which says it itself.
        scope: ``global`` for one threshold over all layers, ``local`` for one a layer.

    Raises:
        InputError: If a score is not finite.
    """
    for name, score in scores.items():
        if not np.isfinite(score).all():
            raise InputError(f"the scores of {name} are not finite", remedy="look for NaN or Inf in its weights and gradients")
    if pattern.kind == N_OF_M:
        masks = {name: _n_of_m(as_matrix(score), pattern).reshape(score.shape) for name, score in scores.items()}
        return Selection(masks, dict.fromkeys(scores))
    if scope == "global":
        return _selected(scores, pattern, amount)
    parts = [_selected({name: score}, pattern, amount) for name, score in scores.items()]
    return Selection(
        {name: mask for part in parts for name, mask in part.masks.items()},
        {name: limit for part in parts for name, limit in part.thresholds.items()},
    )


def _selected(scores: Mapping[str, Array], pattern: Pattern, amount: float) -> Selection:
    matrices = {name: as_matrix(score) for name, score in scores.items()}
    shapes = {name: (matrix.shape[0], matrix.shape[1]) for name, matrix in matrices.items()}
    means = {name: _means(matrix, shapes[name], pattern) for name, matrix in matrices.items()}
    flat = np.concatenate([mean.ravel() for mean in means.values()])
    pruned = _lowest(flat, _counts(list(shapes.values()), pattern), amount * sum(score.size for score in scores.values()))
    limit = float(flat.max(where=pruned, initial=-np.inf)) if pruned.any() else None
    kept, start, masks = (~pruned).astype(np.float32), 0, {}
    for name, mean in means.items():
        tiles = kept[start : start + mean.size].reshape(mean.shape)
        start += mean.size
        masks[name] = spread(tiles, pattern, shapes[name]).reshape(scores[name].shape)
    return Selection(masks, dict.fromkeys(scores, limit))


def _means(matrix: Array, shape: tuple[int, int], pattern: Pattern) -> Array:
    exact = matrix.astype(np.promote_types(matrix.dtype, np.float32), copy=False)
    return exact if pattern.shape(shape) == (1, 1) else tiled(exact, pattern) / sizes(shape, pattern).astype(exact.dtype)


def _counts(shapes: Sequence[tuple[int, int]], pattern: Pattern) -> npt.NDArray[np.int64]:
    """Weights of each tile, layer by layer; a view of a single number where all are of one size."""
    tiles = [pattern.shape(shape) for shape in shapes]
    edges = any(size % step for shape, tile in zip(shapes, tiles, strict=True) for size, step in zip(shape, tile, strict=True))
    areas = {rows * columns for rows, columns in tiles}
    if edges or len(areas) > 1:
        return np.concatenate([sizes(shape, pattern).ravel() for shape in shapes])
    area = areas.pop()
    return np.broadcast_to(np.int64(area), (sum(rows * columns for rows, columns in shapes) // area,))


def _lowest(means: Array, counts: npt.NDArray[np.int64], wanted: float) -> npt.NDArray[np.bool_]:
    """The tiles with the lowest means that together have the ``wanted`` number of weights; of equals the first ones."""
    last = len(means) - 1
    if counts.strides == (0,):
        # without the sort that tiles of different sizes need
        place = min(math.ceil(wanted / counts[0] - 0.5), last)
        limit = np.partition(means, place)[place]
    else:
        order = np.argsort(means)
        limit = means[order[min(_nearest(counts[order], wanted), last)]]
    pruned: npt.NDArray[np.bool_] = means < limit
    equal = np.flatnonzero(means == limit)
    pruned[equal[: _nearest(counts[equal], wanted - counts[pruned].sum())]] = True
    return pruned


def _nearest(counts: npt.NDArray[np.int64], wanted: float) -> int:
    """How many of the first tiles come nearest to the ``wanted`` number of weights."""
    return int(np.searchsorted(np.cumsum(counts) - counts / 2, wanted))


def _n_of_m(score: Array, pattern: Pattern) -> Array:
    """Keeps the best ``kept`` of every ``columns`` neighbours; what does not fill a group at the end of a row is kept."""
    whole = score.shape[1] // pattern.columns * pattern.columns
    groups = score[:, :whole].reshape(-1, pattern.columns)
    best = np.zeros(groups.shape, np.float32)
    # the last of a stable sort are the best, the later ones of equals
    np.put_along_axis(best, np.argsort(groups, axis=1, kind="stable")[:, -pattern.kept :], 1.0, axis=1)
    mask = np.ones(score.shape, np.float32)
    mask[:, :whole] = best.reshape(len(score), whole)
    return mask
