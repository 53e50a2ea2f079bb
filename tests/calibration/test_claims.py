"""A file's ranges tell which estimator set them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, quantize_static

from mlflow_aifsm.calibration.claims import claimed, recognised
from mlflow_aifsm.calibration.estimators import Range, estimate
from mlflow_aifsm.calibration.observer import Observation
from mlflow_aifsm.calibration.statistics import Grid
from tests.calibration.conftest import observed
from tests.models import Digits

RNG = np.random.default_rng(0)
NORMAL = RNG.standard_normal((50, 20_000)).astype(np.float32)
OBSERVATION = observed(signed=NORMAL, rectified=np.maximum(NORMAL, 0), heavy=RNG.standard_t(3, NORMAL.shape))


class Images(CalibrationDataReader):
    """Calibration samples for ONNX Runtime's own quantizer."""

    def __init__(self, images: np.ndarray) -> None:
        self._batches = iter([{"image": images[start : start + 4]} for start in range(0, len(images), 4)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def activations(path: Path) -> dict[str, tuple[Range, float]]:
    """Represented range and scale of every quantized activation of a file."""
    graph = onnx.load(path).graph
    held = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            scale, zero = float(held[node.input[1]]), int(held[node.input[2]])
            first = np.iinfo(held[node.input[2]].dtype).min
            # an output of the graph keeps its name, so the tensor before the quantizer gets another
            found[node.input[0].removesuffix("_QuantizeLinear_Input")] = (
                ((first - zero) * scale, (first + 255 - zero) * scale),
                scale,
            )
    return found


def test_the_entropy_of_onnx_runtime_is_found_to_be_min_max(
    digits: Digits, digits_file: Path, digits_observation: Observation, tmp_path: Path
) -> None:
    path = tmp_path / "entropy.onnx"
    reader = Images(digits.images[:200])
    quantize_static(str(digits_file), str(path), reader, calibrate_method=CalibrationMethod.Entropy)
    found = activations(path)
    ranges, steps = {name: ends for name, (ends, _) in found.items()}, {name: scale for name, (_, scale) in found.items()}
    counts = recognised(digits_observation, ranges, steps)
    assert counts["min_max"] == len(ranges) >= 3
    finding = claimed("entropy", counts, len(ranges))
    assert finding is not None
    assert finding.code == "calibration_not_as_claimed"
    assert "min_max" in finding.measured
    assert claimed("min_max", counts, len(ranges)) is None


@pytest.mark.parametrize("method", ["min_max", "max_abs", "mean_min_max", "percentile", "entropy", "mse"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_what_was_claimed_and_done_is_no_finding(method: str, symmetric: bool) -> None:
    found = estimate(OBSERVATION, method, Grid(symmetric=symmetric)).values()
    ranges = {one.tensor: (one.low, one.high) for one in found}
    steps = {name: (high - low) / 255 for name, (low, high) in ranges.items()}
    assert claimed(method, recognised(OBSERVATION, ranges, steps), len(ranges)) is None


def test_a_percentile_that_is_the_extremes_is_no_finding_and_one_that_is_not_is() -> None:
    few = observed(few=NORMAL[:1, :2000], other=np.abs(NORMAL[1:2, :2000]))
    for observation, accused in ((few, False), (OBSERVATION, True)):
        ranges = {one.tensor: (one.low, one.high) for one in estimate(observation, "min_max", Grid()).values()}
        steps = {name: (high - low) / 255 for name, (low, high) in ranges.items()}
        counts = recognised(observation, ranges, steps, "percentile")
        assert (claimed("percentile", counts, len(ranges)) is not None) is accused, counts
        assert claimed("entropy", recognised(observation, ranges, steps, "entropy"), len(ranges)) is not None


def test_each_simple_method_is_told_from_the_others() -> None:
    for method in ("min_max", "max_abs", "mean_min_max"):
        ranges = {one.tensor: (one.low, one.high) for one in estimate(OBSERVATION, method, Grid()).values()}
        counts = recognised(OBSERVATION, ranges, dict.fromkeys(ranges, 1e-6))
        assert counts[method] == 3
        assert claimed("entropy", counts, 3) is not None
    assert recognised(OBSERVATION, {"signed": (-1.0, 1.0)}, {"signed": 0.01}) == {"none": 1}


def test_nothing_is_found_where_nothing_was_looked_at() -> None:
    assert recognised(OBSERVATION, {"other": (-1.0, 1.0)}, {"other": 0.01}) == {}
    assert claimed("entropy", {}, 0) is None
