"""What the cells and sentences of a comparison say: which columns are needed, how a difference reads, how names are listed."""

from __future__ import annotations

import pytest

from mlflow_aifsm.report.comparison_cells import Column, delta, named, telling


def column(title: str, values: str, **more: bool) -> Column:
    return Column(title, tuple((value,) for value in values), **more)


def titles(*found: Column) -> list[str]:
    return [one.title for one in telling(found)]


def test_of_many_rows_a_column_that_tells_no_more_of_them_apart_is_left_out() -> None:
    first, again, finer = column("x", "aabbcc", first=True), column("y", "112233"), column("z", "112234")
    assert titles(first, again, finer) == ["x", "z"]
    assert titles(first, column("joined", "111133")) == ["x"]
    assert titles(finer, again) == ["z"]
    assert titles(again) == ["y"]


def test_columns_of_few_rows_and_those_that_models_are_known_by_are_kept() -> None:
    assert titles(column("x", "aab"), column("y", "112")) == ["x", "y"]
    assert titles(column("x", "aaabbb"), column("y", "111222", first=True)) == ["x", "y"]


@pytest.mark.parametrize(
    ("change", "value", "key", "text"),
    [
        (-0.002, 0.93, "accuracy", "−0.002"),
        (0.0, 1.0, "size", "±0"),
        (-2722.0, 7006.0, "zeros", "−2,722"),
        (50.0, 150.0, "size", "+50 %"),
    ],
)
def test_a_difference_has_its_sign(change: float, value: float, key: str, text: str) -> None:
    assert delta(change, value, key) == text


def test_names_in_a_sentence_are_told_apart_cut_and_counted() -> None:
    assert named(["a", "b, c", "d and e"], 3) == "a, “b, c” and “d and e”"
    assert named(["a", "b", "c"], 2) == "a, b and 1 more"
    told = named(["x\n\x1b[2J" + "long " * 300], 1)
    assert len(told) == 60
    assert told.startswith("x \\x1b[2Jlong")
