"""What is refused before a pruning starts, and which layers names mean."""

from __future__ import annotations

import numpy as np
import pytest

from mlflow_aifsm.backends.pruned import Applied, check, named, nearest
from mlflow_aifsm.capture.patterns import Pattern
from mlflow_aifsm.errors import InputError

KNOWN = {
    "stem.conv.weight": ("stem.conv", "stem.conv.weight", "Conv2d"),
    "stem.other.weight": ("stem.other", "stem.other.weight", "Conv2d"),
    "head.weight": ("head", "head.weight", "Linear"),
}
MATRICES = {"conv": (16, 36), "fc": (8, 12)}


def test_names_choose_layers_by_path_wildcard_and_type() -> None:
    assert named(KNOWN, (), ()) == tuple(KNOWN)
    assert named(KNOWN, ("stem",), ()) == ("stem.conv.weight", "stem.other.weight")
    assert named(KNOWN, ("*.conv", "Linear"), ()) == ("stem.conv.weight", "head.weight")
    assert named(KNOWN, (), ("head",)) == ("stem.conv.weight", "stem.other.weight")
    assert named(KNOWN, ("Conv2d",), ("stem.other",)) == ("stem.conv.weight",)


@pytest.mark.parametrize("argument", ["layers", "keep_dense"])
def test_a_name_of_no_layer_tells_the_nearest(argument: str) -> None:
    asked = {"layers": (), "keep_dense": (), argument: ("stem.con",)}
    with pytest.raises(InputError, match=rf"{argument} names no layer.*'stem\.con'.*nearest: stem\.conv"):
        named(KNOWN, **asked)


def test_nothing_left_to_prune_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to prune; got no weight"):
        named({}, (), ())
    with pytest.raises(InputError, match="keep_dense names all 2 layers"):
        named(KNOWN, ("stem",), ("Conv2d",))
    with pytest.raises(InputError, match="nothing to prune"):
        check({}, Pattern.of("element"), 0.5, "global")


@pytest.mark.parametrize("amount", [0, 1, -0.1, 1.5, float("nan")])
def test_an_amount_outside_its_range_is_refused(amount: float) -> None:
    with pytest.raises(InputError, match="amount to prune"):
        check(MATRICES, Pattern.of("element"), amount, "global")


@pytest.mark.parametrize("pattern", ["vector:13", "block:9x1", "block:1x37", "4:16"])
def test_a_pattern_larger_than_a_layer_is_refused_with_its_name(pattern: str) -> None:
    with pytest.raises(
        InputError, match=rf"pattern {pattern} is larger than (fc|conv); got \d+ output channels of \d+ weights"
    ):
        check(MATRICES, Pattern.of(pattern), 0.5, "global")


def test_a_pattern_as_large_as_a_layer_fits() -> None:
    check(MATRICES, Pattern.of("block:8x12"), 0.5, "global")


def test_an_amount_that_rounds_to_no_tile_is_refused() -> None:
    check(MATRICES, Pattern.of("channel"), 0.03, "global")
    with pytest.raises(InputError, match=r"amount 0\.01 prunes nothing"):
        check(MATRICES, Pattern.of("channel"), 0.01, "global")
    with pytest.raises(InputError, match=r"amount 0\.03 prunes nothing"):
        check(MATRICES, Pattern.of("channel"), 0.03, "local")


def test_an_amount_that_leaves_nothing_of_a_layer_is_refused() -> None:
    check(MATRICES, Pattern.of("channel"), 0.95, "global")
    with pytest.raises(InputError, match=r"amount 0\.95 leaves nothing of fc; got 8 tiles of channel"):
        check(MATRICES, Pattern.of("channel"), 0.95, "local")


def test_the_nearest_number_of_tiles_rounds_halves_down() -> None:
    assert [nearest(0.5, count) for count in (0, 1, 3, 4)] == [0, 0, 1, 2]
    assert nearest(0.7, 10) == 7


def test_reached_amounts_and_emptied_layers_are_read_from_the_masks() -> None:
    masks = {"a": np.array([[True, False], [True, True]]), "b": np.zeros((2, 2), bool)}
    applied = Applied("f", {}, masks, {})
    assert applied.reached == {"a": 0.25, "b": 1.0}
    assert applied.amount == 5 / 8
    assert applied.emptied == ("b",)
