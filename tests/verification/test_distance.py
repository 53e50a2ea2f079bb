"""Distances do not depend on batches, and percentiles keep their stated precision."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.verification.distance import PERCENTILE_PRECISION, Distance, largest_difference


def measured(left: np.ndarray, right: np.ndarray, size: int) -> Distance:
    distance = Distance()
    for start in range(0, len(left), size):
        part = slice(start, start + size)
        distance.add({"y": left[part]}, {"y": right[part]}, len(left[part]))
    return distance


def pair(seed: int, shape: tuple[int, ...] = (500, 7)) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    left = random.normal(size=shape).astype(np.float32)
    return left, left + (random.lognormal(-8, 3, shape) * random.choice([-1, 1], shape)).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("percent", [1, 50, 99, 99.9])
def test_percentiles_lie_above_the_exact_ones_by_no_more_than_the_precision(seed: int, percent: float) -> None:
    left, right = pair(seed)
    exact = float(np.percentile(np.abs(left.astype(float) - right), percent, method="inverted_cdf"))
    assert exact * (1 - 1e-7) <= measured(left, right, 64).percentile(percent) <= exact * (1 + PERCENTILE_PRECISION)


def test_numbers_are_those_of_the_whole_set_whatever_the_batch_size() -> None:
    left, right = pair(7)
    differences = np.abs(left.astype(float) - right)
    for size in (1, 33, 500):
        numbers = measured(left, right, size).numbers
        assert numbers["max_diff"] == differences.max()
        assert numbers["worst_sample"] == np.unravel_index(differences.argmax(), left.shape)[0]
        assert numbers["mean_diff"] == pytest.approx(differences.mean())
        power = np.square(left.astype(float)).sum() / np.square(differences).sum()
        assert numbers["sqnr_db"] == pytest.approx(10 * math.log10(power))
        assert numbers["p999_diff"] == measured(left, right, 64).percentile(99.9)


def test_equal_outputs_are_at_no_distance_and_infinite_sqnr() -> None:
    left, _ = pair(1)
    numbers = measured(left, left.copy(), 100).numbers
    assert (numbers["max_diff"], numbers["p99_diff"], numbers["sqnr_db"]) == (0.0, 0.0, math.inf)
    assert "worst_sample" not in numbers


def test_outputs_without_signal_have_no_sqnr() -> None:
    assert "sqnr_db" not in measured(np.zeros((4, 2)), np.ones((4, 2)), 4).numbers


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_values_that_are_finite_in_one_model_only_are_counted_and_no_distance_is_given(broken: float) -> None:
    left, right = pair(2)
    right[3, 2] = right[4, 0] = broken
    assert measured(left, right, 50).numbers == {"non_finite": 2, "infinite_in_both": 0}
    assert measured(right, left, 50).numbers == {"non_finite": 2, "infinite_in_both": 0}


def test_nan_in_both_is_counted_as_nan() -> None:
    left = np.array([[math.nan, 1.0]])
    assert measured(left, left.copy(), 1).numbers == {"non_finite": 1, "infinite_in_both": 0}


def test_equal_infinity_in_both_is_no_difference_and_a_number_of_its_own() -> None:
    left = np.array([[math.inf, -math.inf, 1.0]])
    numbers = measured(left, left.copy(), 1).numbers
    assert (numbers["max_diff"], numbers["non_finite"], numbers["infinite_in_both"]) == (0.0, 0, 2)
    assert measured(left, -left, 1).numbers == {"non_finite": 2, "infinite_in_both": 0}


def test_nan_in_two_runs_of_one_model_is_repeatable() -> None:
    outputs = {"y": np.array([[math.nan, 1.0]])}
    assert largest_difference(outputs, dict(outputs), 1) == 0.0


def test_outputs_of_other_shape_name_or_kind_are_refused() -> None:
    left, right = pair(3)
    with pytest.raises(InputError, match="differs in shape"):
        measured(left, right[:, :3], 500)
    with pytest.raises(InputError, match="differ in name"):
        Distance().add({"a": left}, {"b": left}, 500)
    with pytest.raises(InputError, match="holds no numbers"):
        Distance().add({"a": left.astype(str)}, {"a": left.astype(str)}, 500)


def test_the_worst_of_several_outputs_is_named() -> None:
    zeros = np.zeros((3, 2))
    distance = Distance()
    distance.add({"a": zeros, "b": zeros}, {"a": zeros + 0.1, "b": np.array([[0, 0], [0.5, 0.5], [0, 0]])}, 3)
    assert (distance.worst_output, distance.worst_sample, distance.largest) == ("b", 1, 0.5)


def test_largest_difference_is_infinite_where_one_side_is_nan() -> None:
    ones = {"y": np.ones((2, 2))}
    assert largest_difference(ones, {"y": np.full((2, 2), math.nan)}, 2) == math.inf
    assert largest_difference(ones, {"y": np.full((2, 2), 1.25)}, 2) == 0.25
