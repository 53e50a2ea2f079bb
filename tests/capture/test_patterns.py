"""Patterns: their words, their tiles, and how a matrix falls into them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_aifsm.capture.orientation import Orientation
from mlflow_aifsm.capture.patterns import Pattern, as_matrix, sizes, spread, tiled
from mlflow_aifsm.errors import InputError

WORDS = st.sampled_from(("element", "vector:3", "vector:4", "block:4x4", "block:2x5", "block:3x1", "group", "channel"))
SHAPES = st.tuples(st.integers(1, 13), st.integers(1, 17))


@pytest.mark.parametrize("word", ["element", "vector:4", "block:8x2", "group", "channel", "2:4", "15:16"])
def test_a_pattern_is_named_by_the_word_it_was_made_of(word):
    assert Pattern.of(word).word == word


@pytest.mark.parametrize(
    "word", ["", "Element", "vector", "vector:0", "block:4", "block:0x4", "4:4", "4:2", "0:4", "2:4 ", "elements", "-1:4"]
)
def test_a_word_that_names_no_pattern_is_refused_with_those_there_are(word):
    with pytest.raises(InputError, match="vector:<n>"):
        Pattern.of(word)


def test_a_definition_tells_the_sizes_and_not_the_word_alone():
    assert Pattern.of("block:8x2").definition == "block-wise: 8 output channels by 2 neighbouring inputs"
    assert Pattern.of("vector:4").definition == "vector-wise: 4 neighbours along the inputs of an output channel"
    assert Pattern.of("2:4").definition == "2:4: of every 4 neighbouring inputs 2 are kept"


def test_a_group_is_a_column_and_a_channel_is_a_row_of_the_matrix():
    assert Pattern.of("group").shape((6, 9)) == (6, 1)
    assert Pattern.of("channel").shape((6, 9)) == (1, 9)


def test_a_tile_is_at_most_the_whole_matrix():
    assert Pattern.of("block:16x16").shape((6, 9)) == (6, 9)


def test_the_weight_of_a_convolution_is_a_row_for_each_output_channel():
    weight = np.arange(24).reshape(2, 3, 2, 2)
    assert as_matrix(weight).tolist() == [list(range(12)), list(range(12, 24))]


@given(WORDS, SHAPES)
def test_tiles_cover_a_matrix_once(word, shape):
    pattern = Pattern.of(word)
    counts = sizes(shape, pattern)
    assert (tiled(np.ones(shape), pattern) == counts).all()
    assert counts.sum() == shape[0] * shape[1]


@given(WORDS, SHAPES, st.integers(0, 2**32 - 1))
def test_what_is_spread_over_tiles_is_summed_back(word, shape, seed):
    pattern = Pattern.of(word)
    counts = sizes(shape, pattern)
    values = np.random.default_rng(seed).integers(0, 9, counts.shape)
    assert spread(values, pattern, shape).shape == shape
    assert (tiled(spread(values, pattern, shape), pattern) == values * counts).all()


@given(st.booleans(), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
def test_a_weight_turned_output_first_and_back_is_the_same(transposed, groups, inputs, outputs):
    way = Orientation(transposed, groups)
    held = np.arange(groups * inputs * outputs * 6).reshape(groups * inputs, outputs, 3, 2)
    turned = way.out_first(held)
    assert turned.shape == ((groups * outputs, inputs, 3, 2) if transposed else held.shape)
    assert (way.stored(turned) == held).all()


def test_groups_of_a_transposed_convolution_keep_their_outputs_together():
    held = np.array([[[1], [2]], [[3], [4]]])  # two groups of one input, two outputs each
    assert Orientation(transposed=True, groups=2).out_first(held)[:, 0, 0].tolist() == [1, 2, 3, 4]
