"""What annex A tells beside the overall figures: slices, narrowly decided samples, the class that lost most, times."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mlflow_aifsm.record import VerificationResult
from mlflow_aifsm.report.annex_verification import verification
from mlflow_aifsm.report.blocks import Block, Table
from mlflow_aifsm.report.reading import spans
from tests.report import samples

NUMBERS: dict[str, Any] = {
    "accuracy_before": 0.98,
    "accuracy_after": 0.97,
    "accuracy_drop": 0.01,
    "worst_class": "4",
    "worst_class_samples": 55,
    "worst_class_recall": 0.9636,
    "worst_class_recall_before": 0.9818,
    "worst_class_recall_after": 0.9636,
    "worst_class_drop": 0.0182,
    "low_margin_samples": 54,
    "low_margin": 0.8125,
    "low_margin_flips": 3,
    "other_flips": 1,
    "slice.night.samples": 40,
    "slice.night.flips": 2,
    "slice.night.accuracy_before": 0.95,
    "slice.night.accuracy_after": 0.9,
    "slice.night.accuracy_drop": 0.05,
    "slice.camera 1.2.samples": 7,
    "slice.camera 1.2.flips": 0,
    "worst_slice": "night",
    "slice_drop": 0.05,
    "speedup": 2.2134,
    "float_ms": 9.2,
    "float_quartiles_ms": [9.1, 9.5],
    "delivered_ms": 4.1567,
    "delivered_quartiles_ms": [4.1, 4.3],
    "latency_runs": 60,
    "latency_batch": 1,
    "latency_threads": 2,
}


def blocks(numbers: dict[str, Any], criterion: str = "accuracy_drop ≤ 0.01") -> list[Block]:
    result = VerificationResult(passed=True, criterion=criterion, samples=540, data="digits", numbers=numbers)
    return list(verification(replace(samples.optimization().record, verification=result)))


def rows(found: list[Block]) -> list[list[str]]:
    tables = [block for block in found if isinstance(block, Table)]
    cells = [[row.cells for row in table.rows] for table in tables]
    return [
        [" ".join(span.text for part in cell.blocks for span in spans(part)) for cell in row] for one in cells for row in one
    ]


def words(found: list[Block]) -> str:
    return "\n".join(span.text for block in found for span in spans(block))


def test_slices_have_a_table_of_their_own_and_one_without_labels_leaves_cells_empty() -> None:
    found = blocks(NUMBERS)
    assert ["night", "40", "0.95", "0.9", "0.05", "2"] in rows(found)
    assert ["camera 1.2", "7", "", "", "", "0"] in rows(found)
    assert "Largest loss of accuracy of a slice: 0.05, in night." in words(found)


def test_columns_that_no_slice_fills_are_left_out() -> None:
    found = blocks({"slice.night.samples": 40, "slice.night.flips": 2})
    table = next(block for block in found if isinstance(block, Table) and block.columns[0].text == "Slice")
    assert [column.text for column in table.columns] == ["Slice", "Samples", "Decisions changed"]
    assert sum(table.widths) == 100
    assert "Largest loss" not in words(found)


def test_narrowly_decided_samples_stand_beside_all_others() -> None:
    found = rows(blocks(NUMBERS))
    assert ["Of these, decisions changed", "3 of 54"] in found
    assert ["Of all others, decisions changed", "1 of 486"] in found
    assert ["Largest margin among them, between the two best scores (output units)", "0.8125"] in found


def test_the_class_that_lost_most_is_told_with_its_samples() -> None:
    found = rows(blocks(NUMBERS))
    assert ["Recall of the class that lost most (class 4)", "0.9818", "0.9636", "0.0182"] in found
    assert found[found.index(["Class that lost most (4)"]) + 1] == ["Its samples", "55"]


def test_times_are_a_ratio_first_and_medians_with_quartiles_after_it() -> None:
    found = rows(blocks(NUMBERS))
    assert ["Time of the float model over that of the delivered one (above 1: faster)", "2.213"] in found
    assert ["Delivered model: median, first and third quartile (ms)", "4.157 (4.1 to 4.3)"] in found
    assert "60 interleaved runs of batch 1, threads: 2" in words(blocks(NUMBERS))


def test_no_number_is_told_twice_or_under_the_name_of_a_program() -> None:
    told = words(blocks(NUMBERS))
    assert "Further numbers" not in told
    assert not [name for name in ("slice.", "low margin flips", "worst slice", "latency") if name in told]


def test_limits_of_slices_and_of_the_worst_class_stand_beside_what_was_measured() -> None:
    told = words(blocks(NUMBERS, "slice_drop ≤ 0.02, worst_class_recall ≥ 0.9"))
    assert "slice drop 0.05 > 0.02; worst class recall 0.96 ≥ 0.9" in told


def test_a_verification_without_any_of_them_has_none_of_their_headings() -> None:
    told = words(blocks({"max_diff": 1e-6}))
    assert not [title for title in ("Slices", "smallest margins", "Class that lost most", "Time of") if title in told]
