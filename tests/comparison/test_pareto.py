"""The best models are those that no other one dominates, as the definition says and nothing else."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_aifsm.comparison import pareto
from mlflow_aifsm.comparison.pareto import Point, best

UNKNOWN = float("nan")


def test_a_model_that_is_worse_in_everything_is_not_best_and_the_others_are() -> None:
    assert best([Point(0.9, 10.0), Point(0.95, 20.0), Point(0.89, 11.0)]) == [True, True, False]


def test_equal_models_are_best_together() -> None:
    assert best([Point(0.9, 10.0, 1.0, "c"), Point(0.9, 10.0, 1.0, "c")]) == [True, True]


def test_a_model_that_is_slower_alone_is_not_best() -> None:
    assert best([Point(0.9, 10.0, 1.0, "c"), Point(0.9, 10.0, 1.1, "c")]) == [True, False]


def test_what_was_not_measured_never_makes_a_model_better() -> None:
    unclocked, clocked = Point(0.95, 5.0), Point(0.9, 10.0, 0.5, "c")
    assert best([unclocked, clocked]) == [True, True]
    assert best([Point(0.9, UNKNOWN), Point(0.9, 10.0)]) == [True, True]


def test_a_model_that_was_measured_in_less_can_be_dominated() -> None:
    assert best([Point(0.9, 10.0), Point(0.95, 5.0, 0.5, "c")]) == [False, True]


def test_of_two_models_that_were_clocked_apart_neither_beats_the_other() -> None:
    better, worse = Point(0.95, 5.0, 0.1, "one host"), Point(0.9, 10.0, 9.0, "another")
    assert best([better, worse]) == [True, True]
    assert best([better, Point(0.9, 10.0, 9.0, "one host")]) == [True, False]


def test_nothing_and_one_model_are_no_trouble() -> None:
    assert best([]) == []
    assert best([Point(0.1, UNKNOWN)]) == [True]


def dominates(one: Point, other: Point) -> bool:
    """The definition, spelled out for two points."""
    if one.clock != other.clock and not math.isnan(one.time) and not math.isnan(other.time):
        return False
    pairs = [(-one.quality, -other.quality), (one.size, other.size), (one.time, other.time)]
    known = [(mine, theirs) for mine, theirs in pairs if not math.isnan(theirs)]
    return all(mine <= theirs for mine, theirs in known) and any(mine < theirs for mine, theirs in known)


COSTS = st.sampled_from([1.0, 2.0, 3.0, UNKNOWN])
POINTS = st.builds(Point, st.sampled_from([0.1, 0.2, 0.3]), COSTS, COSTS, st.sampled_from(["a", "b"]))


@settings(max_examples=300, deadline=None)
@given(st.lists(POINTS, max_size=12))
def test_best_is_what_the_definition_says_for_each_pair(points: list[Point]) -> None:
    expected = [not any(dominates(other, point) for other in points) for point in points]
    assert best(points) == expected


@settings(max_examples=20, deadline=None)
@given(st.lists(POINTS, min_size=pareto.AT_ONCE + 1, max_size=pareto.AT_ONCE + 3))
def test_best_does_not_depend_on_the_step_in_which_points_are_held_against_each_other(points: list[Point]) -> None:
    expected = [not any(dominates(other, point) for other in points) for point in points]
    assert best(points) == expected
