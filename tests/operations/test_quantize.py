"""``quantize``: what it takes, what it refuses, and the file measured; tools called as asked."""

from __future__ import annotations

import mlflow
import nncf
import numpy as np
import onnx
import pytest
from nncf.quantization.range_estimator import RangeEstimatorParameters, StatisticsCollectorParameters, StatisticsType
from onnx import numpy_helper

import mlflow_aifsm as aifsm
from mlflow_aifsm.errors import InputError, OptimizationError
from mlflow_aifsm.facts import State
from tests.models import Digits

pytestmark = pytest.mark.usefixtures("experiment")


@pytest.fixture
def frozen(digits: Digits) -> aifsm.Result:
    return aifsm.freeze(
        digits.model,
        digits.example,
        aifsm.Onnx(dynamic_shapes="batch"),
        verified_model="digits_1",
        registered_model_name="digits-f",
    )


def value(result: aifsm.Result, key: str) -> str:
    return result.record.entries[key].value.text


def test_the_log_says_what_the_file_holds(digits: Digits, frozen: aifsm.Result) -> None:
    judged = aifsm.Verification(digits.images, digits.labels)
    int8 = aifsm.quantize(frozen, aifsm.Data(digits.images[:300], name="images"), verification=judged)
    weights = [item for item in onnx.load(int8.path).graph.initializer if item.data_type == onnx.TensorProto.INT8 and item.dims]
    assert any(numpy_helper.to_array(item).ndim == 4 for item in weights)
    entries = int8.record.entries
    assert entries["aifsm.ptq.precision"].value.data["weights"] == ["int8"]
    assert entries["aifsm.ptq.granularity"].value.data == {"weights": "channelwise", "activations": "layerwise"}
    assert {entries[f"aifsm.ptq.{key}"].state for key in ("precision", "scheme", "technique", "granularity")} == {
        State.MEASURED
    }
    assert entries["aifsm.calibration.method"].value.data["consumed"] == 300
    assert value(int8, "aifsm.optimization.input_id") == frozen.log_id
    assert int8.record.input_sha256 == frozen.record.output_sha256
    assert int8.verification is not None
    assert int8.verification.passed
    assert int8.record.gaps == ()


def test_without_a_word_all_layers_run_in_integers_on_onnx_runtime(digits: Digits, frozen: aifsm.Result) -> None:
    int8 = aifsm.quantize(frozen, digits.images[:300])
    assert value(int8, "aifsm.ptq.framework").startswith("ONNX Runtime ")
    assert int8.record.entries["aifsm.ptq.additional"].value.data["arguments"]["per_channel"] is True
    assert int8.record.entries["aifsm.calibration.method"].value.brief == "mean_min_max"
    assert mlflow.get_run(int8.run_id).data.metrics["aifsm.integer_ops_ratio"] == 1
    assert int8.findings == ()


def test_a_module_is_frozen_on_the_way_with_a_log_of_its_own(digits: Digits) -> None:
    int8 = aifsm.quantize(digits.model, digits.images[:40], aifsm.Static(subset_size=40), verified_model="digits_1")
    tags = mlflow.get_run(int8.run_id).data.tags
    assert tags["aifsm.conversion.log_id"].startswith("digits_1-MC-")
    assert value(int8, "aifsm.optimization.input_id") == tags["aifsm.conversion.log_id"]
    assert int8.record.input_sha256 == tags["aifsm.conversion.output_sha256"]


def test_rows_that_do_not_apply_say_why_and_what_was_measured(digits: Digits, frozen: aifsm.Result) -> None:
    entries = aifsm.quantize(frozen, digits.images[:300]).record.entries
    pruning = [entry for key, entry in entries.items() if key.startswith("aifsm.pruning.")]
    assert len(pruning) == 5
    assert {entry.state for entry in pruning} == {State.NOT_APPLICABLE}
    assert all("weights are zero" in entry.reason for entry in pruning)
    assert entries["aifsm.recovery.qat"].state is State.NOT_APPLICABLE


def test_fewer_samples_than_asked_for_are_a_finding(digits: Digits, frozen: aifsm.Result) -> None:
    int8 = aifsm.quantize(frozen, digits.images[:20])
    (finding,) = int8.findings
    assert (finding.code, finding.asked, finding.measured) == ("fewer_calibration_samples", "300 samples", "20 samples")
    assert finding.field == "aifsm.calibration.method"


def test_nncf_gets_its_own_keywords_verbatim(digits: Digits, frozen: aifsm.Result) -> None:
    words = aifsm.NNCF(
        preset="mixed",
        subset_size=20,
        ignored_scope={"types": ["Gemm"]},
        advanced_parameters={
            "disable_bias_correction": True,
            "activations_range_estimator_params": {"max": {"statistics_type": "max"}},
        },
    )
    native = aifsm.NNCF(
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=20,
        ignored_scope=nncf.IgnoredScope(types=["Gemm"]),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            disable_bias_correction=True,
            activations_range_estimator_params=RangeEstimatorParameters(
                max=StatisticsCollectorParameters(statistics_type=StatisticsType.MAX)
            ),
        ),
    )
    results = [aifsm.quantize(frozen, digits.images[:20], config) for config in (words, native)]
    assert results[0].record.output_sha256 == results[1].record.output_sha256
    asked = results[0].record.entries["aifsm.ptq.additional"].value.data["arguments"]
    assert (asked["preset"], asked["ignored_scope"]["types"]) == ("mixed", ["Gemm"])
    partial = results[0].record.entries["aifsm.recovery.partial"]
    assert partial.state is State.MEASURED
    assert "max" in value(results[0], "aifsm.calibration.method")


@pytest.mark.parametrize("source", ["path", "uri", "logged", "proto"])
def test_a_model_is_taken_however_it_is_named(digits: Digits, frozen: aifsm.Result, source: str) -> None:
    given = {
        "path": frozen.path,
        "uri": frozen.version_uri,
        "logged": frozen.model_uri,
        "proto": onnx.load(frozen.path),
    }[source]
    named = None if source in ("uri", "logged") else "digits_1"
    int8 = aifsm.quantize(given, digits.images[:20], aifsm.NNCF(subset_size=20), verified_model=named)
    assert value(int8, "aifsm.ptq.precision").startswith("Weights int8")
    assert int8.log_id.startswith("digits_1-MO-")
    expected = frozen.log_id if source in ("uri", "logged") else "digits_1"
    assert value(int8, "aifsm.optimization.input_id") == expected


def test_what_cannot_be_quantized_is_refused_before_a_run_starts(digits: Digits, experiment: str) -> None:
    with pytest.raises(InputError, match="cannot optimize this model"):
        aifsm.quantize(digits.images, digits.images)
    with pytest.raises(InputError, match="cannot do this"):
        aifsm.quantize(digits.model, digits.images, aifsm.Static(granularity="group"))
    archive = aifsm.freeze(digits.model, digits.example, aifsm.Pt2(), verified_model="digits_1")
    with pytest.raises(InputError, match=r"delivered model\.pt2; expected an ONNX file"):
        aifsm.quantize(archive, digits.images)
    with pytest.raises(InputError, match="subset_size"):
        aifsm.NNCF(subset_size=0)
    assert len(mlflow.search_runs([experiment])) == 1


def test_what_nncf_refuses_is_one_line_and_a_failed_log(digits: Digits, frozen: aifsm.Result, experiment: str) -> None:
    config = aifsm.NNCF(subset_size=20, ignored_scope={"names": ["nowhere"]})
    with pytest.raises(OptimizationError, match="nowhere") as caught:
        aifsm.quantize(frozen, digits.images[:20], config)
    assert "\n" not in str(caught.value)
    failed = [run for run in mlflow.MlflowClient().search_runs([experiment]) if run.info.status == "FAILED"]
    assert [run.data.tags["aifsm.optimization.status"] for run in failed] == ["failed"]


def test_unnamed_nodes_get_names_that_keep_float_can_use(digits: Digits, frozen: aifsm.Result) -> None:
    model = onnx.load(frozen.path)
    for node in model.graph.node:
        node.name = ""
    config = aifsm.Static(subset_size=40, keep_float=("Gemm_*",))
    int8 = aifsm.quantize(model, digits.images[:40], config, verified_model="digits_1")
    (left,) = int8.record.entries["aifsm.recovery.partial"].value.data
    assert left.startswith("Gemm_")


def test_ort_gets_its_own_keywords_verbatim_and_entropy_that_is_none_is_found(digits: Digits, frozen: aifsm.Result) -> None:
    config = aifsm.ORT(
        weight_type="QUInt8", activation_type="QUInt8", calibrate_method="Entropy", op_types_to_quantize=["Conv"]
    )
    result = aifsm.quantize(frozen, digits.images[:40], config)
    assert result.record.entries["aifsm.ptq.precision"].value.data["weights"] == ["uint8"]
    assert result.record.entries["aifsm.recovery.partial"].state is State.MEASURED
    assert [finding.code for finding in result.findings] == ["calibration_not_as_claimed"]


def test_the_same_call_twice_delivers_the_same_bytes(digits: Digits, frozen: aifsm.Result) -> None:
    results = [aifsm.quantize(frozen, np.ascontiguousarray(digits.images[:40]), aifsm.NNCF(subset_size=40)) for _ in range(2)]
    assert results[0].record.output_sha256 == results[1].record.output_sha256


def test_a_named_verified_model_does_not_hide_what_the_file_was_made_from(digits: Digits, frozen: aifsm.Result) -> None:
    config = aifsm.NNCF(subset_size=20)
    int8 = aifsm.quantize(
        frozen, digits.images[:20], config, verified_model="other_7", registered_model_name="digits-made-from"
    )
    name, _, version = int8.version_uri.removeprefix("models:/").rpartition("/")
    assert mlflow.MlflowClient().get_model_version(name, version).tags["aifsm.made_from"] == frozen.version_uri
    assert [model.model_id for model in mlflow.get_run(int8.run_id).inputs.model_inputs] == [
        frozen.model_uri.removeprefix("models:/")
    ]
    assert int8.log_id.startswith("other_7-MO-")


def test_samples_are_counted_whatever_the_batch_of_the_model(digits: Digits) -> None:
    fixed = aifsm.freeze(digits.model, digits.example, verified_model="digits_1")
    judged = aifsm.Verification(digits.images[40:80], digits.labels[40:80])
    int8 = aifsm.quantize(fixed, digits.images[:64], aifsm.NNCF(subset_size=16), verification=judged)
    read = int8.record.entries["aifsm.calibration.method"].value.data
    assert (read["asked"], read["consumed"]) == (16, 16)
    assert int8.findings == ()  # images 40 to 63 stand in both sources, but calibration read 16 only
