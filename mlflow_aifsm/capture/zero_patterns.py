"""Which pruning pattern the zeros of a weight hold, read from the zeros alone.

Zeros of a float weight are told exactly. Tiles of r rows by c columns are zero or not as a whole if and only if neighbouring
rows differ at multiples of r alone, and neighbouring columns at multiples of c: r and c are greatest common divisors, found in
one pass for tiles of any size. Rounding to codes adds zeros anywhere, so there tiles are tried, and as many zeros may lie
outside them as rounding makes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlflow_aifsm.capture.patterns import BLOCK, CHANNEL, ELEMENT, GROUP, N_OF_M, VECTOR, Pattern, as_matrix, spread, tiled

Mask = npt.NDArray[np.bool_]

NEIGHBOURS = (2, 4, 8, 16)
"""Groups of neighbours among which n:m is looked for, smallest first."""

CHANCE = 5.0
"""Groups that independent zeros of the same share would leave with too few zeros, from which on n:m is no chance: e^-5."""

MOST = 0.5
"""Share of groups that have exactly n weights left, from which on n:m is more than a bound."""

SIZES = (16, 8, 4, 3, 2, 1)
"""Sides of the tiles that are tried on codes."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """The largest tiles that zeros fill as a whole: their rows and columns, 0 where a whole axis never changes."""

    rows: int
    columns: int

    def common(self, other: Tiles) -> Tiles:
        """The largest tiles that both hold."""
        return Tiles(math.gcd(self.rows, other.rows), math.gcd(self.columns, other.columns))


def tiles(zero: Mask) -> Tiles:
    """The largest tiles that the zeros fill, counted from the first row and column; those at the far edges may be smaller.

    Args:
        zero: Whether each weight is zero, output channels first.
    """
    matrix = as_matrix(zero)
    rows = np.flatnonzero((matrix[1:] != matrix[:-1]).any(axis=1)) + 1
    columns = np.flatnonzero((matrix[:, 1:] != matrix[:, :-1]).any(axis=0)) + 1
    return Tiles(int(np.gcd.reduce(rows)), int(np.gcd.reduce(columns)))


def holds(zero: Mask, pattern: Pattern) -> bool:
    """Whether the zeros hold ``pattern``, as zeros in blocks of 8x8 hold those of 4x4, vectors of 4 and single elements.

    Args:
        zero: Whether each weight is zero, output channels first.
        pattern: The pattern; for n:m every whole group of m neighbours has to have at least m - n zeros.
    """
    if pattern.kind == N_OF_M:
        return bool((_kept(zero, pattern.columns) <= pattern.kept).all())
    found = tiles(zero)
    return _fits(found.rows, pattern.rows) and _fits(found.columns, pattern.columns)


def pattern_of(zero: Mask) -> Pattern:
    """The coarsest pattern that the zeros hold.

    Args:
        zero: Whether each weight is zero, output channels first; at least one is.
    """
    return common_pattern([zero])


def common_pattern(zeros: Sequence[Mask]) -> Pattern:
    """The coarsest pattern that the zeros of all weights hold; along an axis of one place they show none.

    Args:
        zeros: For each weight whether its elements are zero, output channels first; at least one has zeros.
    """
    shared = Tiles(0, 0)
    for zero in zeros:
        shared = shared.common(tiles(zero))
    shared = _seen(shared, [as_matrix(zero) for zero in zeros if zero.any()])
    if (shared.rows, shared.columns) == (1, 1) or not any(_whole_tile(zero, shared) for zero in zeros):
        return _n_of_m(zeros) or Pattern(ELEMENT)
    return _named(shared)


def without_rounding(zero: Mask, rounding: int) -> Mask:
    """The zeros of codes without those that rounding made, as far as that can be seen.

    Where most zeros fill tiles, and no more lie outside than rounding makes, those outside are left out. The coarsest tiles
    that do so are taken; where none do, all zeros stay.

    Args:
        zero: Whether each code stands for zero, output channels first.
        rounding: Zeros that rounding makes at most; 0 for float weights.
    """
    total = int(np.count_nonzero(zero))
    for candidate in _candidates() if rounding and total else ():
        matrix = as_matrix(zero)
        if candidate.shape((matrix.shape[0], matrix.shape[1])) == (1, 1):
            continue
        whole = _whole(matrix, candidate)
        outside = total - int(np.count_nonzero(whole))
        if outside <= rounding and outside < total - outside:
            return whole.reshape(zero.shape)
    return zero


def _fits(found: int, asked: int) -> bool:
    return found == 0 if asked == 0 else found % asked == 0


def _whole_tile(zero: Mask, shared: Tiles) -> bool:
    """Whether a tile is zero that is none of the smaller ones at an edge."""
    matrix = as_matrix(zero)
    ends = [
        size // step * step if step else size for size, step in zip(matrix.shape, (shared.rows, shared.columns), strict=True)
    ]
    return bool(matrix[: ends[0], : ends[1]].any())


def _seen(found: Tiles, matrices: Sequence[Mask]) -> Tiles:
    """``found`` without whole axes of one place, which nothing could change along: one weight is no column, and no row."""
    rows, columns = (max(matrix.shape[axis] for matrix in matrices) for axis in (0, 1))
    return Tiles(found.rows or int(rows == 1), found.columns or int(columns == 1))


def _named(found: Tiles) -> Pattern:
    if not found.columns:
        return Pattern(CHANNEL, columns=0)
    if not found.rows:
        return Pattern(GROUP, rows=0)
    return Pattern(VECTOR if found.rows == 1 else BLOCK, found.rows, found.columns)


def _n_of_m(zeros: Sequence[Mask]) -> Pattern | None:
    """n:m that leaves n in most groups and more in none, which zeros of another kind would not do."""
    for width in NEIGHBOURS:
        counts = [_kept(zero, width) for zero in zeros]
        most = max(int(count.max(initial=0)) for count in counts)
        full = sum(int(np.count_nonzero(count == most)) for count in counts)
        by_chance = sum(_missed(zero, width, most) for zero in zeros) < CHANCE
        if most < width and not by_chance and full >= MOST * sum(count.size for count in counts):
            return Pattern(N_OF_M, columns=width, kept=most)
    return None


def _kept(zero: Mask, width: int) -> npt.NDArray[np.int64]:
    """Weights that are not zero in each whole group of ``width`` neighbours."""
    matrix = as_matrix(zero)
    groups = matrix[:, : matrix.shape[1] // width * width].reshape(-1, width)
    return np.asarray(width - np.count_nonzero(groups, axis=1))


def _missed(zero: Mask, width: int, kept: int) -> float:
    """Groups that would have more than ``kept`` weights if as many zeros lay independently of each other."""
    matrix = as_matrix(zero)
    share = float(np.count_nonzero(matrix)) / matrix.size
    fewer = math.fsum(math.comb(width, count) * share**count * (1 - share) ** (width - count) for count in range(width - kept))
    return float(fewer * len(matrix) * (matrix.shape[1] // width))


def _candidates() -> Iterable[Pattern]:
    """Patterns by tiles, the coarsest first."""
    sides = sorted(((rows, columns) for rows in SIZES for columns in SIZES), key=lambda side: -side[0] * side[1])
    yield from (_named(Tiles(1, 0)), _named(Tiles(0, 1)))
    yield from (_named(Tiles(rows, columns)) for rows, columns in sides if rows * columns > 1)


def _whole(matrix: Mask, pattern: Pattern) -> Mask:
    """The zeros that lie in tiles without any other weight."""
    others = tiled((~matrix).astype(np.int32), pattern)
    return np.asarray(spread(others == 0, pattern, (matrix.shape[0], matrix.shape[1])))
