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
        alike: Whether every input is constant, so that the samples are all the same.
        other_labels: Whether labels came that name no classes: rows of one-hot codes, masks, targets of a regression.
    """

    consumed: int
    classes: int | None
    constant: tuple[str, ...]
    alike: bool = False
    other_labels: bool = False


def class_labels(labels: Array) -> Array | None:
    """``labels`` as one class a sample, ``[n]``; None where they are no classes.

    Integers, booleans and text are classes, and so are floats that are whole numbers, as tables and tensors often hold them.
    Several values a sample, as in a one-hot code or a mask, are none: what they mean, the shape does not tell.
    """
    if labels.size != len(labels):
        return None
    flat = labels.reshape(len(labels))
    whole = flat.dtype.kind == "f" and bool(np.isfinite(flat).all()) and np.array_equal(flat, np.rint(flat))
    return flat if whole or flat.dtype.kind in "biuSU" else None


class Witness:
    """Watches one pass over calibration samples."""

    def __init__(self) -> None:
        self._consumed = 0
        self._labels: set[object] | None = None
        self._other_labels = False
        self._inputs: set[str] = set()
        self._extremes: dict[str, tuple[float, float]] = {}

    def see(self, inputs: Mapping[str, Array], labels: Array | None) -> None:
        """Takes note of a batch: inputs ``[n, …]`` by name, labels ``[n]``, ``[n, 1]`` or None.

        Raises:
            InputError: If a value is NaN or infinite; it names the input and the sample, counted from 0.
        """
        self._inputs |= inputs.keys()
        for name, array in inputs.items():
            if array.dtype.kind in "bfiu" and array.size:
                self._range(name, array.reshape(len(array), -1))
        self._consumed += len(next(iter(inputs.values())))
        if labels is not None:
            self._label(class_labels(labels))

    def _label(self, classes: Array | None) -> None:
        if classes is None:
            self._other_labels = True
        else:
            self._labels = (self._labels or set()) | set(classes.tolist())

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
        # a regression's targets may be whole numbers by chance, but not all of them
        classes = None if self._labels is None or self._other_labels else len(self._labels)
        alike = bool(constant) and set(constant) == self._inputs
        return Seen(self._consumed, classes, constant, alike, self._other_labels)


class Reading:
    """Calibration samples as a quantizer reads them: one at a time, as often as it likes.

    Statistics by sample are so of single samples, whatever the batches of the source were. A model with a fixed batch axis
    gets full batches of that length.

    Iterating raises an InputError if no full batch comes, the samples do not fit, or a value is NaN or infinite.

    Args:
        samples: The samples.
        session: The float model, which says what its inputs are.
    """

    def __init__(self, samples: Samples, session: Session) -> None:
        self._samples, self._session = samples, session
        self._longest = Witness()

    def __iter__(self) -> Iterator[Batch]:
        witness, size, rest = Witness(), self._session.fixed_batch or 1, 0
        names = [spec.name for spec in self._session.inputs]
        for batch, labels in self._samples.batches(size, names, self._session.ranks):
            if len(next(iter(batch.values()))) == size:
                fitting = self._session.fit(batch)
                witness.see(fitting, labels)
                if witness.seen.consumed > self._longest.seen.consumed:
                    self._longest = witness
                yield fitting
            else:
                rest = len(next(iter(batch.values())))
        if not witness.seen.consumed:
            raise _too_few(self._samples.name, rest, size)

    @property
    def seen(self) -> Seen:
        """What the longest pass read."""
        return self._longest.seen


def _too_few(name: str, count: int, size: int) -> InputError:
    if not count:
        return InputError("there is no calibration sample", got=name, expected="at least one sample")
    what = f"fewer samples than the model's fixed batch of {size}"
    return InputError(what, got=f"{count} samples", expected=f"at least {size}", remedy="pass more samples")


def not_finite(name: str, sample: int, remedy: str) -> InputError:
    """The refusal of a tensor that is NaN or infinite at a sample, counted from 0."""
    return InputError(f"tensor '{name}' is not finite at calibration sample {sample}", got="NaN or Inf", remedy=remedy)
