"""What cannot be combined cannot be constructed; what could not be measured does not pass."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.samples import Data
from mlflow_aifsm.verification.criterion import CONVERSION, OPTIMIZATION, Verification, criterion_of


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"epsilon": 1e-3, "limits": {"max": 1}}, "epsilon and limits"),
        ({"reason": "because"}, "neither epsilon nor limits"),
        ({"runtime": "TensorRT 10"}, "without outputs"),
        ({"epsilon": -1}, "at least 0"),
        ({"epsilon": math.nan}, "at least 0"),
        ({"batch_size": 0}, "at least 1"),
        ({"limits": {"p98": 1}}, "'p99'"),
        ({"limits": {"p99": "low"}}, "a finite number"),
        ({"slices": {"night": [0, 1]}}, "the mask of slice 'night' does not fit; got dtype int64"),
        ({"slices": {"night": [False, False]}}, "slice 'night' holds no sample"),
        ({"slices": {"": [True]}}, "a slice has no name"),
        ({"slices": {}}, "slices hold no slice"),
        ({"slices": [["day"]]}, "slices do not fit"),
        ({"data": Data([], labels=[]), "labels": []}, "labels is given twice"),
        ({"data": Data([], preprocess=abs), "preprocess": abs}, "preprocess is given twice"),
    ],
)
def test_what_cannot_be_combined_fails_on_construction(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Verification(**{"data": [], **arguments})


def test_labels_and_preprocessing_are_taken_from_either_place() -> None:
    given = Verification(Data([1], name="set", version="3", labels=[0]), preprocess=abs).described
    assert (given.name, given.version, given.preprocess, given.labels) == ("set", "3", abs, [0])


def test_defaults_say_that_nobody_justified_them() -> None:
    criterion = criterion_of(Verification([]), CONVERSION)
    assert (criterion.text, criterion.epsilon, criterion.justification) == ("approximate", 1e-4, "tool default, not justified")
    declared = criterion_of(Verification([], epsilon=0, reason="bit-exact target"), CONVERSION)
    assert (declared.text, declared.justification) == ("exact", "bit-exact target")


def test_the_default_of_an_optimization_limits_accuracy_only_where_it_was_measured() -> None:
    assert OPTIMIZATION.applied_to({"max_diff": 3.0}).text == "no limit was set"
    limited = OPTIMIZATION.applied_to({"accuracy_drop": 0.02})
    assert limited.text == "accuracy_drop ≤ 0.01"
    assert OPTIMIZATION.applied_to({"accuracy_drop": 0.0, "agreement": 0.9}).text == "accuracy_drop ≤ 0.01"
    assert OPTIMIZATION.applied_to({"agreement": 0.9}).text == "agreement ≥ 0.99"
    assert limited.misses({"accuracy_drop": 0.02}) == ("accuracy_drop is 0.02, limit 0.01",)


def test_a_declared_limit_of_something_that_was_not_measured_is_missed() -> None:
    criterion = criterion_of(Verification([], limits={"accuracy_drop": 0.1, "sqnr_db": 20}), OPTIMIZATION)
    assert criterion.applied_to({}).misses({"sqnr_db": 19.0}) == (
        "accuracy_drop could not be measured",
        "sqnr_db is 19, limit 20",
    )
    assert criterion.misses({"accuracy_drop": 0.1, "sqnr_db": math.inf}) == ()


def test_a_reason_without_any_limit_is_no_criterion() -> None:
    empty = criterion_of(Verification([], limits={}, reason="agreed"), OPTIMIZATION).applied_to({"agreement": 0.2})
    assert empty.text == "no limit was set: agreed"
    assert empty.bounds == {}


def test_the_recall_of_the_class_that_lost_most_is_limited_from_below() -> None:
    criterion = criterion_of(Verification([], limits={"worst_class_recall": 0.9, "slice_drop": 0.02}), OPTIMIZATION)
    assert criterion.text == "worst_class_recall ≥ 0.9, slice_drop ≤ 0.02"
    assert criterion.misses({"worst_class_recall": 0.95, "slice_drop": 0.0}) == ()
    assert criterion.misses({"worst_class_recall": 0.8}) == (
        "worst_class_recall is 0.8, limit 0.9",
        "slice_drop could not be measured",
    )


def test_a_given_metric_can_be_limited_by_its_drop() -> None:
    verification = Verification([], metrics={"f1": lambda labels, decisions: 1.0}, limits={"f1_drop": 0.1})
    assert criterion_of(verification, OPTIMIZATION).misses({"f1_drop": math.nan}) == ("f1_drop is nan, limit 0.1",)
