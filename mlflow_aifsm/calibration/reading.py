"""Calibration samples as they are read: counted, and looked at for what makes them a poor basis for ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.samples import Batch, Samples
from mlflow_aifsm.sources import Array
from mlflow_aifsm.verification.session import Session


@dataclass(frozen=True, slots=True)
class Seen:
    """What a pass over calibration samples read.

    Attributes:
        consumed: Number of samples.
        classes: Number of distinct labels among them; None where no labels, or no labels of classes, came with them.
        constant: Inputs that had one and the same value everywhere in all samples.
    """

    consumed: int
    classes: int | None
    constant: tuple[str, ...]


class Witness:
    """Watches one pass over calibration samples."""

    def __init__(self) -> None:
        self._consumed = 0
        self._labels: set[object] | None = None
        self._extremes: dict[str, tuple[float, float]] = {}

    def see(self, inputs: Mapping[str, Array], labels: Array | None) -> None:
        """Takes note of a batch: inputs ``[n, …]`` by name, labels ``[n]``, ``[n, 1]`` or None.

        Raises:
            InputError: If a value is NaN or infinite; it names the input and the sample, counted from 0.
        """
        for name, array in inputs.items():
            if array.dtype.kind in "fiu" and array.size:
                self._range(name, array.reshape(len(array), -1))
        self._consumed += len(next(iter(inputs.values())))
        # a label of several values, or a float, is no class
        if labels is not None and labels.size == len(labels) and labels.dtype.kind in "biuSU":
            self._labels = (self._labels or set()) | set(labels.ravel().tolist())

    def _range(self, name: str, rows: Array) -> None:
        lows, highs = rows.min(1), rows.max(1)
        finite = np.isfinite(lows) & np.isfinite(highs)
        if not finite.all():
            raise not_finite(name, self._consumed + int(np.argmin(finite)), "take the sample out of the calibration data")
        low, high = self._extremes.get(name, (lows[0], highs[0]))
        self._extremes[name] = min(low, lows.min()), max(high, highs.max())

    @property
    def seen(self) -> Seen:
        """What came by so far."""
        constant = tuple(name for name, (low, high) in self._extremes.items() if low == high)
        return Seen(self._consumed, None if self._labels is None else len(self._labels), constant)


class Reading:
    """Calibration samples as a quantizer reads them: one at a time, as often as it likes.

    Statistics by sample are so of single samples, whatever the batches of the source were. A model with a fixed batch axis
    gets full batches of that length.

    Args:
        samples: The samples.
        session: The float model, which says what its inputs are.
    """

    def __init__(self, samples: Samples, session: Session) -> None:
        self._samples, self._session = samples, session
        self._longest = Witness()

    def __iter__(self) -> Iterator[Batch]:
        witness, size = Witness(), self._session.fixed_batch or 1
        names = [spec.name for spec in self._session.inputs]
        for batch, labels in self._samples.batches(size, names, self._session.ranks):
            if len(next(iter(batch.values()))) == size:
                fitting = self._session.fit(batch)
                witness.see(fitting, labels)
                if witness.seen.consumed > self._longest.seen.consumed:
                    self._longest = witness
                yield fitting

    @property
    def seen(self) -> Seen:
        """What the longest pass read."""
        return self._longest.seen


def not_finite(name: str, sample: int, remedy: str) -> InputError:
    """The refusal of a tensor that is NaN or infinite at a sample, counted from 0."""
    return InputError(f"tensor '{name}' is not finite at calibration sample {sample}", got="NaN or Inf", remedy=remedy)
