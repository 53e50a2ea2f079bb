"""One pass that yields the same statistics whatever the batches and the order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from mlflow_aifsm.calibration.observer import Observation, observe
from mlflow_aifsm.calibration.statistics import TensorStatistics
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.samples import Data, Samples
from tests.calibration.conftest import statistics_of, tensors_of
from tests.models import Digits

NODE = onnx.helper.make_node
RNG = np.random.default_rng(3)


def batched(images: np.ndarray, size: int) -> Samples:
    return Samples.of(Data(lambda: (images[start : start + size] for start in range(0, len(images), size)), name="images"))


def numbers(statistics: TensorStatistics) -> tuple[float, ...]:
    ends = (statistics.low, statistics.high, statistics.mean_low, statistics.mean_high)
    return (*ends, statistics.samples, statistics.elements)


def assert_equal(one: Observation, other: Observation) -> None:
    assert one.tensors.keys() == other.tensors.keys()
    for name, statistics in one.tensors.items():
        assert numbers(statistics) == numbers(other.tensors[name]), name
        assert np.array_equal(statistics.counts, other.tensors[name].counts), name


@pytest.mark.parametrize("size", [1, 7, 32])
def test_the_batches_of_the_source_change_nothing_on_the_digits(digits_file: Path, digits: Digits, size: int) -> None:
    images, tensors = digits.images[:101], tensors_of(digits_file)
    assert_equal(observe(digits_file, tensors, Samples.of(images)), observe(digits_file, tensors, batched(images, size)))


@pytest.mark.parametrize("size", [1, 7, 32])
def test_neither_order_nor_batches_change_anything_on_inverted_residuals(small_mobilenet: Path, size: int) -> None:
    images, tensors = RNG.standard_normal((37, 3, 32, 32), dtype=np.float32), tensors_of(small_mobilenet)
    shuffled = batched(images[RNG.permutation(37)], size)
    assert_equal(observe(small_mobilenet, tensors, Samples.of(images)), observe(small_mobilenet, tensors, shuffled))


def test_the_order_of_the_samples_changes_nothing_on_the_digits(digits_file: Path, digits: Digits) -> None:
    images, tensors = digits.images[:101], tensors_of(digits_file)
    assert_equal(observe(digits_file, tensors, Samples.of(images)), observe(digits_file, tensors, Samples.of(images[::-1])))


def test_the_statistics_are_those_of_the_values_that_the_runtime_computes(digits_file: Path, digits: Digits) -> None:
    session, images = onnxruntime.InferenceSession(str(digits_file)), digits.images[:28]
    name = session.get_inputs()[0].name
    found = observe(digits_file, [session.get_outputs()[0].name, name], Samples.of(images))
    logits = np.concatenate([session.run(None, {name: images[start : start + 4]})[0] for start in range(0, 28, 4)])
    seen = next(iter(found.tensors.values()))
    assert numbers(seen) == pytest.approx(numbers(statistics_of(logits)), rel=1e-5)
    assert found.inputs == (name,)
    assert np.array_equal(found.tensors[found.inputs[0]].counts, statistics_of(images).counts)
    assert found.samples == 28


def test_padding_of_a_fixed_batch_is_not_counted(graph: Callable[..., Path]) -> None:
    path = graph([NODE("Neg", ["x"], ["y"])], batch=8)
    values = RNG.standard_normal((11, 3)).astype(np.float32)
    found = observe(path, ["x", "y"], Samples.of(values)).tensors
    assert numbers(found["y"]) == numbers(statistics_of(-values))
    assert found["x"].elements == 33


def test_samples_along_another_axis_are_still_kept_apart(graph: Callable[..., Path]) -> None:
    path = graph([NODE("Transpose", ["x"], ["t"], perm=[1, 0]), NODE("Relu", ["t"], ["y"])])
    values = RNG.standard_normal((10, 3)).astype(np.float32)
    found = observe(path, ["t"], Samples.of(values)).tensors["t"]
    assert numbers(found) == pytest.approx(numbers(statistics_of(values)))


def test_a_tensor_without_an_axis_of_samples_is_one_set_of_values(graph: Callable[..., Path]) -> None:
    nodes = [
        NODE("Slice", ["x", "start", "end"], ["one"]),
        NODE("ReduceSum", ["x"], ["sum"], keepdims=0),
        NODE("Constant", [], ["start"], value_ints=[0]),
        NODE("Constant", [], ["end"], value_ints=[1]),
        NODE("Add", ["x", "one"], ["y"]),
    ]
    path = graph([*nodes[2:4], *nodes[:2], nodes[4]], batch=2)
    values = RNG.standard_normal((10, 3)).astype(np.float32)
    found = observe(path, ["one", "sum", "y"], Samples.of(values)).tensors
    even, sums = values[::2], values.reshape(5, 6).sum(1)
    assert numbers(found["one"])[:4] == tuple(map(float, (even.min(), even.max(), even.min(), even.max())))
    assert numbers(found["sum"])[:4] == pytest.approx((sums.min(), sums.max(), sums.min(), sums.max()))
    assert (found["one"].elements, found["sum"].elements, found["y"].samples) == (15, 5, 10)


def test_means_are_summed_exactly(graph: Callable[..., Path]) -> None:
    path = graph([NODE("Identity", ["x"], ["y"])])
    values = np.array([[1e30, 0, 0], [1.0, 0, 0], [-1e30, -1e30, -1e30]], np.float32)
    assert observe(path, ["y"], Samples.of(values)).tensors["y"].mean_high == 1 / 3


def test_half_precision_and_minus_zero_are_counted_as_what_they_are(graph: Callable[..., Path]) -> None:
    path = graph([NODE("Identity", ["x"], ["y"])], kind=onnx.TensorProto.FLOAT16)
    found = observe(path, ["y"], Samples.of(np.array([[-0.0, 0.5, 1.0]], np.float16))).tensors["y"]
    assert str(found.low) == "0.0"
    assert found.bins.lower.tolist() == [0.0, 0.5, 1.0]


def test_a_value_that_is_not_finite_is_refused_with_tensor_and_sample(graph: Callable[..., Path]) -> None:
    values = np.ones((9, 3), np.float32)
    values[6, 1] = np.nan
    with pytest.raises(InputError, match="'x' is not finite at calibration sample 6"):
        observe(graph([NODE("Neg", ["x"], ["y"])]), ["y"], Samples.of(values))
    values[6, 1] = 0
    with pytest.raises(InputError, match="'y' is not finite at calibration sample 6"):
        observe(graph([NODE("Reciprocal", ["x"], ["y"])]), ["y"], Samples.of(values))


def test_what_cannot_be_observed_is_refused(graph: Callable[..., Path]) -> None:
    path = graph([NODE("Shape", ["x"], ["size"]), NODE("Neg", ["x"], ["y"])])
    with pytest.raises(InputError, match="no tensor 'z'"):
        observe(path, ["z"], Samples.of(np.ones((2, 3), np.float32)))
    with pytest.raises(InputError, match="'size' cannot be calibrated; got int64"):
        observe(path, ["size"], Samples.of(np.ones((2, 3), np.float32)))
    with pytest.raises(InputError, match="no calibration sample"):
        observe(path, ["y"], Samples.of(Data(lambda: iter(()))))


def test_progress_counts_samples(graph: Callable[..., Path]) -> None:
    steps: list[tuple[int, int | None]] = []
    observe(
        graph([NODE("Neg", ["x"], ["y"])]),
        ["y"],
        Samples.of(np.ones((6, 3), np.float32)),
        lambda done, total: steps.append((done, total)),
    )
    assert steps == [(4, 6), (6, 6)]
