"""What a quantization leaves in its run: comparable rows, tables that can be read, plots."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import mlflow
import pytest

import mlflow_aifsm as aifsm
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.operations.quantization import RANGES
from tests.operations.quantized_models import small

pytestmark = pytest.mark.usefixtures("experiment")

METRICS = {
    "aifsm.accuracy",
    "aifsm.accuracy_drop",
    "aifsm.worst_class_recall",
    "aifsm.sqnr_db",
    "aifsm.p99_diff",
    "aifsm.agreement",
    "aifsm.flips",
    "aifsm.size_ratio",
    "aifsm.integer_ops_ratio",
}


def calibration() -> aifsm.Data:
    return aifsm.Data(small().images[:200], name="calibration", version="3", labels=small().labels[:200])


def verification() -> aifsm.Verification:
    return aifsm.Verification(aifsm.Data(small().images[300:], name="held out"), small().labels[300:])


def quantized(config: aifsm.Static | aifsm.Dynamic | aifsm.WeightOnly, **more: Any) -> aifsm.Result:
    data = None if isinstance(config, aifsm.Dynamic | aifsm.WeightOnly) else calibration()
    return aifsm.quantize(str(small().path), data, config, verified_model="digits_1", **more)


def artifact(run_id: str, name: str) -> str:
    return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=f"aifsm/optimization/{name}")).read_text(
        "utf-8"
    )


def rows(run_id: str, table: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(artifact(run_id, f"{table}.csv"))))


def test_six_ranges_on_one_data_set_are_six_rows_that_line_up(experiment: str) -> None:
    for method in RANGES:
        with mlflow.start_run(run_name=method):
            quantized(aifsm.Static(ranges=method, subset_size=200, percentile=99), verification=verification())
    runs = mlflow.MlflowClient().search_runs([experiment])
    assert {run.data.params["aifsm.calibration.method"]: run.info.run_name for run in runs} == {name: name for name in RANGES}
    told = [{name: text for name, text in run.data.params.items() if name.startswith("aifsm.ptq.")} for run in runs]
    assert len(told[0]) == 7
    assert all(params == told[0] for params in told)
    assert told[0]["aifsm.ptq.precision"] == "int8 weights, uint8 activations"
    assert all(set(run.data.metrics) >= METRICS for run in runs)
    assert all(0.8 < run.data.metrics["aifsm.accuracy"] <= 1 for run in runs)
    assert all(run.data.metrics["aifsm.integer_ops_ratio"] == 1 for run in runs)
    assert len({run.data.metrics["aifsm.sqnr_db"] for run in runs}) >= 5
    digests = {run.data.tags["aifsm.optimization.output_sha256"] for run in runs}
    assert len(digests) >= 5


@pytest.mark.parametrize("backend", ["onnxruntime", "nncf"])
def test_calibrated_and_representable_range_stand_side_by_side(backend: str) -> None:
    result = quantized(aifsm.Static(ranges="entropy", subset_size=200, backend=backend))
    table = [row for row in rows(result.run_id, "quantizers") if row["kind"] == "activation"]
    assert len(table) >= 4
    for row in table:
        low, high = float(row["calibrated_min"]), float(row["calibrated_max"])
        assert float(row["beta_min"]) <= low + 1e-6
        step = (float(row["alpha_max"]) - float(row["beta_min"])) / (int(row["levels"]) - 1)
        assert float(row["alpha_max"]) == pytest.approx(high, abs=2 * step)
    known = {row["tensor"]: row for row in rows(result.run_id, "calibration")}
    assert all(float(row["observed_max"]) >= float(row["calibrated_max"]) - 1e-6 for row in known.values())


def test_distributions_and_plots_stand_in_the_run() -> None:
    result = quantized(aifsm.Static(subset_size=200), verification=verification())
    bins = rows(result.run_id, "distributions")
    by_tensor: dict[str, int] = {}
    for row in bins:
        by_tensor[row["tensor"]] = by_tensor.get(row["tensor"], 0) + int(row["count"])
    assert by_tensor["image"] == 200 * 64
    assert {len([row for row in bins if row["tensor"] == name]) for name in by_tensor} == {64}
    for name in ("ranges", "sqnr"):
        assert ET.fromstring(artifact(result.run_id, f"plots/{name}.svg")).tag.endswith("svg")
    listed = json.loads(mlflow.get_run(result.run_id).data.tags["mlflow.loggedArtifacts"])
    tables = {entry["path"].removeprefix("aifsm/optimization/") for entry in listed}
    assert {"quantizers.json", "calibration.json", "distributions.json"} <= tables
    manifest = artifact(result.run_id, "manifest.json")
    assert all(name in manifest for name in ("calibration.csv", "distributions.csv", "plots/ranges.svg"))


def test_a_data_set_is_named_with_version_digest_and_number_of_samples() -> None:
    result = quantized(aifsm.Static(ranges="percentile", percentile=99.5, subset_size=150))
    entry = result.record.entries["aifsm.calibration.method"]
    assert (entry.value.data["asked"], entry.value.data["consumed"], entry.value.data["classes"]) == (150, 150, 10)
    assert (entry.value.data["data"], entry.value.data["version"]) == ("calibration", "3")
    assert len(entry.value.data["sha256"]) == 64
    assert "Percentile 99.5" in entry.value.text
    assert "aifsm.clip_fraction" in mlflow.get_run(result.run_id).data.metrics


def test_layers_in_float_stand_in_the_record_with_their_reasons() -> None:
    result = quantized(aifsm.Static(subset_size=100, keep_float=("head",), accuracy_target=0.5))
    entry = result.record.entries["aifsm.recovery.partial"]
    assert entry.value.data == ["node_linear"]
    assert "Why: node_linear: keep_float names it (head)" in entry.value.text
    left = quantized(aifsm.WeightOnly()).record.entries["aifsm.recovery.partial"]
    assert "left by ONNX Runtime" in left.value.text


@pytest.mark.parametrize("config", [aifsm.Dynamic(), aifsm.WeightOnly()], ids=["dynamic", "weights"])
def test_what_needs_no_data_says_why_there_is_no_calibration(config: Any) -> None:
    entry = quantized(config).record.entries["aifsm.calibration.method"]
    assert entry.state is aifsm.State.NOT_APPLICABLE
    assert entry.reason.startswith("no calibration: ")


def test_what_the_file_does_not_hold_is_a_finding() -> None:
    (finding,) = quantized(aifsm.Dynamic(granularity="channel")).findings
    assert (finding.code, finding.field) == ("asked_not_found", "aifsm.ptq.granularity")
    assert "channelwise" in finding.asked
    assert "layerwise in 3" in finding.measured


def test_what_is_refused_leaves_no_run(experiment: str) -> None:
    with pytest.raises(InputError, match="cannot do this"):
        quantized(aifsm.Static(granularity="group"))
    assert mlflow.search_runs([experiment]).empty
