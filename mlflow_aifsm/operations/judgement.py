"""How good a quantized file is on the calibration samples: what decisions between two candidates rest on.

These are the samples that ranges came from, so the numbers choose between files and say nothing about data not seen before;
that is the verification's to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path

import numpy as np

from mlflow_aifsm.calibration.reading import class_labels
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Json
from mlflow_aifsm.samples import Batch, Samples
from mlflow_aifsm.sources import Array
from mlflow_aifsm.verification.decisions import class_of
from mlflow_aifsm.verification.distance import Distance
from mlflow_aifsm.verification.session import OnnxSession

BATCH = 8
HELD = 256 * 2**20
"""Bytes of the float model's outputs that are held between candidates; what lies beyond is computed again for each."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a candidate does on the calibration samples.

    Attributes:
        drop: Accuracy of the float model minus that of the candidate, ratio in [-1, 1]; the share of changed decisions, in
            [0, 1], where ``labelled`` is false. None where the outputs decide nothing.
        sqnr_db: Signal to quantization noise ratio of the outputs, dB; −∞ if an output is NaN or infinite.
        labelled: Whether ``drop`` is of accuracy: each sample had one label, and it names a class. Labels of another kind, as
            one-hot codes or masks, count as none.
    """

    drop: float | None
    sqnr_db: float
    labelled: bool

    @property
    def rank(self) -> tuple[float, float]:
        """Sorts candidates, the better one first."""
        return (self.drop or 0.0, -self.sqnr_db)

    @property
    def text(self) -> str:
        """One phrase."""
        word = "accuracy drop" if self.labelled else "decisions changed"
        return f"{self.sqnr_db:.1f} dB" if self.drop is None else f"{word} {self.drop:.4f}, {self.sqnr_db:.1f} dB"

    @property
    def data(self) -> dict[str, Json]:
        """The numbers; an infinite ratio is None."""
        return {"drop": self.drop, "sqnr_db": self.sqnr_db if isfinite(self.sqnr_db) else None, "labelled": self.labelled}


class Judge:
    """Runs candidates on the calibration samples beside the float model.

    The samples are read again for each candidate. Memory holds a decision and a label a sample, and up to ``HELD`` bytes of the
    float model's outputs; it runs again for each candidate on the samples whose outputs lie beyond.

    Args:
        reference: The float file.
        samples: The calibration samples.

    Raises:
        InputError: If the samples do not fit the model.
    """

    def __init__(self, reference: Path, samples: Samples) -> None:
        self._samples, self._session = samples, OnnxSession(reference, optimize=True)
        self._held: list[Batch] = []
        decided, labels, free = _Decided(), _Decided(), HELD
        for batch, given in self._batches():
            outputs = self._session.run(batch)
            decided.add(class_of(outputs), batch)
            labels.add(None if given is None else class_labels(given), batch)
            free -= sum(array.nbytes for array in outputs.values())
            if free >= 0:
                self._held.append(outputs)
        self._count, self._before = decided.samples, decided.joined
        self._labels = _comparable(labels.joined, self._before)

    def judge(self, candidate: Path) -> Judgement:
        """Runs ``candidate``, graph optimizations on, as it is deployed.

        Raises:
            InputError: If the runtime refuses the file, or the data give another number of samples than before.
        """
        session, distance, decided = _opened(candidate), Distance(), _Decided()
        for number, (batch, _) in enumerate(self._batches()):
            before = self._held[number] if number < len(self._held) else self._session.run(batch)
            after = session.run(batch)
            distance.add(before, after, len(next(iter(batch.values()))))
            decided.add(class_of(after), batch)
        if decided.samples != self._count:
            got, expected = f"{decided.samples} samples", f"{self._count} as before"
            raise InputError("the calibration data change from one reading to the next", got=got, expected=expected)
        return Judgement(self._drop(decided.joined), _decibels(distance), self._labels is not None)

    def _batches(self) -> Iterator[tuple[Batch, Array | None]]:
        names = [spec.name for spec in self._session.inputs]
        return self._samples.batches(BATCH, names, self._session.ranks)

    def _drop(self, after: Array | None) -> float | None:
        if self._before is None or after is None:
            return None
        if self._labels is None:
            return float(np.mean(self._before != after))
        return float(np.mean(self._before == self._labels) - np.mean(after == self._labels))


def _decibels(distance: Distance) -> float:
    if distance.broken:
        return -inf
    return inf if distance.sqnr_db is None else distance.sqnr_db


class _Decided:
    """Classes of the samples, gathered batch by batch; none at all where one batch has none."""

    def __init__(self) -> None:
        self.samples = 0
        self._parts: list[Array | None] = []

    def add(self, classes: Array | None, batch: Batch) -> None:
        self.samples += len(next(iter(batch.values())))
        self._parts.append(classes)

    @property
    def joined(self) -> Array | None:
        known = [part for part in self._parts if part is not None]
        return np.concatenate(known) if known and len(known) == len(self._parts) else None


def _comparable(labels: Array | None, decided: Array | None) -> Array | None:
    """``labels`` where they are numbers, one for each decision: names of classes cannot be compared with their numbers."""
    fitting = labels is not None and decided is not None and labels.shape == decided.shape and labels.dtype.kind in "biuf"
    return labels if fitting else None


def _opened(candidate: Path) -> OnnxSession:
    try:
        return OnnxSession(candidate, optimize=True)
    except Exception as error:
        raise InputError(f"ONNX Runtime refuses {candidate.name}", got=" ".join(str(error).split())) from error
