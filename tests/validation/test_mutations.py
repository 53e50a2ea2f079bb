"""The validation can fail: with a detection taken away, the fault it finds is reported as missed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from mlflow_aifsm import audit, fill, identity, verifying
from mlflow_aifsm.calibration import facts as calibration
from mlflow_aifsm.capture import aten, eliminations, non_linearities, pruning_patterns
from mlflow_aifsm.errors import ConversionError
from mlflow_aifsm.operations import pruned as looked_up
from mlflow_aifsm.operations import verbatim
from mlflow_aifsm.recording import Recording
from mlflow_aifsm.validation import (
    bench,
    conversion,
    data,
    good_models,
    integrity,
    optimization,
    pruning,
    quantization,
    runner,
    weights,
)
from mlflow_aifsm.validation.trial import Trial
from mlflow_aifsm.validation.workplace import workplace
from mlflow_aifsm.verification import integer_execution, outcome, tally
from mlflow_aifsm.verification.criterion import Criterion
from mlflow_aifsm.verification.distance import Distance


@pytest.fixture(scope="module", autouse=True)
def place() -> Iterator[None]:
    bench.forget()
    with workplace():
        yield
    bench.forget()


MUTATIONS = [
    (weights.silent_half_precision_round_trip, Criterion, "misses", lambda *_: ()),
    (data.wrong_normalization, Criterion, "misses", lambda *_: ()),
    (conversion.batch_normalization_on_batch_statistics, tally, "invariance", lambda *_: {}),
    (weights.nan_weight, Distance, "_add_output", lambda *_: None),
    (conversion.exported_in_training_mode, eliminations, "_inert", lambda *_: True),
    (data.verification_data_reused_for_calibration, verifying, "reused", lambda *_: []),
    (optimization.activation_function_removed, non_linearities, "_kept", lambda *_: True),
    (optimization.weights_removed_silently, pruning_patterns, "_unexplained", lambda *_: ()),
    (quantization.percentile_that_clips, calibration, "_clips", lambda *_: iter(())),
    (quantization.entropy_that_is_minimum_and_maximum, verbatim, "claimed", lambda *_: None),
    (quantization.sixteen_bits_that_run_in_float, integer_execution, "_runs_in_float", lambda *_: []),
    (quantization.four_bits_asked_and_eight_delivered, fill, "agrees", lambda *_: True),
    (data.calibration_on_one_class, calibration, "_findings", lambda *_: iter(())),
    (pruning.channels_asked_and_single_weights_pruned, looked_up, "_pattern", lambda *_: iter(())),
    (pruning.blocks_asked_and_single_weights_pruned, looked_up, "holds", lambda *_: True),
    (pruning.half_asked_and_less_pruned, looked_up, "_tolerance", lambda *_: 1.0),
    (pruning.largest_weights_pruned, looked_up, "_threshold", lambda *_: ("", ())),
    (pruning.masks_frozen_with_the_module, aten, "REPARAMETRIZED", re.compile("$^")),
    (pruning.masks_left_by_an_exporter, pruning_patterns, "_is_masked", lambda *_: False),
    (pruning.zeros_lost_by_a_later_quantization, pruning_patterns, "_zeros_lost", lambda *_, **__: ()),
    (pruning.pruned_after_its_verification_and_frozen, identity, "changed", lambda given, _: given),
    (pruning.fine_tuned_on_verification_data, verifying, "reused", lambda *_: []),
    (pruning.rare_class_lost_while_accuracy_holds, outcome, "lost_classes", lambda *_: ()),
    (integrity.external_data_altered, audit, "differences", lambda *_: ()),
    (integrity.record_edited, audit, "_checks", lambda *_: iter(())),
]


@pytest.mark.parametrize(("trial", "holder", "name", "blind"), MUTATIONS, ids=[one[0].name for one in MUTATIONS])
def test_a_fault_whose_detection_is_taken_away_is_missed(
    trial: Trial, holder: object, name: str, blind: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, caught = runner._ran(trial)
    assert caught, seen
    monkeypatch.setattr(holder, name, blind)
    bench.sparse.cache_clear()
    seen, caught = runner._ran(trial)
    assert not caught
    assert not any("the trial itself failed" in words for words in seen), seen


def test_a_good_model_that_is_accused_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runner._ran(good_models.converted_elsewhere) == ((), True)
    monkeypatch.setattr(Criterion, "misses", lambda *_: ("the weather",))
    seen, passed = runner._ran(good_models.converted_elsewhere)
    assert not passed
    assert seen[0].startswith("verification failed")


def test_one_layer_in_float_is_no_accusation_and_would_be_one_under_a_lower_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(good_models, "eight_bits", bench.quantized)
    assert runner._ran(good_models.quantized_to_8_bits) == ((), True)
    monkeypatch.setattr(integer_execution, "SHARE", 0.4)
    seen, passed = runner._ran(good_models.quantized_to_8_bits)
    assert not passed
    assert seen[0].startswith("finding: runs_in_float: 1 of 2 layers with quantized data and weights run in float: node_linear")


def test_a_good_model_that_nobody_verified_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recording, "verify", lambda *_: None)
    assert runner._ran(good_models.converted_elsewhere) == ((), False)


def test_a_trial_that_breaks_off_counts_as_missed_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise ConversionError("the exporter is not there")

    monkeypatch.setattr(conversion, "exported", refuses)
    outcome = runner._tried("conversion", conversion.classes_permuted)
    assert not outcome.passed
    assert outcome.found == ("the trial itself failed: ConversionError: the exporter is not there.",)


def test_a_fault_found_for_another_reason_than_the_expected_one_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "converted", lambda *_: bench.converted(bench.exported(bench.network(1)), bench.network()))
    seen, caught = runner._ran(conversion.exported_in_training_mode)
    assert seen
    assert not caught
