"""What a pruning did, whichever tool applied its masks, and what is refused before any work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from mlflow_aifsm.capture.layer_names import matching
from mlflow_aifsm.capture.patterns import N_OF_M, Pattern
from mlflow_aifsm.capture.tiles import Masks
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Json

Matrices = Mapping[str, tuple[int, int]]
"""Rows and columns of each weight by tensor name, output channels in rows."""


SHOWN = 8
"""Weights that a sentence names one by one."""


@dataclass(frozen=True, slots=True, eq=False)
class Applied:
    """Masks that were applied, with the call that applied them.

    Attributes:
        function: The function that made or applied the masks, with its module.
        arguments: What it got, as JSON.
        masks: By tensor name, bool, output channels first; False where a weight is pruned.
        thresholds: Largest mean score of a tile that this call pruned, by tensor name; one value for all under a global
            threshold; None where nothing was pruned, or no threshold selects (n:m).
    """

    function: str
    arguments: dict[str, Json]
    masks: Masks
    thresholds: dict[str, float | None]

    @property
    def reached(self) -> dict[str, float]:
        """Share of pruned weights by tensor name, ratios in [0, 1]."""
        return {name: 1 - int(np.count_nonzero(mask)) / mask.size for name, mask in self.masks.items()}

    @property
    def amount(self) -> float:
        """Share of pruned weights of all selected layers together, ratio in [0, 1]."""
        return 1 - sum(int(np.count_nonzero(mask)) for mask in self.masks.values()) / sum(
            mask.size for mask in self.masks.values()
        )

    @property
    def emptied(self) -> tuple[str, ...]:
        """Weights of which nothing is left: under a global threshold a layer may lose all."""
        return tuple(name for name, mask in self.masks.items() if not mask.any())


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Weights that no pruning reaches, because no layer that can be pruned holds them.

    Attributes:
        sizes: Number of elements by name.
        total: Number of elements of these and of the weights that can be pruned.
    """

    sizes: Mapping[str, int]
    total: int

    @property
    def share(self) -> float:
        """Their share of all these weights, ratio in [0, 1]."""
        return sum(self.sizes.values()) / self.total if self.total else 0.0

    @property
    def text(self) -> str:
        """One sentence that names them, the largest first; empty where there are none."""
        if not self.sizes:
            return ""
        largest = sorted(self.sizes.items(), key=lambda one: -one[1])
        shown = ", ".join(f"{name} ({size:,})" for name, size in largest[:SHOWN])
        more = f" and {len(largest) - SHOWN} more" if len(largest) > SHOWN else ""
        reached = f"{self.share:.1%} of the weights are no convolution's or linear layer's that can be pruned"
        return f"{reached}, and stay dense: {shown}{more}."


def named(known: Mapping[str, Sequence[str]], layers: Sequence[str], keep_dense: Sequence[str]) -> tuple[str, ...]:
    """Names of the tensors to prune, in their own order.

    Args:
        known: What each tensor goes by: its name, module paths, node names, operator or module type.
        layers: Patterns of those to prune, with the wildcards ``*`` and ``?``; all if empty.
        keep_dense: Patterns of those to leave as they are.

    Raises:
        InputError: If there is no weight, a pattern means none (the nearest names are told), or none is left.
    """
    if not known:
        raise InputError("nothing to prune", got="no weight of a convolution or linear layer", expected="at least one")
    chosen = {name for names in matching(known, layers, "layers").values() for name in names} if layers else set(known)
    dense = {name for names in matching(known, keep_dense, "keep_dense").values() for name in names}
    if not chosen - dense:
        raise InputError("nothing to prune", got=f"keep_dense names all {len(chosen)} layers", expected="at least one left")
    return tuple(name for name in known if name in chosen - dense)


def check(matrices: Matrices, pattern: Pattern, amount: float, scope: str) -> None:
    """Refuses a pruning that the weights cannot have.

    Args:
        matrices: The weights to prune.
        pattern: The tiles.
        amount: Share of the weights to prune, ratio in (0, 1); not used for n:m, which says it itself.
        scope: ``global`` or ``local``.

    Raises:
        InputError: If there are no weights, a tile is larger than a weight, the amount is outside (0, 1), or it rounds to
            no tile, or to all tiles of a layer (local) or of all layers (global).
    """
    if not matrices:
        raise InputError("nothing to prune", got="no layer", expected="at least one")
    for name, matrix in matrices.items():
        _check_fit(name, matrix, pattern)
    if pattern.kind == N_OF_M:
        return
    if not 0 < amount < 1:
        raise InputError("amount to prune", got=amount, expected="a ratio above 0 and below 1")
    tiles = {name: _tiles(matrix, pattern) for name, matrix in matrices.items()}
    groups = {name: {name: count} for name, count in tiles.items()} if scope == "local" else {"all layers": tiles}
    counts = {name: (sum(group.values()), nearest(amount, sum(group.values()))) for name, group in groups.items()}
    if not any(count for _, count in counts.values()):
        most = max(total for total, _ in counts.values())
        raise InputError(f"amount {amount:g} prunes nothing", got=f"{most} tiles of {pattern.word}", remedy="ask for more")
    for name, (total, count) in counts.items():
        if count == total:
            remedy = "ask for less, or name it in keep_dense"
            raise InputError(
                f"amount {amount:g} leaves nothing of {name}", got=f"{total} tiles of {pattern.word}", remedy=remedy
            )


def nearest(amount: float, count: int) -> int:
    """The whole number nearest to ``amount`` of ``count``; of two equally near the lower, as ``tiles.select`` counts."""
    return max(ceil(amount * count - 0.5), 0)


def _check_fit(name: str, matrix: tuple[int, int], pattern: Pattern) -> None:
    if pattern.rows > matrix[0] or pattern.columns > matrix[1]:
        got = f"{matrix[0]} output channels of {matrix[1]} weights"
        remedy = "ask for smaller tiles, or name the layer in keep_dense"
        raise InputError(f"pattern {pattern.word} is larger than {name}", got=got, remedy=remedy)


def _tiles(matrix: tuple[int, int], pattern: Pattern) -> int:
    rows, columns = pattern.shape(matrix)
    return ceil(matrix[0] / rows) * ceil(matrix[1] / columns)
