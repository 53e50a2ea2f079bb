"""Tiles to prune: the lowest go, as many as were asked for, and what is selected reads back as the pattern."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_aifsm.capture.patterns import N_OF_M, Pattern, as_matrix, sizes, tiled
from mlflow_aifsm.capture.tiles import select
from mlflow_aifsm.capture.zero_patterns import holds
from mlflow_aifsm.errors import InputError

WORDS = ("element", "vector:3", "vector:4", "block:4x4", "block:2x5", "group", "channel", "1:2", "2:4", "3:8")
SHAPES = st.one_of(
    st.tuples(st.integers(1, 12), st.integers(1, 40)),
    st.tuples(st.integers(1, 8), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3)),
)


def scores(shapes, seed=0, dtype=np.float32, levels=None):
    """Random scores in [0, 1] by layer; a few ``levels`` make many of them equal."""
    noise = np.random.default_rng(seed)
    made = [noise.random(shape) if levels is None else noise.integers(0, levels, shape) / levels for shape in shapes]
    return {f"layer{place}": score.astype(dtype) for place, score in enumerate(made)}


def pruned(selection):
    return sum(int((mask == 0).sum()) for mask in selection.masks.values())


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("scope", ["global", "local"])
@given(shapes=st.lists(SHAPES, min_size=1, max_size=3), amount=st.floats(0.01, 0.99), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_every_selection_reads_back_as_its_pattern(word, scope, shapes, amount, seed):
    given_scores = scores(shapes, seed, levels=3 if seed % 2 else None)
    masks = select(given_scores, Pattern.of(word), amount, scope).masks
    assert {name: mask.shape for name, mask in masks.items()} == {name: score.shape for name, score in given_scores.items()}
    assert all(mask.dtype == np.float32 and set(np.unique(mask)) <= {0, 1} for mask in masks.values())
    assert all(holds(mask == 0, Pattern.of(word)) for mask in masks.values())


@pytest.mark.parametrize("word", [word for word in WORDS if Pattern.of(word).kind != N_OF_M])
@given(shapes=st.lists(SHAPES, min_size=1, max_size=3), amount=st.floats(0.01, 0.99), levels=st.sampled_from((None, 2)))
@settings(max_examples=25, deadline=None)
def test_the_amount_is_met_to_the_nearest_tile(word, shapes, amount, levels):
    pattern, given_scores = Pattern.of(word), scores(shapes, levels=levels)
    matrices = [as_matrix(score).shape for score in given_scores.values()]
    largest = max(int(sizes(shape, pattern).max()) for shape in matrices)
    asked = amount * sum(score.size for score in given_scores.values())
    assert abs(pruned(select(given_scores, pattern, amount, "global")) - asked) <= largest / 2


@pytest.mark.parametrize("word", ["element", "vector:4", "block:4x4", "group", "channel"])
def test_no_pruned_tile_scores_higher_than_a_kept_one_under_one_threshold(word):
    pattern, given_scores = Pattern.of(word), scores([(16, 8, 3, 3), (10, 30)])
    chosen = select(given_scores, pattern, 0.4, "global")
    lows, highs = [], []
    for name, score in given_scores.items():
        matrix = as_matrix(score).astype(float)
        means = tiled(matrix, pattern) / sizes(matrix.shape, pattern)
        kept = tiled(as_matrix(chosen.masks[name]), pattern) > 0
        lows, highs = [*lows, *means[~kept]], [*highs, *means[kept]]
    assert max(lows) <= min(highs)
    assert chosen.thresholds == dict.fromkeys(given_scores, pytest.approx(max(lows), rel=1e-5))


def test_a_local_threshold_prunes_each_layer_by_the_amount_and_a_global_one_their_sum():
    given_scores = {"low": np.linspace(0, 1, 100).reshape(10, 10), "high": np.linspace(2, 3, 100).reshape(10, 10)}
    local, common = (select(given_scores, Pattern.of("element"), 0.3, scope) for scope in ("local", "global"))
    assert [int((mask == 0).sum()) for mask in local.masks.values()] == [30, 30]
    assert [int((mask == 0).sum()) for mask in common.masks.values()] == [60, 0]
    assert local.thresholds == {"low": pytest.approx(29 / 99), "high": pytest.approx(2 + 29 / 99)}
    assert common.thresholds == dict.fromkeys(("low", "high"), pytest.approx(59 / 99))


def test_of_equal_scores_the_first_are_pruned_each_time():
    masks = [select({"w": np.ones((4, 4), np.float32)}, Pattern.of("element"), 0.25, "global").masks["w"] for _ in range(2)]
    assert masks[0].ravel().tolist() == [0.0] * 4 + [1.0] * 12
    assert (masks[0] == masks[1]).all()


def test_tiles_of_different_sizes_count_by_their_weights():
    score = np.array([[1, 1, 1, 1, 0]], np.float32)  # a tile of four, and one of a single weight that goes first
    chosen = select({"w": score}, Pattern.of("vector:4"), 0.2, "global")
    assert chosen.masks["w"].tolist() == [[1, 1, 1, 1, 0]]
    assert chosen.thresholds == {"w": 0.0}


def test_where_the_amount_is_less_than_half_a_tile_nothing_is_pruned():
    chosen = select(scores([(4, 8)]), Pattern.of("channel"), 0.1, "global")
    assert pruned(chosen) == 0
    assert chosen.thresholds == {"layer0": None}


def test_of_every_four_neighbours_the_two_best_are_kept_and_a_rest_of_a_row_too():
    score = np.array([[4, 1, 3, 2, 0, 0], [1, 1, 1, 1, 0, 0]], np.float32)
    chosen = select({"w": score}, Pattern.of("2:4"), 0.9, "local")
    assert chosen.masks["w"].tolist() == [[1, 0, 1, 0, 1, 1], [0, 0, 1, 1, 1, 1]]
    assert chosen.thresholds == {"w": None}


def test_half_precision_scores_are_added_up_in_more():
    score = np.full((2, 4096), 60000, np.float16)  # their sum is beyond float16
    score[1] /= 2
    chosen = select({"w": score}, Pattern.of("channel"), 0.5, "global")
    assert chosen.masks["w"][:, 0].tolist() == [1, 0]
    assert chosen.thresholds == {"w": 30000.0}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused_by_name(value):
    with pytest.raises(InputError, match="conv7"):
        select({"conv7": np.array([[1.0, value]])}, Pattern.of("element"), 0.5, "global")
