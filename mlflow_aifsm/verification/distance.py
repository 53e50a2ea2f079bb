"""How far two models' outputs lie apart: exact largest and mean difference, percentiles, SQNR, in memory that stays flat.

Percentiles come from exact counts in buckets of the float32 bit pattern, a non-negative float's bits being in the order of its
value. Counts add up, so the result depends neither on batch size nor on order.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.sources import Array

DROPPED_BITS = 12
PERCENTILE_PRECISION = 2.0 ** (DROPPED_BITS - 23)
"""A percentile is at most this much, relative, above the true one (0.05 %), and never below: 11 mantissa bits are kept."""
BUCKETS = (0x7F800000 >> DROPPED_BITS) + 1
"""One bucket for each pattern of the kept bits up to infinity; 4 MB of counts."""


class Distance:
    """Differences between a reference and a candidate, added up batch by batch.

    Attributes:
        elements: Number of finite pairs of values.
        samples: Number of samples.
        broken: Values that are NaN in either model, in both too, or infinite without an equal infinity in the other.
        nan_in_both: Those of them that are NaN in both.
        infinite_in_both: Values that are the same infinity in both, which are no difference and no distance either.
        largest: Largest absolute difference, in output units.
        worst_sample: Index of the sample that holds it, from 0; -1 if nothing differs.
        worst_output: Name of the output that holds it.
    """

    def __init__(self) -> None:
        self.elements = self.samples = self.broken = self.nan_in_both = self.infinite_in_both = 0
        self.largest, self.worst_sample, self.worst_output = 0.0, -1, ""
        self._sum = self._squares = self._signal = 0.0
        self._counts: npt.NDArray[np.int64] = np.zeros(BUCKETS, np.int64)

    def add(self, reference: dict[str, Array], candidate: dict[str, Array], samples: int) -> None:
        """Adds one batch of ``samples`` samples: outputs by name, shapes ``[n, …]``, equal in both.

        Raises:
            InputError: If names, shapes or kinds of outputs differ.
        """
        if set(reference) != set(candidate):
            raise InputError("outputs differ in name", got=sorted(candidate), expected=sorted(reference))
        for name, expected in reference.items():
            self._add_output(name, expected, candidate[name], samples)
        self.samples += samples

    def percentile(self, percent: float) -> float:
        """The smallest difference that ``percent`` % of the elements do not exceed, within ``PERCENTILE_PRECISION``."""
        rank = math.ceil(self.elements * percent / 100)
        bucket = int(np.searchsorted(np.cumsum(self._counts), max(rank, 1)))
        upper = np.array([((bucket + 1) << DROPPED_BITS) - 1], np.uint32).view(np.float32)[0]
        return 0.0 if bucket == 0 else min(float(upper), self.largest)

    @property
    def mean(self) -> float:
        """Mean absolute difference, in output units."""
        return self._sum / self.elements

    @property
    def sqnr_db(self) -> float | None:
        """10·log10(Σ reference² / Σ difference²) in dB; infinite without difference, None without signal."""
        return decibels(self._signal, self._squares)

    @property
    def numbers(self) -> dict[str, float]:
        """All numbers by name; of distances none while a value is broken, because they would speak of the rest only.

        Infinities that both models share are counted apart; the distances speak of the finite values beside them.
        """
        counts: dict[str, float] = {"non_finite": self.broken, "infinite_in_both": self.infinite_in_both}
        if self.broken or not self.elements:
            return counts
        percentiles = {"p999_diff": self.percentile(99.9), "p99_diff": self.percentile(99)}
        sqnr = {} if self.sqnr_db is None else {"sqnr_db": self.sqnr_db}
        worst = {} if self.worst_sample < 0 else {"worst_sample": self.worst_sample}
        return {"max_diff": self.largest, **percentiles, "mean_diff": self.mean, **sqnr, **worst, **counts}

    def _add_output(self, name: str, reference: Array, candidate: Array, samples: int) -> None:
        if reference.shape != candidate.shape:
            got, expected = (f"shape {list(array.shape)}" for array in (candidate, reference))
            raise InputError(f"output '{name}' differs in shape", got=got, expected=expected)
        left, right = _numbers(name, reference), _numbers(name, candidate)
        usable = np.isfinite(left) & np.isfinite(right)
        self.broken += int(np.count_nonzero(~usable & (left != right)))
        self.nan_in_both += int(np.count_nonzero(np.isnan(left) & np.isnan(right)))
        self.infinite_in_both += int(np.count_nonzero(~usable & (left == right)))
        differences = np.abs(np.subtract(left, right, out=np.zeros_like(left), where=usable))
        self._note_worst(name, differences, samples)
        self._add_up(left[usable], differences[usable])

    def _note_worst(self, name: str, differences: npt.NDArray[np.float64], samples: int) -> None:
        if not differences.size or (largest := float(differences.max())) <= self.largest:
            return
        per_sample = differences.ndim > 0 and len(differences) == samples
        row = int(differences.reshape(samples, -1).max(axis=1).argmax()) if per_sample else 0
        self.largest, self.worst_sample, self.worst_output = largest, self.samples + row, name

    def _add_up(self, signal: npt.NDArray[np.float64], differences: npt.NDArray[np.float64]) -> None:
        self.elements += differences.size
        self._sum += float(differences.sum())
        self._squares += float(np.square(differences).sum())
        self._signal += float(np.square(signal).sum())
        bits = np.minimum(differences, np.finfo(np.float32).max).astype(np.float32).view(np.uint32)
        self._counts += np.bincount(bits >> DROPPED_BITS, minlength=BUCKETS)


def decibels(signal: float, noise: float) -> float | None:
    """10·log10(``signal`` / ``noise``) of two sums of squares; infinite without noise, None without signal."""
    if not signal:
        return None
    return 10 * math.log10(signal / noise) if noise else math.inf


def largest_difference(left: dict[str, Array], right: dict[str, Array], samples: int) -> float:
    """Largest absolute difference of two runs of one model; infinite if a value is NaN or infinite in one of them only.

    What is NaN in both runs is repeatable, and counted where the model is compared with its reference.
    """
    distance = Distance()
    distance.add(left, right, samples)
    return math.inf if distance.broken > distance.nan_in_both else distance.largest


def _numbers(name: str, array: Array) -> npt.NDArray[np.float64]:
    if array.dtype.kind not in "biuf":
        raise InputError(f"output '{name}' holds no numbers", got=f"dtype {array.dtype}", expected="numbers")
    return array.astype(np.float64)
