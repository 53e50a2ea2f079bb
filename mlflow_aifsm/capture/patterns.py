"""Pruning patterns: how the weights of a layer fall into tiles, and which pattern the zeros of a weight really hold.

A weight is looked at as a matrix, one row an output channel, one column an input of the layer: ``[out, in·kh·kw]`` for a
convolution, ``[out, in]`` for a linear layer. Every pattern is a division of that matrix into tiles that are pruned as a whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mlflow_aifsm.errors import InputError

Array = npt.NDArray[Any]
Kind = TypeVar("Kind", bound=np.generic)

ELEMENT, VECTOR, BLOCK, GROUP, CHANNEL, N_OF_M = "element", "vector", "block", "group", "channel", "n:m"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern with its sizes.

    Attributes:
        kind: ``element``, ``vector``, ``block``, ``group``, ``channel`` or ``n:m``.
        rows: Rows of a tile; 0 for all.
        columns: Columns of a tile; 0 for all.
        kept: Weights that are kept of every ``columns`` neighbours, for ``n:m``.
    """

    kind: str
    rows: int = 1
    columns: int = 1
    kept: int = 0

    @staticmethod
    def of(word: str) -> Pattern:
        """The pattern that ``word`` names: ``element``, ``vector:<n>``, ``block:<r>x<c>``, ``group``, ``channel``, ``<n>:<m>``.

        Raises:
            InputError: If it names none.
        """
        simple = {ELEMENT: Pattern(ELEMENT), GROUP: Pattern(GROUP, rows=0), CHANNEL: Pattern(CHANNEL, columns=0)}
        expected = "element, vector:<n>, block:<r>x<c>, group, channel, or <n>:<m> with n < m"
        if not isinstance(word, str):
            raise InputError("pruning pattern", got=repr(word), expected=expected)
        if word in simple:
            return simple[word]
        if found := re.fullmatch(r"vector:([1-9]\d*)", word):
            return Pattern(VECTOR, columns=int(found[1]))
        if found := re.fullmatch(r"block:([1-9]\d*)x([1-9]\d*)", word):
            return Pattern(BLOCK, int(found[1]), int(found[2]))
        if (found := re.fullmatch(r"([1-9]\d*):([1-9]\d*)", word)) and int(found[1]) < int(found[2]):
            return Pattern(N_OF_M, columns=int(found[2]), kept=int(found[1]))
        raise InputError("pruning pattern", got=repr(word), expected=expected)

    @property
    def word(self) -> str:
        """The word that names it."""
        if self.kind == VECTOR:
            return f"vector:{self.columns}"
        if self.kind == BLOCK:
            return f"block:{self.rows}x{self.columns}"
        return f"{self.kept}:{self.columns}" if self.kind == N_OF_M else self.kind

    @property
    def definition(self) -> str:
        """What the word means, for a reader who knows another meaning of it."""
        return {
            ELEMENT: "element-wise: each weight alone",
            VECTOR: f"vector-wise: {self.columns} neighbours along the inputs of an output channel",
            BLOCK: f"block-wise: {_several(self.rows, 'output channel')} by {_several(self.columns, 'neighbouring input')}",
            GROUP: "group-wise: the same kernel position in all filters of a layer",
            CHANNEL: "channel-wise: all weights of an output channel",
            N_OF_M: f"{self.kept}:{self.columns}: of every {self.columns} neighbouring inputs {self.kept} are kept",
        }[self.kind]

    def shape(self, matrix: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of a tile of ``matrix``, at most those it has."""
        return min(self.rows or matrix[0], matrix[0]), min(self.columns or matrix[1], matrix[1])


def _several(count: int, noun: str) -> str:
    return f"1 {noun.removeprefix('neighbouring ')}" if count == 1 else f"{count} {noun}s"


def as_matrix(weight: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
    """``weight`` as ``[out, in·kh·kw]``, a view where that is possible."""
    return weight.reshape(len(weight), -1)


def tiled(matrix: Array, pattern: Pattern) -> Array:
    """Sums over the tiles of ``matrix``, ``[tile rows, tile columns]``; tiles at the edges may be smaller."""
    rows, columns = pattern.shape((matrix.shape[0], matrix.shape[1]))
    return _summed_columns(_summed_rows(matrix, rows), columns)


def sizes(matrix: tuple[int, int], pattern: Pattern) -> npt.NDArray[np.int64]:
    """Number of elements of each tile, ``[tile rows, tile columns]``."""
    steps = pattern.shape(matrix)
    ends = (np.append(np.arange(0, size, step, dtype=np.int64), size) for size, step in zip(matrix, steps, strict=True))
    rows, columns = (np.diff(places) for places in ends)
    return np.asarray(rows[:, None] * columns)


def spread(tiles: npt.NDArray[Kind], pattern: Pattern, matrix: tuple[int, int]) -> npt.NDArray[Kind]:
    """One value a tile spread over all its elements: the inverse of ``tiled``."""
    rows, columns = pattern.shape(matrix)
    # columns first: rows are then copied as a whole
    wide = tiles if columns == 1 else tiles.repeat(columns, axis=1)[:, : matrix[1]]
    return wide if rows == 1 else wide.repeat(rows, axis=0)[: matrix[0]]


def _summed_rows(matrix: Array, step: int) -> Array:
    if step == 1:
        return matrix
    whole = len(matrix) // step * step
    sums = matrix[:whole].reshape(-1, step, matrix.shape[1]).sum(axis=1)
    return sums if whole == len(matrix) else np.concatenate([sums, matrix[whole:].sum(axis=0, keepdims=True)])


def _summed_columns(matrix: Array, step: int) -> Array:
    return matrix if step == 1 else np.asarray(np.add.reduceat(matrix, np.arange(0, matrix.shape[1], step), axis=1))
