"""Patterns read back from zeros alone: exact for float weights, as far as rounding allows for codes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_aifsm.capture.patterns import Pattern, spread
from mlflow_aifsm.capture.tiles import select
from mlflow_aifsm.capture.zero_patterns import Tiles, common_pattern, holds, pattern_of, tiles, without_rounding

NOISE = np.random.default_rng(0)
TILES = ("element", "vector:4", "block:4x4", "block:2x8", "block:8x1", "group", "channel")
WORDS = (*TILES, "2:4", "1:2", "3:8")


def pruned(word, shape=(32, 16, 3, 3), amount=0.5, seed=0):
    score = np.random.default_rng(seed).random(shape, np.float32)
    return select({"w": score}, Pattern.of(word), amount, "global").masks["w"] == 0


def held(zero):
    return {word for word in TILES if holds(zero, Pattern.of(word))}


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("shape", [(32, 16, 3, 3), (64, 48), (30, 7, 3, 3)])
def test_the_pattern_a_weight_was_pruned_by_is_read_back(word, shape):
    assert pattern_of(pruned(word, shape)).word == word


@pytest.mark.parametrize("amount", [0.1, 0.9])
@pytest.mark.parametrize("word", ["element", "vector:4", "block:4x4", "group", "channel"])
def test_few_and_many_zeros_read_back_the_same(word, amount):
    assert pattern_of(pruned(word, (64, 32, 3, 3), amount)).word == word


def test_coarser_tiles_hold_finer_ones_and_not_the_other_way_round():
    assert held(pruned("block:4x4")) == {"element", "vector:4", "block:4x4"}
    assert held(pruned("channel")) == {"element", "vector:4", "channel"}
    assert held(pruned("group")) == {"element", "block:8x1", "group"}
    assert held(pruned("vector:4")) == {"element", "vector:4"}
    assert held(pruned("element")) == {"element"}


def test_n_of_m_holds_where_each_whole_group_has_enough_zeros():
    assert holds(pruned("2:4"), Pattern.of("2:4"))
    assert holds(pruned("2:4"), Pattern.of("4:8"))
    assert not holds(pruned("2:4"), Pattern.of("1:4"))
    assert not holds(pruned("element"), Pattern.of("2:4"))


def test_a_single_weight_that_is_back_breaks_the_pattern():
    zero = pruned("block:4x4")
    place = tuple(np.argwhere(zero)[0])
    zero[place] = False
    assert not holds(zero, Pattern.of("block:4x4"))
    assert pattern_of(zero).word == "element"


def test_tiles_of_every_size_are_found_though_none_is_listed_anywhere():
    keep = NOISE.random((6, 7)) < 0.5
    zero = spread(keep, Pattern.of("block:7x11"), (41, 75))
    assert tiles(zero) == Tiles(7, 11)
    assert pattern_of(zero).word == "block:7x11"


@given(st.integers(1, 6), st.integers(1, 6), st.integers(2, 30), st.integers(2, 30), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_tiles_are_constant_and_no_larger_ones_are(rows, columns, height, width, seed):
    keep = np.random.default_rng(seed).random((-(-height // rows), -(-width // columns))) < 0.5
    zero = spread(keep, Pattern("block", rows, columns), (height, width))
    found = tiles(zero)
    for size, step, axis in ((found.rows, rows, 0), (found.columns, columns, 1)):
        assert size % step == 0
        changes = [
            place for place in range(1, zero.shape[axis]) if (zero.take(place, axis) != zero.take(place - 1, axis)).any()
        ]
        assert math.gcd(*changes) == size


def test_zeros_in_an_edge_tile_alone_are_no_tiles():
    zero = np.zeros((16, 9), bool)
    zero[15, 8] = True
    assert tiles(zero) == Tiles(15, 8)
    assert pattern_of(zero).word == "element"


def test_ninety_percent_of_single_weights_are_no_pattern_by_chance():
    assert pattern_of(pruned("element", (512, 128), 0.9)).word == "element"


def test_a_layer_that_is_all_zero_lost_all_its_channels():
    assert pattern_of(np.ones((8, 4), bool)).word == "channel"


@pytest.mark.parametrize(
    ("parts", "common"),
    [
        (("block:4x4", "block:8x4"), "block:4x4"),
        (("block:4x4", "vector:8"), "vector:4"),
        (("channel", "block:4x4"), "vector:4"),
        (("group", "block:4x4"), "block:4x1"),
        (("channel", "group"), "element"),
        (("channel", "channel"), "channel"),
        (("2:4", "2:4"), "2:4"),
        (("2:4", "element"), "element"),
    ],
)
def test_layers_have_the_largest_tiles_in_common_that_all_of_them_fill(parts, common):
    assert common_pattern([pruned(word, seed=place) for place, word in enumerate(parts)]).word == common


@pytest.mark.parametrize("word", ["vector:4", "block:4x4", "group", "channel"])
def test_zeros_of_rounding_are_told_from_those_of_a_pattern(word):
    made = pruned(word, (64, 32, 3, 3))
    rounded = NOISE.random(made.shape) < 0.01
    seen = without_rounding(made | rounded, rounding=2 * int(rounded.sum()))
    assert holds(seen, Pattern.of(word))
    assert pattern_of(made | rounded).word == "element"


def test_zeros_that_are_no_tiles_stay_what_they_are():
    made = pruned("element", (64, 32))
    assert (without_rounding(made, rounding=20) == made).all()
    assert without_rounding(made, rounding=0) is made


@pytest.mark.parametrize(
    ("shape", "asked", "found"),
    [
        ((1, 64), "element", "element"),
        ((1, 64), "group", "element"),
        ((1, 64), "vector:4", "vector:4"),
        ((1, 64), "2:4", "2:4"),
        ((64, 1), "element", "element"),
        ((64, 1), "channel", "element"),
        ((64, 1), "block:4x1", "block:4x1"),
    ],
)
def test_an_axis_of_one_place_shows_no_pattern_and_holds_the_asked_one(shape, asked, found):
    zero = pruned(asked, shape)
    assert pattern_of(zero).word == found
    assert holds(zero, Pattern.of(asked))
    assert without_rounding(zero, 0) is zero


def test_of_layers_together_those_with_several_rows_tell_the_pattern():
    row, layer, dense = pruned("element", (1, 64)), pruned("group", (16, 9)), np.zeros((16, 64), bool)
    assert common_pattern([row, layer]).word == "group"
    assert common_pattern([row, dense]).word == "element"


def test_zeros_of_rounding_are_told_from_vectors_in_a_single_row():
    zero = pruned("vector:4", (1, 256))
    noisy = zero.copy()
    noisy[0, np.flatnonzero(~zero[0])[:3]] = True
    assert (without_rounding(noisy, 4) == zero).all()
