"""Flips, their exact bound, accuracy and recall by class."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.verification.decisions import Decisions, class_of, decide, upper_bound


@pytest.mark.parametrize(("events", "trials"), [(0, 1), (0, 719), (3, 719), (50, 100), (99, 100), (100, 100)])
def test_the_bound_is_that_of_clopper_and_pearson(events: int, trials: int) -> None:
    exact = binomtest(events, trials, alternative="less").proportion_ci(0.95, "exact").high
    assert upper_bound(events, trials) == pytest.approx(exact, rel=1e-6)


def test_only_outputs_that_look_like_class_scores_decide() -> None:
    scores = np.array([[0.1, 0.9], [2.0, -1.0]], np.float32)
    found = class_of({"scores": scores})
    assert found is not None
    assert found.tolist() == [1, 0]
    for other in (scores[:, :1], scores[:, 0], scores.astype(int), scores[:, :, None]):
        assert class_of({"y": other}) is None


def test_a_decision_gets_the_array_of_one_output_and_the_dict_of_several() -> None:
    boxes, scores = np.zeros((2, 4)), np.array([[0.2], [0.8]])
    alone = decide({"scores": scores}, lambda array: array[:, 0] > 0.5)
    several = decide({"boxes": boxes, "scores": scores}, lambda outputs: outputs["scores"][:, 0] > 0.5)
    assert alone is not None
    assert several is not None
    assert alone.tolist() == several.tolist() == [False, True]


def gathered(before: list[int], after: list[int], labels: list[int] | None) -> Decisions:
    decisions = Decisions()
    for start in range(0, len(before), 2):
        part = slice(start, start + 2)
        given = None if labels is None else np.array(labels[part])
        decisions.add(np.array(before[part]), np.array(after[part]), given, len(before[part]))
    return decisions


def test_flips_and_agreement_need_no_labels() -> None:
    numbers = gathered([0, 1, 2, 0, 1], [0, 1, 2, 2, 1], None).numbers
    assert numbers == {"flips": 1, "agreement": pytest.approx(0.8), "flip_upper_95": pytest.approx(upper_bound(1, 5))}


def test_equal_accuracy_hides_neither_flips_nor_the_class_that_lost() -> None:
    decisions = gathered([0, 0, 1, 1, 2, 0], [0, 0, 0, 1, 2, 2], [0, 0, 1, 1, 2, 2])
    numbers = decisions.numbers
    assert numbers["accuracy_drop"] == 0
    assert numbers["flips"] == 2
    worst = {"worst_class": "1", "worst_class_recall_before": 1.0, "worst_class_recall_after": 0.5, "worst_class_drop": 0.5}
    worst |= {"worst_class_samples": 2, "worst_class_recall": 0.5}
    assert worst.items() <= numbers.items()
    assert [(recall.label, recall.samples, recall.drop) for recall in decisions.recalls] == [
        ("0", 2, 0),
        ("1", 2, 0.5),
        ("2", 2, -0.5),
    ]


def test_a_sample_of_many_decisions_flips_as_a_whole() -> None:
    decisions = Decisions()
    decisions.add(np.zeros((3, 2, 2)), np.array([np.zeros((2, 2)), np.eye(2), np.ones((2, 2))]), None, 3)
    assert decisions.numbers["flips"] == 2


@pytest.mark.parametrize("labels", [np.zeros((3, 5)), np.zeros(2), np.array(["0", "1", "2"])])
def test_labels_that_cannot_be_compared_with_the_decisions_are_refused(labels: np.ndarray) -> None:
    decisions = Decisions()
    decisions.add(np.zeros(3), np.zeros(3), labels, 3)
    with pytest.raises(InputError, match="labels do not fit the decisions"):
        decisions.check_labels()


def test_a_last_axis_of_length_1_does_not_tell_labels_from_decisions() -> None:
    flat, column = np.array([0, 1, 2]), np.array([[0], [1], [2]])
    for decided, labels in ((flat, column), (column, flat), (column, column)):
        decisions = Decisions()
        decisions.add(decided, decided, labels, 3)
        decisions.check_labels()
        assert decisions.numbers["accuracy_after"] == 1.0


def test_decisions_must_number_the_samples() -> None:
    with pytest.raises(InputError, match="decisions do not fit"):
        Decisions().add(np.zeros(2), np.zeros(2), None, 3)
