"""What the outputs decide, and whether the decision changed: flips with their exact bound, accuracy, recall by class.

Equal accuracy does not mean equal behaviour: a pruned model can be right as often, on other samples (Hooker et al. 2019,
"What Do Compressed Deep Neural Networks Forget?", arXiv 1911.05248). So changed decisions are counted, and each class stands
for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betainc, betaincinv

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.sources import Array, as_array

ERROR = 0.05
CONFIDENCE = 1 - ERROR
TEXT = "US"
"""Kinds of element types that hold text, as numpy writes them."""
FEWEST_CLASSES = 2
"""A single score decides nothing without a threshold, which the outputs do not tell."""

Decision = Callable[[Any], Any]
"""From outputs to decisions ``[n, …]``: called with the array of a model of one output, with a dict of arrays for several."""


def upper_bound(events: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """Largest rate that ``events`` in ``trials`` do not rule out: exact and one-sided, ratio in [0, 1].

    Source: Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the binomial".
    With no event in n samples it is about 3/n, so a small set never proves that nothing changes.
    """
    return 1.0 if events >= trials else float(betaincinv(events + 1, trials - events, confidence))


def class_of(outputs: Mapping[str, Array]) -> Array | None:
    """The class of each sample if the first output looks like class scores: floats ``[n, c]`` with c ≥ 2; else None."""
    scores = next(iter(outputs.values()))
    looks_like_scores = len(scores.shape[1:]) == 1 and scores.shape[1] >= FEWEST_CLASSES and scores.dtype.kind == "f"
    return np.argmax(scores, axis=-1) if looks_like_scores else None


def decide(outputs: Mapping[str, Array], decision: Decision | None) -> Array | None:
    """Decisions of one batch by ``decision``, or by the class scores; None where there are none.

    Raises:
        InputError: If ``decision`` returns something that is no array.
    """
    if decision is None:
        return class_of(outputs)
    return as_array(decision(next(iter(outputs.values())) if len(outputs) == 1 else dict(outputs)))


@dataclass(frozen=True, slots=True)
class Recall:
    """One class.

    Attributes:
        label: Its label.
        samples: Its number of samples.
        before: Share of them that was decided right before, ratio in [0, 1].
        after: The same after.
        lost: How many were right before and are not after.
        won: How many are right after and were not before.
    """

    label: str
    samples: int
    before: float
    after: float
    lost: int
    won: int

    @property
    def drop(self) -> float:
        """Recall before minus after, ratio in [-1, 1]."""
        return self.before - self.after


def lost_classes(recalls: Sequence[Recall], limit: float, error: float = ERROR) -> tuple[Recall, ...]:
    """The classes that lost more of their samples than a drop of ``limit`` makes likely, those that lost most first.

    A class is among them if the exact lower bound of its rate of lost samples lies above ``limit`` and the rate of those it
    won: a retrained model loses some and wins others. The bound is Clopper and Pearson's (1934), one-sided; all classes share
    the error (Bonferroni), so that the worst of many is not taken for a loss. With ten classes and a limit of 0.05 that is
    2 of 2 samples, 7 of 40, 16 of 150 lost and none won; a class of one sample shows nothing. The rate of won samples is
    taken as it was counted. Hooker et al. 2019 (arXiv 1911.05248) test class by class what pruning forgets, over many models.

    Args:
        recalls: The classes.
        limit: Drop of recall that is accepted in any class, ratio in [0, 1).
        error: Probability that a class is named whose drop is within the limit.
    """
    likely = error / max(len(recalls), 1)
    found = [one for one in recalls if _at_least(one.lost, one.samples, limit + one.won / one.samples) < likely]
    return tuple(sorted(found, key=lambda one: -one.drop))


def _at_least(events: int, trials: int, rate: float) -> float:
    """Probability of that many events or more: the tail of the binomial distribution."""
    return float(betainc(events, trials - events + 1, min(rate, 1.0))) if events else 1.0


class Decisions:
    """Decisions of the reference (before) and of the candidate (after), gathered batch by batch, with labels if there are any.

    A decision and a label a sample are kept, never outputs: a few bytes a sample.
    """

    def __init__(self) -> None:
        self._before: list[Array] = []
        self._after: list[Array] = []
        self._labels: list[Array] = []

    def add(self, before: Array | None, after: Array | None, labels: Array | None, samples: int) -> None:
        """Adds one batch: decisions and labels ``[n, …]``, None where there are none.

        Raises:
            InputError: If decisions do not number the samples.
        """
        if labels is not None:
            self._labels.append(labels)
        if before is None or after is None:
            return
        for decided in (before, after):
            if decided.shape[:1] != (samples,):
                raise InputError(
                    "decisions do not fit the samples", got=f"shape {list(decided.shape)}", expected=f"[{samples}, …]"
                )
        self._before.append(before)
        self._after.append(after)

    @property
    def before(self) -> Array:
        """Decisions of the reference, ``[n, …]``; empty if there are none."""
        return _joined(self._before)

    @property
    def after(self) -> Array:
        """Decisions of the candidate, ``[n, …]``; empty if there are none."""
        return _joined(self._after)

    @property
    def labels(self) -> Array:
        """Labels, ``[n, …]``, in the shape of the decisions where only a last axis of length 1 tells them apart."""
        labels = _joined(self._labels)
        return labels.reshape(self.before.shape) if _squeezed(labels) == _squeezed(self.before) else labels

    def check_labels(self) -> None:
        """Raises an error where labels and decisions exist and cannot be compared: no accuracy would be measured, unseen.

        Raises:
            InputError: If they differ in shape, or only one of them is text.
        """
        if not self._labels or not self._before:
            return
        remedy = "give one label for each decision, or pass decision= to Verification"
        labels, decided = self.labels, self.before
        if labels.shape != decided.shape:
            got, expected = (f"shape {list(array.shape)}" for array in (labels, decided))
            raise InputError("labels do not fit the decisions", got=got, expected=expected, remedy=remedy)
        if (labels.dtype.kind in TEXT) != (decided.dtype.kind in TEXT):
            raise InputError("labels do not fit the decisions", got=labels.dtype, expected=decided.dtype, remedy=remedy)

    @property
    def unused_labels(self) -> bool:
        """Whether there are labels and nothing decided that they could be compared with."""
        return bool(self._labels) and not self._before

    @property
    def numbers(self) -> dict[str, float | str]:
        """All numbers by name; those that need decisions or labels only where there are some."""
        if not self._before:
            return {}
        count = len(self.before)
        flips = int(np.count_nonzero(self.changed))
        rates = {"flips": flips, "agreement": 1 - flips / count, "flip_upper_95": upper_bound(flips, count)}
        return {**rates, **({} if (right := self.right) is None else self._accuracy(*right))}

    @property
    def changed(self) -> Array:
        """Whether each sample's decision changed, bool ``[n]``: a sample of many decisions changes as a whole."""
        changed = self.before != self.after
        return np.asarray(changed.reshape(len(changed), -1).any(axis=1))

    @property
    def right(self) -> tuple[Array, Array] | None:
        """Which decisions are those of the labels, before and after, bool ``[n, …]``; None without labels that fit them."""
        return (self.before == self.labels, self.after == self.labels) if self._judgeable else None

    @property
    def recalls(self) -> tuple[Recall, ...]:
        """Recall by class, in the order of the labels; empty without labels of one axis."""
        if (right := self.right) is None or self.labels.ndim != 1:
            return ()
        labels, (before, after) = self.labels, right
        return tuple(_recall(str(label), before[labels == label], after[labels == label]) for label in np.unique(labels))

    @property
    def _judgeable(self) -> bool:
        return bool(self._labels and self._before) and self.labels.shape == self.before.shape

    def _accuracy(self, before: Array, after: Array) -> dict[str, float | str]:
        shares = float(before.mean()), float(after.mean())
        overall = {"accuracy_before": shares[0], "accuracy_after": shares[1], "accuracy_drop": shares[0] - shares[1]}
        return {**overall, **_worst(self.recalls)}


def _worst(recalls: tuple[Recall, ...]) -> dict[str, float | str]:
    """The class that lost most; among equals the one that is now recognised least."""
    if not recalls:
        return {}
    worst = max(recalls, key=lambda recall: (recall.drop, -recall.after))
    shares: dict[str, float | str] = {"worst_class_recall_before": worst.before, "worst_class_recall_after": worst.after}
    named: dict[str, float | str] = {"worst_class": worst.label, "worst_class_samples": worst.samples}
    # a limit goes by the name of its number, and the recall that is limited is the delivered model's
    return {**named, **shares, "worst_class_recall": worst.after, "worst_class_drop": worst.drop}


def _recall(label: str, before: Array, after: Array) -> Recall:
    lost, won = (int(np.count_nonzero(changed)) for changed in (before & ~after, after & ~before))
    return Recall(label, len(before), float(before.mean()), float(after.mean()), lost, won)


def _squeezed(array: Array) -> tuple[int, ...]:
    return array.shape[:-1] if array.ndim > 1 and array.shape[-1] == 1 else array.shape


def _joined(parts: list[Array]) -> Array:
    return np.concatenate(parts) if parts else np.empty(0)
