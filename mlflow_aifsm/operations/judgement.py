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

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Json
from mlflow_aifsm.samples import Batch, Samples
from mlflow_aifsm.sources import Array
from mlflow_aifsm.verification.decisions import class_of
from mlflow_aifsm.verification.distance import Distance
from mlflow_aifsm.verification.session import OnnxSession

BATCH = 8


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a candidate does on the calibration samples.

    Attributes:
        drop: Accuracy of the float model minus that of the candidate, ratio in [-1, 1]; without labels the share of changed
            decisions. None where the outputs decide nothing.
        sqnr_db: Signal to quantization noise ratio of the outputs, dB; −∞ if an output is NaN or infinite.
        labelled: Whether labels were there.
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
    """Runs candidates on the calibration samples beside what the float model gave, which is run once.

    Args:
        reference: The float file.
        samples: The calibration samples; read again for each candidate, so that memory holds outputs alone.

    Raises:
        InputError: If the samples do not fit the model.
    """

    def __init__(self, reference: Path, samples: Samples) -> None:
        self._samples, self._session = samples, OnnxSession(reference, optimize=True)
        self._outputs: list[Batch] = []
        labels: list[Array] = []
        for batch, given in self._batches():
            self._outputs.append(self._session.run(batch))
            labels += [] if given is None else [given]
        self._before = _classes(self._outputs)
        joined = np.concatenate(labels) if labels else None
        fitting = joined is not None and self._before is not None and joined.shape == self._before.shape
        self._labels = joined if fitting else None

    def judge(self, candidate: Path) -> Judgement:
        """Runs ``candidate``, graph optimizations on, as it is deployed.

        Raises:
            InputError: If the runtime refuses the file.
        """
        session, distance, outputs = _opened(candidate), Distance(), []
        for (batch, _), before in zip(self._batches(), self._outputs, strict=True):
            outputs.append(session.run(batch))
            distance.add(before, outputs[-1], len(next(iter(batch.values()))))
        return Judgement(self._drop(_classes(outputs)), _decibels(distance), self._labels is not None)

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


def _classes(outputs: list[Batch]) -> Array | None:
    decided = [class_of(batch) for batch in outputs]
    known = [part for part in decided if part is not None]
    return np.concatenate(known) if known and len(known) == len(decided) else None


def _opened(candidate: Path) -> OnnxSession:
    try:
        return OnnxSession(candidate, optimize=True)
    except Exception as error:
        raise InputError(f"ONNX Runtime refuses {candidate.name}", got=" ".join(str(error).split())) from error
