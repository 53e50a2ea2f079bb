"""What an overall figure hides: the class that lost most, narrowly decided samples, slices of the data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlflow_aifsm.facts import Fact
from mlflow_aifsm.verification.criterion import CONVERSION, OPTIMIZATION, Verification
from mlflow_aifsm.verification.margins import low_margin, margin_of
from mlflow_aifsm.verification.run import verify
from mlflow_aifsm.verification.slices import masks

Model = Callable[..., Path]
Product = Callable[[dict[str, np.ndarray]], list[np.ndarray]]
X = np.random.default_rng(1).normal(size=(120, 6)).astype(np.float32)
NIGHT = np.arange(120) < 30


@pytest.fixture
def scores(product: Product) -> np.ndarray:
    return product({"x": X})[0]


@pytest.fixture
def coarse(model: Model) -> Path:
    """The model with weights in steps of a half, which changes some decisions."""
    return model("coarse", lambda weights: np.round(weights * 2) / 2)


def verified(path: Path, reference: object, verification: Verification) -> tuple[dict[str, object], dict[str, Fact]]:
    result, facts = verify(path, reference, verification, OPTIMIZATION)
    assert not result.failure, result.failure
    return dict(result.numbers), {fact.name: fact for fact in facts}


def test_the_class_that_lost_most_is_a_fact_with_its_samples_and_a_metric(
    coarse: Path, model: Model, scores: np.ndarray
) -> None:
    labels = scores.argmax(axis=1)
    numbers, facts = verified(coarse, model(), Verification(X, labels=labels))
    after = np.array([np.mean((X @ (np.round(_weights(scores) * 2) / 2)).argmax(1)[labels == c] == c) for c in range(4)])
    fact = facts["verification.worst_class_recall"]
    assert fact.value.data == after.min() == numbers["worst_class_recall"] == numbers["worst_class_recall_after"]
    assert fact.metrics == {"aifsm.worst_class_recall": after.min()}
    count = int(np.count_nonzero(labels == after.argmin()))
    assert fact.value.text == f"class {after.argmin()}: {after.min():.4f} of {count} samples, 1.0000 before; no class lost more"


def _weights(scores: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(X, scores, rcond=None)[0]


def test_a_margin_is_the_difference_of_the_two_largest_class_scores() -> None:
    margins = margin_of({"y": np.array([[1.0, 4.0, 3.5], [-1.0, -1.0, -8.0]])})
    assert margins is not None
    assert margins.tolist() == [0.5, 0.0]
    assert margins.dtype == np.float32
    assert margin_of({"y": np.zeros((2, 1))}) is None


@pytest.mark.parametrize(("samples", "narrow"), [(3, 3), (10, 10), (99, 10), (101, 11), (720, 72)])
def test_a_tenth_of_the_samples_is_narrowly_decided_and_ten_at_least(samples: int, narrow: int) -> None:
    margins = np.arange(samples, dtype=np.float32)[::-1]
    numbers = low_margin(margins, margins < 2)
    assert numbers == {"low_margin_samples": narrow, "low_margin": narrow - 1, "low_margin_flips": 2, "other_flips": 0}


def test_a_change_among_the_clear_decisions_is_counted_apart(coarse: Path, model: Model, scores: np.ndarray) -> None:
    ordered = np.sort(scores, axis=1)
    narrow = np.argsort(ordered[:, -1] - ordered[:, -2])[:12]
    changed = (X @ (np.round(_weights(scores) * 2) / 2)).argmax(axis=1) != scores.argmax(axis=1)
    _, facts = verified(coarse, model(), Verification(X, batch_size=7))
    data = facts["verification.low_margin"].value.data
    assert (data["samples"], data["flips"]) == (12, np.count_nonzero(changed[narrow]))
    assert data["flips"] > 0
    assert data["flips"] + data["other_flips"] == np.count_nonzero(changed)
    assert data["margin"] == pytest.approx((ordered[:, -1] - ordered[:, -2])[narrow[-1]], rel=1e-4)
    assert "of the other 108" in facts["verification.low_margin"].value.text


def test_without_class_scores_or_without_a_reference_there_is_no_margin(model: Model) -> None:
    decided = Verification(X, decision=lambda scores: scores[:, 0] > 0)
    assert "verification.low_margin" not in verified(model(), model("same"), decided)[1]
    assert "verification.low_margin" not in verified(model(), None, Verification(X))[1]
    assert low_margin(np.array([np.nan, 1.0], np.float32), np.array([True, False])) == {}


def test_each_slice_has_its_samples_flips_and_accuracy(coarse: Path, model: Model, scores: np.ndarray) -> None:
    labels, whole = scores.argmax(axis=1), np.ones(120, bool)
    numbers, facts = verified(coarse, model(), Verification(X, labels=labels, slices={"night": NIGHT, "all": whole}))
    right = (X @ (np.round(_weights(scores) * 2) / 2)).argmax(axis=1) == labels
    assert numbers["slice.night.samples"] == 30
    assert numbers["slice.night.flips"] == np.count_nonzero(~right[NIGHT])
    assert (numbers["slice.night.accuracy_before"], numbers["slice.night.accuracy_after"]) == (1.0, right[NIGHT].mean())
    assert numbers["slice.all.accuracy_drop"] == numbers["accuracy_drop"]
    drops = {"night": 1 - right[NIGHT].mean(), "all": 1 - right.mean()}
    assert numbers["slice_drop"] == max(drops.values())
    assert drops[numbers["worst_slice"]] == max(drops.values())
    assert facts["verification.slices"].value.data["night"]["drop"] == drops["night"]
    assert "night: 30 samples, accuracy" in facts["verification.slices"].value.text


def test_a_slice_that_lost_too_much_fails_where_the_whole_set_does_not(model: Model, scores: np.ndarray) -> None:
    outputs = scores.copy()
    outputs[:3] = -outputs[:3]
    asked = Verification(
        X, outputs=outputs, labels=scores.argmax(1), slices={"night": NIGHT}, limits={"accuracy_drop": 0.05, "slice_drop": 0.05}
    )
    result, facts = verify(model(), model("same"), asked, OPTIMIZATION)
    assert not result.passed
    assert facts[0].findings[0].measured == "slice_drop is 0.1, limit 0.05"


def test_slices_by_name_part_the_data() -> None:
    objects = np.array(["day", "night", "day"], dtype=object)
    for given in (["day", "night", "day"], objects):
        found = masks(given)
        assert {name: mask.tolist() for name, mask in found.items()} == {
            "day": [True, False, True],
            "night": [False, True, False],
        }


def test_slices_without_labels_or_reference_tell_what_is_known(model: Model, scores: np.ndarray) -> None:
    unlabelled, _ = verified(model(), model("same"), Verification(X, slices={"night": NIGHT}))
    assert (unlabelled["slice.night.flips"], "slice_drop" in unlabelled) == (0, False)
    alone, facts = verified(model(), None, Verification(X, labels=scores.argmax(1), slices={"night": NIGHT}))
    assert {name: value for name, value in alone.items() if name.startswith("slice")} == {
        "slice.night.samples": 30,
        "slice.night.accuracy_after": 1.0,
    }
    assert facts["verification.slices"].value.text == "night: 30 samples, accuracy 1.0000"


def test_slices_that_nothing_was_decided_in_are_said(model: Model) -> None:
    def cube(batch: dict[str, np.ndarray]) -> np.ndarray:
        return np.zeros((len(batch["x"]), 4, 1), np.float32)

    result, _ = verify(model(), cube, Verification(X, outputs=np.zeros((120, 4, 1)), slices={"night": NIGHT}), CONVERSION)
    assert "slices: there are some, but the outputs decide nothing" in result.numbers["not_probed"]


@pytest.mark.parametrize("length", [119, 121])
def test_a_slice_of_another_length_than_the_data_fails_with_that_reason(model: Model, length: int) -> None:
    result, _ = verify(model(), model("same"), Verification(X, slices={"night": np.ones(length, bool)}), OPTIMIZATION)
    assert not result.passed
    assert f"slice 'night' does not fit the samples; got {length} entries; expected 120" in result.failure
