"""Ranges by each method: what they must contain, what they must not touch, and that each is what its name says."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.quantization import CalibrationMethod, quantize_static
from onnxruntime.quantization.calibrate import TensorData, TensorsData, save_tensors_data

from mlflow_aifsm.calibration.estimators import ESTIMATORS, Estimate, estimate
from mlflow_aifsm.calibration.observer import Observation
from mlflow_aifsm.calibration.reading import Seen
from mlflow_aifsm.calibration.statistics import Grid
from mlflow_aifsm.errors import InputError
from tests.calibration.conftest import observed
from tests.models import Digits

RNG = np.random.default_rng(0)
NORMAL = RNG.standard_normal((50, 20_000)).astype(np.float32)
TENSORS = {
    "normal": NORMAL,
    "rectified": np.maximum(NORMAL, 0),
    "negative": -np.abs(NORMAL),
    "saturated": np.clip(3 * NORMAL, 0, 6),
    "gelu": NORMAL / 2 * (1 + np.tanh(0.8 * NORMAL)),
    "heavy": RNG.standard_t(3, NORMAL.shape),
    "few_values": RNG.integers(0, 17, (50, 64)) / 16,
    "mostly_zero": np.where(RNG.random(NORMAL.shape) < 2e-5, np.abs(NORMAL), 0),
    "offset": np.abs(NORMAL) + 3,
    "constant": np.full((50, 9), -2.5),
    "zero": np.zeros((50, 9)),
    "tiny": np.abs(NORMAL[:, :9]) * 1e-40,
}
OBSERVATION = observed(**TENSORS)
GRIDS = [Grid(), Grid(symmetric=True), Grid(16), Grid(65_536)]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("method", ESTIMATORS)
def test_every_range_contains_zero_and_no_more_sides_than_the_values(method: str, grid: Grid) -> None:
    for name, found in estimate(OBSERVATION, method, grid).items():
        seen = OBSERVATION.tensors[name]
        assert found.low <= 0 <= found.high, found
        assert not seen.non_negative or (found.low == 0 and str(found.low) == "0.0"), found
        assert max(-found.low, found.high) <= seen.reach * (1 + 1e-12), found
        assert seen.reach == 0 or found.high > found.low, found
        assert 0 <= found.clip_fraction <= 1
        if grid.symmetric and not seen.non_negative:
            assert found.low == -found.high, found


def test_a_tensor_of_zeros_gets_a_range_of_zeros_and_nothing_is_claimed_of_it() -> None:
    for method in ESTIMATORS:
        found = estimate(OBSERVATION, method, Grid())["zero"]
        assert (found.low, found.high, found.clip_fraction, found.note) == (0.0, 0.0, 0.0, "")


def test_the_simple_methods_are_what_they_say() -> None:
    found = {method: estimate(OBSERVATION, method, Grid()) for method in ESTIMATORS}
    low, high = float(NORMAL.min()), float(NORMAL.max())
    assert (found["min_max"]["normal"].low, found["min_max"]["normal"].high) == (low, high)
    assert found["max_abs"]["gelu"].low == -found["max_abs"]["gelu"].high
    assert (found["max_abs"]["rectified"].low, found["max_abs"]["rectified"].high) == (0.0, high)
    assert found["mean_min_max"]["normal"].high == pytest.approx(NORMAL.max(1).mean(dtype=float))
    assert found["min_max"]["offset"].low == 0.0


@pytest.mark.parametrize("percentage", [90.0, 99.0, 99.99])
def test_a_percentile_keeps_its_percentage_of_the_magnitudes(percentage: float) -> None:
    found = estimate(OBSERVATION, "percentile", Grid(), percentage)
    assert found["normal"].high == pytest.approx(np.percentile(np.abs(NORMAL), percentage), rel=0.005)
    assert found["normal"].clip_fraction == pytest.approx(1 - percentage / 100, rel=0.02)
    assert found["gelu"].low == max(OBSERVATION.tensors["gelu"].low, -found["gelu"].high)


def test_the_hundredth_percentile_is_the_observed_range() -> None:
    found = estimate(OBSERVATION, "percentile", Grid(), 100)
    assert {name: (one.low, one.high) for name, one in found.items()} == {
        name: (one.low, one.high) for name, one in estimate(OBSERVATION, "min_max", Grid()).items()
    }


def test_a_percentile_that_is_zero_is_replaced_and_says_so() -> None:
    found = estimate(OBSERVATION, "percentile", Grid())["mostly_zero"]
    assert (found.method, found.high) == ("min_max", OBSERVATION.tensors["mostly_zero"].high)
    assert "no range" in found.note


def brute_force(values: np.ndarray, levels: int, bins: int = 2048) -> float:
    """Threshold of least divergence of non-negative values, candidate by candidate as the original describes it."""
    counts = np.histogram(values, bins, (0, values.max()))[0].astype(float)
    counts[0] = 0
    best = (np.inf, bins)
    for end in range(levels, bins + 1):
        kept = counts[:end]
        reference = kept.copy()
        reference[-1] += counts[end:].sum()
        level = (np.arange(levels + 1) * end) // levels
        candidate = np.zeros(end)
        for start, stop in pairwise(level):
            places = reference[start:stop] > 0
            candidate[start:stop][places] = kept[start:stop].sum() / max(places.sum(), 1)
        at = reference > 0
        p, q = reference[at] / reference.sum(), candidate[at] / candidate.sum()
        with np.errstate(divide="ignore"):
            best = min(best, (float((p * np.log(p / q)).sum()), end), key=lambda pair: (pair[0], -pair[1]))
    return best[1] / bins * float(values.max())


@pytest.mark.parametrize("levels", [16, 128])
def test_entropy_finds_what_the_plain_search_finds(levels: int) -> None:
    found = ESTIMATORS["entropy"](OBSERVATION.tensors["rectified"], Grid(levels), 0)[1]
    assert found == pytest.approx(brute_force(TENSORS["rectified"], levels), rel=0.06)


def test_entropy_is_not_min_max_on_normal_data() -> None:
    for grid in (Grid(), Grid(16), Grid(symmetric=True)):
        entropy, usual = (estimate(OBSERVATION, method, grid) for method in ("entropy", "min_max"))
        for name in ("normal", "rectified", "heavy"):
            step = (usual[name].high - usual[name].low) / (grid.levels - 1)
            assert entropy[name].method == "entropy"
            assert usual[name].high - entropy[name].high > step, (name, grid)


def test_entropy_keeps_inputs_and_does_not_destroy_a_tensor() -> None:
    seen = Observation(OBSERVATION.tensors, ("normal",), Seen(50, None, ()))
    found = estimate(seen, "entropy", Grid(16))
    assert (found["normal"].method, found["normal"].note) == ("min_max", "an input of the graph: min_max used instead")
    assert found["few_values"].method == "min_max"
    assert "dB" in found["few_values"].note
    for name, usual in estimate(seen, "min_max", Grid(16)).items():
        assert found[name].sqnr_db >= usual.sqnr_db - 10, name


def test_the_mean_over_samples_does_not_destroy_a_tensor_of_few_values_a_sample() -> None:
    values = np.maximum(np.random.default_rng(1).standard_normal((300, 4096)), 0)
    seen = observed(few=values[:, :16], many=values)
    found, usual = (estimate(seen, method, Grid()) for method in ("mean_min_max", "min_max"))
    assert (found["few"].high, found["few"].method) == (usual["few"].high, "min_max")
    assert found["few"].note == "mean_min_max clipped 3.82% at 15.9 dB (48.5 dB at min_max): min_max used instead"
    assert found["few"].sqnr_db > 20 + 20
    assert (found["many"].method, found["many"].note) == ("mean_min_max", "")
    assert usual["many"].sqnr_db - 20 < found["many"].sqnr_db < usual["many"].sqnr_db


@pytest.mark.parametrize("grid", GRIDS[:3], ids=str)
def test_no_range_has_less_squared_error_than_mse(grid: Grid) -> None:
    best = estimate(OBSERVATION, "mse", grid)
    for method in ("max_abs", "min_max", "percentile", "mean_min_max", "entropy"):
        for name, other in estimate(OBSERVATION, method, grid).items():
            assert best[name].sqnr_db >= other.sqnr_db - 0.15, (method, name)


def test_what_is_no_method_or_no_percentage_is_refused() -> None:
    with pytest.raises(InputError, match="unknown range estimator; got kl"):
        estimate(OBSERVATION, "kl", Grid())
    with pytest.raises(InputError, match="percentile; got 0"):
        estimate(OBSERVATION, "percentile", Grid(), 0)


def injected(path: Path, ranges: dict[str, Estimate], folder: Path, symmetric: bool) -> Path:
    """The file quantized by ONNX Runtime with these ranges, a tensor that a ReLU reads having the ReLU's."""
    nodes = onnx.load(path).graph.node
    rectified = {node.input[0]: node.output[0] for node in nodes if node.op_type in {"Relu", "Clip"}}
    ends = {name: ranges[rectified.get(name, name)] for name in ranges}
    data = {name: TensorData(lowest=np.float32(one.low), highest=np.float32(one.high)) for name, one in ends.items()}
    save_tensors_data(TensorsData(CalibrationMethod.MinMax, data), folder / "ranges.json")
    cache, options = str(folder / "ranges.json"), {"ActivationSymmetric": symmetric}
    quantize_static(str(path), str(folder / "int8.onnx"), None, calibration_cache_path=cache, extra_options=options)
    return folder / "int8.onnx"


def accuracy(path: Path, digits: Digits) -> float:
    session, images, labels = onnxruntime.InferenceSession(str(path)), digits.images[200:596], digits.labels[200:596]
    name = session.get_inputs()[0].name
    scores = [session.run(None, {name: images[start : start + 4]})[0] for start in range(0, len(images), 4)]
    return float((np.concatenate(scores).argmax(1) == labels).mean())


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("method", ESTIMATORS)
def test_the_digits_network_keeps_its_accuracy_with_every_method(
    method: str, symmetric: bool, digits: Digits, digits_file: Path, digits_observation: Observation, tmp_path: Path
) -> None:
    ranges = estimate(digits_observation, method, Grid(symmetric=symmetric))
    quantized = injected(digits_file, ranges, tmp_path, symmetric)
    assert accuracy(quantized, digits) > accuracy(digits_file, digits) - 0.015
