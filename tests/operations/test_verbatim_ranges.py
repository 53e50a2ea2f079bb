"""``NNCF`` and ``ORT``: the ranges that the tool calibrated stand in the log, with what they do to the values."""

from __future__ import annotations

import csv
import io
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import mlflow
import numpy as np
import pytest

import mlflow_aifsm as aifsm
from mlflow_aifsm.capture.quantizer import ACTIVATION
from mlflow_aifsm.verification.augmented import AugmentedSession
from tests.operations.quantized_models import asked, done, small

pytestmark = pytest.mark.usefixtures("experiment")

IMAGES = 48
MIXED = aifsm.NNCF(
    preset="mixed", subset_size=IMAGES, advanced_parameters={"activations_quantization_params": {"per_channel": False}}
)
CONFIGS: dict[str, Any] = {
    "mean_min_max": aifsm.NNCF(subset_size=IMAGES),
    "mixed": MIXED,
    "min_max": aifsm.ORT(),
    "percentile": aifsm.ORT(calibrate_method="Percentile", extra_options={"CalibPercentile": 99.0}),
    "entropy": aifsm.ORT(calibrate_method="Entropy"),
    "averaged": aifsm.ORT(extra_options={"CalibMovingAverage": True}),
    "symmetric": aifsm.ORT(activation_type="QInt8", extra_options={"ActivationSymmetric": True}),
    "operators": aifsm.ORT(quant_format="QOperator", activation_type="QUInt8", weight_type="QUInt8"),
}


@cache
def values(tensor: str) -> np.ndarray:
    """A tensor of the float file over all samples, one row a sample."""
    if tensor == "image":
        return small().images[:IMAGES].reshape(IMAGES, -1)
    found = AugmentedSession(small().path, [tensor]).run({"image": small().images[:IMAGES]})[tensor]
    return found.reshape(IMAGES, -1)


@cache
def rows(name: str) -> tuple[dict[str, Any], ...]:
    """Table ``calibration`` of a config."""
    return tuple(dict(row) for row in done(CONFIGS[name], count=IMAGES).tables["calibration"])


def near(value: float) -> Any:
    return pytest.approx(value, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_each_range_has_the_extremes_and_the_share_outside_that_numpy_counts(name: str) -> None:
    assert len(rows(name)) >= 3
    for row in rows(name):
        held = values(row["tensor"]).astype(float)
        assert (row["observed_min"], row["observed_max"]) == (near(held.min()), near(held.max()))
        low, high = row["calibrated_min"], row["calibrated_max"]
        slack = 1e-5 * (high - low)  # of two runs of the float model
        outside = ((held < low - slack) | (held > high + slack)).mean()
        # inside a bucket values count as evenly spread, so one at the end of the range may change sides
        assert row["clip_fraction"] == pytest.approx(outside, abs=2e-4 + 1 / held.size), row


@pytest.mark.parametrize("name", ["min_max", "operators"])
def test_onnx_runtimes_minimum_and_maximum_are_those_of_the_samples_and_clip_nothing(name: str) -> None:
    for row in rows(name):
        held = values(row["tensor"])
        assert (row["calibrated_min"], row["calibrated_max"]) == (near(min(held.min(), 0)), near(max(held.max(), 0)))
        assert row["clip_fraction"] == 0


@pytest.mark.parametrize("name", ["mixed", "averaged"])
def test_a_mean_of_extremes_is_that_of_the_samples_and_clips_some(name: str) -> None:
    for row in rows(name):
        held = values(row["tensor"]).astype(float)
        ends = min(held.min(1).mean(), 0), max(held.max(1).mean(), 0)
        assert (row["calibrated_min"], row["calibrated_max"]) == (near(ends[0]), near(ends[1]))
    assert {row["method"] for row in rows(name)} == {"mean_min_max"}
    assert max(row["clip_fraction"] for row in rows(name)) > 1e-3


def test_a_percentile_keeps_what_it_says_and_the_rest_is_clipped() -> None:
    inner = [row for row in rows("percentile") if row["tensor"].startswith("relu")]
    assert len(inner) == 3
    assert all(row["clip_fraction"] == pytest.approx(0.01, abs=1e-3) for row in inner)


def test_an_entropy_that_clips_nothing_is_said_to_be_min_max() -> None:
    outcome = done(CONFIGS["entropy"], count=IMAGES)
    assert [finding.code for finding in asked(outcome)["calibration.method"].findings] == ["calibration_not_as_claimed"]
    assert asked(outcome)["calibration.clip_fraction"].value.data == 0


def test_a_symmetric_quantizer_has_a_symmetric_range_with_half_its_codes_unused_behind_a_relu() -> None:
    found = {row["tensor"]: row for row in rows("symmetric")}
    assert all(row["calibrated_min"] == -row["calibrated_max"] for row in found.values())
    usual = {row["tensor"]: row for row in rows("min_max")}
    assert found["relu_1"]["sqnr_db"] == pytest.approx(usual["relu_1"]["sqnr_db"] - 6, abs=1)


@pytest.mark.parametrize("name", ["mean_min_max", "min_max", "percentile", "entropy"])
def test_the_run_holds_tables_plot_and_metric(name: str) -> None:
    calibration = aifsm.Data(small().images[:IMAGES], name="calibration", labels=small().labels[:IMAGES])
    result = aifsm.quantize(str(small().path), calibration, CONFIGS[name], verified_model="digits_1")

    def artifact(path: str) -> str:
        kept = mlflow.artifacts.download_artifacts(run_id=result.run_id, artifact_path=f"aifsm/optimization/{path}")
        return Path(kept).read_text("utf-8")

    def table(path: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(artifact(f"{path}.csv"))))

    worst = max(float(row["clip_fraction"]) for row in table("calibration"))
    assert mlflow.get_run(result.run_id).data.metrics["aifsm.clip_fraction"] == worst
    ranges = ET.fromstring(artifact("plots/ranges.svg"))
    assert {row["tensor"] for row in table("distributions")} <= {row["tensor"] for row in table("calibration")}
    assert "image" in "".join(ranges.itertext())
    held = [row for row in table("quantizers") if row["kind"] == ACTIVATION and row["scales"] == "1"]
    assert len(held) >= 3
    for row in held:
        step = float(row["scale_max"])
        assert float(row["calibrated_max"]) == pytest.approx(float(row["alpha_max"]), abs=1.5 * step)
        assert float(row["calibrated_min"]) == pytest.approx(float(row["beta_min"]), abs=1.5 * step)
        assert float(row["clip_fraction"]) <= worst


def test_the_log_says_where_values_were_counted_and_which_were_not() -> None:
    texts = {
        name: asked(done(CONFIGS[name], count=IMAGES))["calibration.method"].value.text for name in ("mean_min_max", "min_max")
    }
    assert "values outside counted in 48 of 48 samples while NNCF read them, extremes in all" in texts["mean_min_max"]
    assert "values of 1 activation with a range for each channel not counted" in texts["mean_min_max"]
    assert "values outside counted on the same samples afterwards" in texts["min_max"]
