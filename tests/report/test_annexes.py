"""The annexes in words: criterion and numbers, quantizers and zeros."""

from __future__ import annotations

from dataclasses import replace

from mlflow_aifsm.facts import Json
from mlflow_aifsm.record import Evidence, VerificationResult
from mlflow_aifsm.report.annex_layers import layers
from mlflow_aifsm.report.annexes import annexes
from mlflow_aifsm.report.blocks import Heading
from mlflow_aifsm.report.reading import spans
from mlflow_aifsm.report.summary import verification_line
from tests.report import samples
from tests.report.reading import tables

LIMITED = VerificationResult(
    passed=True,
    criterion="accuracy_drop ≤ 0.01, sqnr_db ≥ 30",
    metric="accuracy_drop, sqnr_db",
    samples=540,
    data="digits, verification",
    numbers={
        "accuracy_before": 0.98148,
        "accuracy_after": 0.97963,
        "accuracy_drop": 0.00185,
        "worst_class": "4",
        "worst_class_recall_before": 0.9818,
        "worst_class_recall_after": 0.9636,
        "worst_class_drop": 0.0182,
        "sqnr_db": 36.7129,
        "flips": 1,
        "flip_upper_95": 0.0087545,
        "repeat_diff": 0.0,
        "batch_invariance": 4.7683e-06,
        "of_its_own": 3,
    },
)


def words(evidence: Evidence) -> str:
    return "\n".join(span.text for block in annexes(evidence) for span in spans(block))


def verified(result: VerificationResult) -> Evidence:
    sample = samples.optimization()
    return replace(sample, record=replace(sample.record, verification=result))


def quantizers(*rows: dict[str, Json]) -> list[list[str]]:
    return tables(*layers(replace(samples.optimization(), tables={"quantizers": rows})))


def test_limits_are_told_as_limits_and_not_as_a_missing_epsilon() -> None:
    rows = dict(row[:2] for row in tables(*annexes(verified(LIMITED))) if len(row) > 1)
    assert rows["Limits"] == "accuracy drop ≤ 0.01, SQNR (dB) ≥ 30"
    assert rows["Set by, and why"] == "tool default, not justified"
    assert "Epsilon" not in words(verified(LIMITED))
    assert "Epsilon" in words(samples.conversion())


def test_numbers_have_words_units_and_two_columns_where_they_were_taken_twice() -> None:
    rows = tables(*annexes(verified(LIMITED)))
    assert ["Accuracy", "0.9815", "0.9796", "0.00185"] in rows
    assert ["Recall of the class that lost most (class 4)", "0.9818", "0.9636", "0.0182"] in rows
    assert ["Decisions changed", "1 of 540"] in rows
    assert ["Rate of changed decisions, upper 95 % bound (Clopper-Pearson)", "0.8755 %"] in rows
    assert ["Signal to quantization noise ratio, SQNR (dB)", "36.71"] in rows
    assert ["Largest difference of two runs of the same batch (output units)", "0 (bit-equal: yes)"] in rows


def test_a_number_without_a_name_is_printed_under_its_own() -> None:
    assert ["of its own", "3"] in tables(*annexes(verified(LIMITED)))


def test_a_failure_is_a_reason_and_not_a_run_that_broke_off() -> None:
    failed = replace(LIMITED, passed=False, failure="two runs of the same batch differ")
    assert "Reason:\ntwo runs of the same batch differ." in words(verified(failed))
    assert "could not run" not in words(verified(failed))


def test_the_line_on_a_verification_gives_the_number_that_decided() -> None:
    assert verification_line(LIMITED) == (
        "passed: accuracy 0.9815 → 0.9796, drop 0.0019 ≤ 0.01; SQNR (dB) 37 ≥ 30 (tool default, not justified), "
        "540 samples of digits, verification"
    )
    missed = replace(samples.optimization_with_findings().record.verification or LIMITED, reason="agreed")
    assert verification_line(missed).startswith("FAILED: largest difference 4.8 > 0.0001 (agreed), 719 samples")
    unmeasured = replace(LIMITED, numbers={"flips": 1})
    assert "accuracy drop not measured, limit ≤ 0.01" in verification_line(unmeasured)
    assert verification_line(replace(LIMITED, samples=0, passed=False, failure="no file")) == "FAILED: no file"


def test_a_run_without_a_criterion_is_not_called_passed() -> None:
    unjudged = replace(LIMITED, criterion="no limit was set", metric="none: only finite, repeatable outputs are asked for")
    assert verification_line(unjudged) == (
        "run on this host, no criterion set: no limit was set, 540 samples of digits, verification"
    )
    told = words(verified(unjudged))
    assert "run, no criterion set" in told
    assert "verification passed" not in told
    assert "Set by, and why" not in told


def test_what_was_not_probed_and_what_was_compared_byte_for_byte_is_told_in_words() -> None:
    why = "repeat, batch invariance: outputs came from the target device"
    numbers = {**LIMITED.numbers, "not_probed": why, "infinite_in_both": 2, "samples_seen_before": 0}
    rows = tables(*annexes(verified(replace(LIMITED, numbers=numbers))))
    assert ["Not probed, and why", why] in rows
    assert ["Values that are the same infinity in both models, left out of the differences", "2"] in rows
    assert ["Samples seen in training or calibration, compared byte for byte as given", "0"] in rows


def test_rounding_never_hides_on_which_side_of_its_limit_a_number_lies() -> None:
    close = VerificationResult(
        passed=False, criterion="approximate", epsilon=1e-4, samples=9, numbers={"max_diff": 1.0000004e-4}
    )
    assert "largest difference 0.00010000004 > 0.0001" in verification_line(close)
    assert "0.0001 ≤ 0.0001" in verification_line(replace(close, numbers={"max_diff": 1e-4}))


def test_a_quantizer_shows_type_granularity_range_scale_and_formula() -> None:
    shown = {"tensor": "w", "op": "Conv", "layer": "conv1", "kind": "weight", "dtype": "int8", "bits": 8, "effective_bits": 7}
    span = {"scale_min": 0.0149713, "scale_max": 0.0288525, "s_min": 34.6589, "s_max": 66.7942}
    ends = {"beta_min": -3.69312, "beta_max": -1.91633, "alpha_min": 1.90136, "alpha_max": 3.66427}
    codes = {"codes_min": -64, "codes_max": 64, "zero_point_min": 0, "zero_point_max": 0}
    rest = {"granularity": "channelwise", "scales": 16, "axis": 0, "formula": "s = 64/max|w|"}
    assert quantizers({**shown, **span, **ends, **codes, **rest}) == [
        [
            "w Conv conv1",
            "weight int8, 8 bits 7 effective, codes -64 … 64",
            "channelwise 16 scales, axis 0",
            "β -3.693 … -1.916 α 1.901 … 3.664",
            "1/s 0.01497 … 0.02885 s 34.66 … 66.79",
            "0",
            "s = 64/max|w|",
        ]
    ]


def test_a_range_of_one_scale_is_an_interval_and_empty_columns_are_left_out() -> None:
    ends = {"beta_min": 0.0, "beta_max": 0.0, "alpha_min": 0.99937499, "alpha_max": 0.99937499}
    assert quantizers({"tensor": "image", **ends}) == [["image", "[0, 0.9994]"]]


def test_a_series_with_columns_of_its_own_shows_them() -> None:
    assert quantizers({"unheard_of": 0.5, "second": None}) == [["0.5", ""]]


def test_a_calibrated_range_stands_beside_the_represented_one_and_says_where_the_file_falls_short() -> None:
    ends = {"beta_min": -1.0, "beta_max": -1.0, "alpha_min": 0.992, "alpha_max": 0.992, "scale_min": 0.008, "scale_max": 0.008}
    for high, said in ((0.999, ""), (1.1, " beyond what the file can represent")):
        row = quantizers({"tensor": "x", **ends, "calibrated_min": -1.0, "calibrated_max": high})[0]
        assert row[:3] == ["x", "[-1, 0.992]", f"[-1, {high}]{said}"]


def test_calibration_and_noise_by_layer_are_shown_where_they_were_measured() -> None:
    ends = {"calibrated_min": 0.0, "calibrated_max": 2.75, "observed_min": 0.0, "observed_max": 4.0477}
    calibrated = {"tensor": "relu", "method": "entropy", **ends, "clip_fraction": 0.00057, "sqnr_db": 39.42, "note": ""}
    noise = {"tensor": "conv2d_2", "layer": "node_conv2d_2", "op": "Conv", "sqnr_db": 31.24}
    shown = tables(*layers(replace(samples.optimization(), tables={"calibration": (calibrated,), "layers": (noise,)})))
    assert shown == [
        ["relu", "entropy", "[0, 2.75]", "[0, 4.048]", "0.057\N{NO-BREAK SPACE}%", "39.4"],
        ["conv2d_2 Conv node_conv2d_2", "31.2"],
    ]
    without = [block for block in layers(replace(samples.optimization(), tables={})) if isinstance(block, Heading)]
    assert [heading.title.text for heading in without] == ["Quantizers", "Sparsity"]


def test_a_range_that_was_not_kept_as_estimated_tells_why() -> None:
    note = "entropy clipped 3.1 % at 9 dB: min_max used instead"
    row = {"tensor": "relu", "method": "min_max", "note": note, "calibrated_min": 0.0, "calibrated_max": 1.0}
    shown = tables(*layers(replace(samples.optimization(), tables={"calibration": (row,)})))
    assert shown == [["relu", f"min_max {note}", "[0, 1]"]]


def test_histograms_are_plots_and_no_table() -> None:
    row = {"tensor": "relu", "bin_low": 0.0, "bin_high": 0.1, "count": 7}
    assert tables(*layers(replace(samples.optimization(), tables={"distributions": (row,)}))) == []


def test_zeros_stand_beside_those_of_the_float_weight_with_pattern_threshold_and_work() -> None:
    row: dict[str, Json] = {"tensor": "conv1.weight", "layer": "node_1", "module": "conv1", "size": 144, "zeros": 74}
    row |= {"ratio": 74 / 144, "zeros_before": 72, "zeros_kept": 71, "pattern": "block:4x4", "threshold": 0.0125}
    row |= {"multiply_adds": 9216, "nonzero_multiply_adds": 4480}
    (shown,) = tables(*layers(replace(samples.optimization(), tables={"sparsity": (row,)})))
    assert shown[:2] == ["conv1.weight node_1", "144"]
    assert shown[2:] == [
        "74 before 72 71 of these kept",
        "51.39\N{NO-BREAK SPACE}%",
        "block:4x4 threshold 0.0125",
        "9,216 4,480 left",
    ]


def test_a_module_is_named_where_the_weight_is_not_called_after_it() -> None:
    row: dict[str, Json] = {"tensor": "val_5", "layer": "node_2", "module": "head.fc", "size": 8, "zeros": 0, "ratio": 0.0}
    row |= {"zeros_before": 0, "zeros_kept": 0}
    assert tables(*layers(replace(samples.optimization(), tables={"sparsity": (row,)}))) == [
        ["val_5 node_2 module head.fc", "8", "0", "0\N{NO-BREAK SPACE}%"]
    ]


def test_only_columns_that_are_shown_are_explained() -> None:
    row: dict[str, Json] = {"tensor": "w", "size": 8, "zeros": 2, "ratio": 0.25, "pattern": "2:4"}
    rounded, pattern = "come from rounding too", "2:4 leaves 2 of 4 neighbours"
    for change, said, unsaid in (({}, pattern, rounded), ({"pattern": "", "beside": 3}, rounded, pattern)):
        blocks = layers(replace(samples.optimization(), tables={"sparsity": (row | change,)}))
        words = " ".join(span.text for block in blocks for span in spans(block))
        assert said in words
        assert unsaid not in words


def test_the_share_of_zeros_is_a_percentage() -> None:
    row = {"tensor": "w", "layer": "conv1", "size": 144, "zeros": 1, "ratio": 1 / 144, "beside": 2}
    assert tables(*layers(replace(samples.optimization(), tables={"sparsity": (row,)}))) == [
        ["w conv1", "144", "1", "0.6944\N{NO-BREAK SPACE}%", "2"]
    ]


def test_a_model_that_was_given_in_memory_has_a_digest_and_no_set_of_files() -> None:
    sample = samples.conversion()
    assert "SHA-256 of the model as it was given:" not in words(sample)
    given = replace(sample, record=replace(sample.record, input_files=()))
    assert f"No file was recorded.\nSHA-256 of the model as it was given:\n{given.record.input_sha256}" in words(given)
    unknown = replace(given, record=replace(given.record, input_sha256=""))
    assert "No file was recorded.\nSHA-256 of the set:\nnot recorded" in words(unknown)
