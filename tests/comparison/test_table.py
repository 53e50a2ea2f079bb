"""Who is ranked against whom, what differs, what the baseline is, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlflow_aifsm.comparison.table import comparison, float_parent, names
from mlflow_aifsm.report.comparison import Comparison
from tests.comparison.found import FROZEN, conversion, optimization, without


def marks(made: Comparison) -> dict[str, tuple[int, bool]]:
    return {row.name: (row.group, row.best) for row in made.rows}


def test_logs_of_one_chain_on_the_same_data_are_one_group_and_the_best_are_marked() -> None:
    made = comparison([conversion(), optimization("small"), optimization("worse", 0.8, 1100.0)], "t")
    assert marks(made) == {"float": (1, True), "small": (1, True), "worse": (1, False)}
    assert made.warnings == ()
    assert made.quality == "accuracy"


def test_other_verification_data_are_said_and_not_ranked_against() -> None:
    made = comparison(
        [optimization("a"), optimization("b", 0.8, 1100.0, data="field", data_sha256="e" * 64), optimization("c", 0.7)], "t"
    )
    assert marks(made) == {"a": (1, True), "b": (2, False), "c": (1, False)}
    (said,) = made.warnings
    assert said.startswith(
        "Verified on different data, so not ranked against each other: held out, sha256 dddddddddddd… (a and c);"
    )
    assert "field, sha256 eeeeeeeeeeee… (b)" in said


def test_another_runtime_is_said_and_not_ranked_against() -> None:
    made = comparison([optimization("a"), optimization("b", 0.8, 1100.0, runtime="PyTorch 2.13")], "t")
    assert [row.group for row in made.rows] == [1, 2]
    assert made.warnings[0].startswith("Verified in different runtimes, so not ranked against each other: ONNX Runtime")


def test_another_model_to_begin_with_is_said_and_not_ranked_against() -> None:
    other = optimization("b", input_id="cats_2", input_sha256="c" * 64)
    made = comparison([conversion(), optimization("a"), other], "t")
    assert [row.group for row in made.rows] == [1, 1, 2]
    assert "Made from different models, so not ranked against each other: digits_1 (float and a); cats_2 (b)." in made.warnings


def test_two_steps_of_one_chain_are_of_one_group_and_ratios_to_their_own_inputs_are_explained() -> None:
    pruned = optimization("pruned", 0.94, 4000.0, 1.0)
    both = optimization("both", 0.9, 1000.0, 1.2, input_id="id-pruned", input_sha256=pruned.tags["output_sha256"])
    made = comparison([conversion(), pruned, both], "t")
    assert [row.group for row in made.rows] == [1, 1, 1]
    assert "against the one it was made from, and these differ: pruned; both." in made.warnings[0]
    assert made.warnings[1].startswith("Clocked against different models")


def test_logs_without_their_conversion_are_of_one_group_by_its_id() -> None:
    assert [row.group for row in comparison([optimization("a"), optimization("b", 0.8)], "t").rows] == [1, 1]


def test_a_model_that_nobody_registered_is_told_by_its_digest() -> None:
    logs = [
        conversion("a", input_id="unregistered"),
        conversion("b", input_id="unregistered", input_sha256="b" * 64, output_sha256="0" * 64),
    ]
    made = comparison(logs, "t")
    assert [row.group for row in made.rows] == [1, 2]
    assert f"sha256 {'a' * 12}… (a); sha256 {'b' * 12}… (b)" in made.warnings[0]


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (optimization("x", 0.99, 1.0, status="failed"), "Not ranked, as it failed: x."),
        (without(optimization("x", 0.99, 1.0), "record_sha256"), "Not ranked, as it was begun and is not finished: x."),
        (
            optimization("x", 0.99, 1.0, status="verification failed"),
            "Not ranked, as it missed the criterion of its verification: x.",
        ),
        (optimization("x", 0.99, 1.0, status="=cmd()"), "Not ranked, as it has no state that a log can have: x."),
        (optimization("x", None, 1.0), "Not ranked, as it has no accuracy: x."),
        (without(optimization("x", 0.99, 1.0), "data_sha256"), "Not ranked, as it does not say on which data"),
    ],
)
def test_a_log_that_cannot_be_ranked_is_shown_with_the_reason(log, said: str) -> None:
    made = comparison([optimization("a"), log, optimization("b", 0.95)], "t")
    assert marks(made) == {"a": (1, False), "x": (0, False), "b": (1, True)}
    assert made.warnings[0].startswith(said)


def test_several_for_one_reason_are_one_sentence() -> None:
    logs = [optimization(f"x{number}", None) for number in range(5)]
    assert comparison([optimization("a"), *logs], "t").warnings == (
        "Not ranked, as they have no accuracy: x0, x1, x2 and 2 more.",
    )


def test_a_model_that_is_slower_than_the_one_it_was_made_from_and_no_better_is_not_best() -> None:
    pruned, fast = optimization("pruned", 0.94, 4000.0, speedup=0.8), optimization("fast", 0.94, 4000.0, speedup=1.2)
    assert marks(comparison([conversion(), pruned], "t")) == {"float": (1, True), "pruned": (1, False)}
    assert marks(comparison([conversion(), fast], "t")) == {"float": (1, True), "fast": (1, True)}


def test_a_model_that_others_were_clocked_against_on_two_hosts_has_no_time() -> None:
    logs = [conversion(), optimization("a", 0.94, 4000.0, speedup=0.8), optimization("b", speedup=2.0, host="another")]
    made = comparison(logs, "t")
    assert [row.time for row in made.rows] == [None, 1.25, 0.5]
    assert marks(made)["a"] == (1, True)


def test_a_row_that_is_alone_in_its_group_is_not_called_best() -> None:
    assert marks(comparison([optimization("a")], "t")) == {"a": (1, False)}


def test_without_accuracy_the_next_quality_ranks_and_that_is_said() -> None:
    logs = [
        replace(optimization(name, None), numbers={"sqnr_db": noise, "size": 1.0}) for name, noise in (("a", 30.0), ("b", 40.0))
    ]
    made = comparison(logs, "t")
    assert (made.quality, marks(made)) == ("sqnr_db", {"a": (1, False), "b": (1, True)})
    assert made.warnings == ("No log that is ranked has an accuracy, so sqnr db ranks them.",)


def test_a_log_that_is_not_ranked_does_not_choose_the_number_that_ranks_the_others() -> None:
    missed = optimization("missed", 0.9, status="verification failed")
    others = [
        replace(optimization(name, None), numbers={"agreement": share, "size": 1.0}) for name, share in (("a", 0.9), ("b", 0.8))
    ]
    made = comparison([missed, *others], "t")
    assert (made.quality, marks(made)) == ("agreement", {"missed": (0, False), "a": (1, True), "b": (1, False)})
    assert comparison([missed], "t").quality == "accuracy"


def test_a_ratio_to_the_model_that_went_in_ranks_only_models_made_from_the_same() -> None:
    logs = [
        replace(optimization(name, None, input_sha256=sha), numbers={"sqnr_db": 30.0})
        for name, sha in (("a", FROZEN), ("b", "9" * 64))
    ]
    made = comparison(logs, "t")
    assert [row.group for row in made.rows] == [1, 2]
    assert any(said.startswith("Held against different models") for said in made.warnings)


def test_a_ratio_to_a_model_that_nobody_knows_ranks_nothing() -> None:
    known = replace(optimization("a", None), numbers={"sqnr_db": 30.0})
    unknown = without(replace(optimization("b", None), numbers={"sqnr_db": 40.0}), "input_sha256")
    assert [row.group for row in comparison([known, unknown, unknown], "t").rows] == [1, 0, 0]


def test_of_two_conversions_that_delivered_the_same_bytes_the_named_one_is_where_it_began() -> None:
    other = conversion("other", input_id="digits_2", input_sha256="b" * 64)
    made = comparison([conversion(), other, optimization("a", input_id="id-other"), optimization("b")], "t")
    assert [row.group for row in made.rows] == [1, 2, 2, 1]


def test_a_log_that_changed_no_byte_began_where_its_conversion_did() -> None:
    nothing = optimization("nothing", output_sha256=FROZEN)
    assert [row.group for row in comparison([nothing, conversion(), optimization("a")], "t").rows] == [1, 1, 1]


def test_the_baseline_is_the_conversion_that_most_were_made_from() -> None:
    other = conversion("other", output_sha256="7" * 64)
    assert float_parent([other, optimization("a"), conversion(), optimization("b")]) == 2
    assert float_parent([optimization("a"), other]) == 1
    assert float_parent([optimization("a", status="failed"), optimization("b")]) == 1
    assert float_parent([optimization("a", status="failed")]) == 0


def test_differences_are_taken_from_the_baseline_where_both_were_measured() -> None:
    made = comparison([conversion(), optimization("a"), optimization("b", None)], "t")
    assert [made.delta(row, "accuracy") for row in made.rows] == [0.0, pytest.approx(-0.05), None]
    assert [made.delta(row, "size") for row in made.rows] == [0.0, -3000.0, -3000.0]


def test_an_accuracy_on_other_data_has_no_difference_but_a_size_has() -> None:
    made = comparison([conversion(), optimization("a", data_sha256="e" * 64)], "t")
    assert (made.delta(made.rows[1], "accuracy"), made.delta(made.rows[1], "size")) == (None, -3000.0)


@pytest.mark.parametrize("unknown", ["data_sha256", "runtime"])
def test_an_accuracy_on_nobody_knows_what_has_no_difference(unknown: str) -> None:
    made = comparison([without(conversion(), unknown), without(optimization("a"), unknown)], "t")
    assert [made.delta(row, "accuracy") for row in made.rows] == [0.0, None]


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("agreement", {"input_sha256": "9" * 64}),
        ("worst_class_drop", {"input_sha256": "9" * 64}),
        ("worst_class_drop", {"data_sha256": "e" * 64}),
        ("size_ratio", {"input_sha256": "9" * 64}),
        ("speedup", {"input_sha256": "9" * 64}),
        ("speedup", {"host": "another"}),
    ],
)
def test_what_holds_a_model_against_another_one_has_a_difference_only_beside_the_same(name: str, changed) -> None:
    same, apart = (replace(optimization("a", **more), numbers={name: 2.0}) for more in ({}, changed))
    base = replace(optimization("base"), numbers={name: 1.0})
    made = comparison([base, same, apart], "t", baseline=0)
    assert [made.delta(row, name) for row in made.rows] == [0.0, 1.0, None]


def test_what_differs_stands_apart_from_what_is_the_same_for_all_that_have_it() -> None:
    made = comparison([conversion(), optimization("a"), optimization("b")], "t")
    assert "calibration.method" in made.differing
    assert made.same["ptq.precision"] == "int8 weights"
    assert made.same["conversion.opset"] == "20"
    assert made.same["accuracy_drop"] == "0"
    assert {"accuracy", "size"} <= set(made.numbers)


def test_a_field_that_was_not_recorded_says_so_and_one_of_another_kind_of_log_is_missing() -> None:
    made = comparison([conversion(), optimization("a")], "t")
    assert made.rows[1].categories["ptq.scheme"] == "not recorded"
    assert "ptq.scheme" not in made.rows[0].categories


def test_names_are_those_of_the_runs_and_no_two_are_the_same() -> None:
    twice = replace(optimization("second"), run_id="float", run_name="float")
    again = replace(optimization("third"), run_id="0123456789abcdef", run_name="third")
    same = replace(optimization("third"), run_id="fedcba9876543210", run_name="third")
    told = names([conversion(), twice, again, same])
    assert told == ["float · conversion", "float · optimization", "third · 01234567", "third · fedcba98"]


def test_a_run_that_is_called_what_another_one_is_told_apart_by_has_its_own_name() -> None:
    runs = {"0123456789abcdef": "a", "fedcba9876543210": "a", "8888888888888888": "a · 01234567"}
    told = names([replace(optimization("x"), run_id=run_id, run_name=name) for run_id, name in runs.items()])
    assert len(set(told)) == 3


def test_of_many_rows_the_baseline_and_the_best_are_kept_and_the_numbers_of_rows_stay() -> None:
    logs = [optimization(f"r{number}", 0.5 + number / 1000, 1000.0) for number in range(50)]
    made = comparison([*logs, conversion()], "t")
    short = made.shortened(3)
    assert [(row.number, row.name) for row in short.rows] == [(1, "r0"), (50, "r49"), (51, "float")]
    assert short.rows[short.baseline].name == "float"
    assert short.left_out == 48
    assert made.shortened(51) is made
