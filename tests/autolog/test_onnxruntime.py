"""What a log says of ONNX Runtime's quantizers, which read and write files."""

from __future__ import annotations

from pathlib import Path

import mlflow
import onnx
import pytest
from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_dynamic, quantize_static

import mlflow_aifsm as aifsm
from mlflow_aifsm.digests import sha256_file
from mlflow_aifsm.facts import State
from mlflow_aifsm.samples import Samples
from tests.autolog.recorded import Reader, artifact, graph, recording, the_log
from tests.operations.quantized_models import small

pytestmark = pytest.mark.usefixtures("experiment")


def test_the_log_says_what_that_of_the_verb_says() -> None:
    with recording(), mlflow.start_run() as run:
        quantize_static(small().path, "int8.onnx", Reader(), per_channel=True, calibrate_method=CalibrationMethod.Percentile)
    with mlflow.start_run() as other:
        config = aifsm.ORT(per_channel=True, calibrate_method="Percentile")
        aifsm.quantize(small().path, small().images[:24], config)
    ours, verbs = the_log(run.info.run_id).entries, the_log(other.info.run_id).entries
    assert {key: entry.state for key, entry in ours.items()} == {key: entry.state for key, entry in verbs.items()}
    same = [f"aifsm.ptq.{name}" for name in ("framework", "packages", "precision", "scheme", "technique", "granularity")]
    assert {key: ours[key].value for key in same} == {key: verbs[key].value for key in same}
    told, known = (entries["aifsm.calibration.method"].value.data for entries in (ours, verbs))
    names = ("method", "consumed", "sha256", "clip_fraction")
    assert {name: told[name] for name in names} == {name: known[name] for name in names}
    tables = [artifact(one.info.run_id, "aifsm/optimization/calibration.csv") for one in (run, other)]
    assert tables[0] == tables[1]


def test_the_reader_is_read_once_and_the_file_is_that_of_the_bare_call() -> None:
    quantize_static(graph(), "bare.onnx", Reader())
    reader = Reader()
    with recording(), mlflow.start_run() as run:
        assert quantize_static(graph(), "seen.onnx", reader) is None
    assert reader.read == 24
    assert sha256_file(Path("bare.onnx")) == sha256_file(Path("seen.onnx")) == the_log(run.info.run_id).output_sha256
    assert {path.name for path in Path().glob("*.json")} == set()


def test_a_calibration_cache_of_the_caller_is_named_where_no_sample_is_read() -> None:
    quantize_static(graph(), "first.onnx", Reader(), calibration_cache_path="ranges.json")
    with recording(), mlflow.start_run() as run:
        quantize_static(graph(), "second.onnx", None, calibration_cache_path="ranges.json")
    record = the_log(run.info.run_id)
    words = f"read from ranges.json (sha256 {sha256_file(Path('ranges.json'))[:12]}…), so that no sample was read"
    assert words in record.entries["aifsm.calibration.method"].value.text
    assert record.entries["aifsm.ptq.precision"].state is State.MEASURED


def test_a_file_that_is_replaced_is_compared_with_what_it_was() -> None:
    onnx.save(graph(), "model.onnx")
    before = sha256_file(Path("model.onnx"))
    with recording(), mlflow.start_run() as run:
        quantize_static("model.onnx", "model.onnx", Reader(8))
    record = the_log(run.info.run_id)
    assert (record.input_sha256, record.output_sha256) == (before, sha256_file(Path("model.onnx")))
    assert before != record.output_sha256


def test_a_deleted_non_linearity_is_a_finding() -> None:
    options = {"CalibTensorRangeSymmetric": True}
    with recording(), mlflow.start_run() as run:
        quantize_static(graph(), "lost.onnx", Reader(), activation_type=QuantType.QUInt8, extra_options=options)
    record = the_log(run.info.run_id)
    assert "non_linearity_lost" in {finding.code for finding in record.findings}
    assert "extra_options.CalibTensorRangeSymmetric=True" in record.entries["aifsm.ptq.additional"].value.text


def test_dynamic_quantization_is_measured_and_reads_no_data() -> None:
    with recording(), mlflow.start_run() as run:
        quantize_dynamic(graph(), "dynamic.onnx", weight_type=QuantType.QUInt8)
    entries = the_log(run.info.run_id).entries
    assert entries["aifsm.ptq.technique"].value.brief == "integer quantization (dynamic)"
    assert entries["aifsm.calibration.method"].state is State.NOT_APPLICABLE
    assert entries["aifsm.ptq.additional"].value.data["arguments"]["weight_type"] == "QUInt8"


def test_the_samples_of_the_reader_are_those_of_the_array() -> None:
    with recording(), mlflow.start_run() as run:
        quantize_static(graph(), "int8.onnx", Reader(5))
    data = the_log(run.info.run_id).entries["aifsm.calibration.method"].value.data
    assert (data["consumed"], data["sha256"]) == (5, Samples.of(small().images[:5]).digest)
