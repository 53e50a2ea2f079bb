"""What NNCF reads is counted as it reads it; a version of NNCF that does this elsewhere fails here."""

from __future__ import annotations

from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from onnx import helper

from mlflow_aifsm.backends import nncf, nncf_statistics
from mlflow_aifsm.backends.nncf_statistics import MOST, Collected, collecting
from mlflow_aifsm.calibration.told import Told
from mlflow_aifsm.capture import quantizers
from mlflow_aifsm.capture.quantizer import ACTIVATION, Quantizer
from tests.operations.quantized_models import saved, small

NODE = helper.make_node
SAMPLES = [{"image": image[None]} for image in small().images[:24]]
BY_LAYER = {"activations_quantization_params": {"per_channel": False}}


def collected(path: Path, samples: list[dict[str, Any]], **keywords: Any) -> tuple[Collected, dict[str, Quantizer]]:
    """What was collected, and the activations of the file that NNCF made."""
    with collecting() as found:
        done = nncf.quantize(path, samples, {"subset_size": len(samples), **keywords})
    return found, {row.label: row for row in quantizers.read(done.path) if row.kind == ACTIVATION}


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("preset", ["performance", "mixed"])
def test_every_quantizer_of_the_file_was_seen_and_holds_the_range_it_was_told(preset: str) -> None:
    found, held = collected(small().path, SAMPLES, preset=preset, advanced_parameters=BY_LAYER)
    assert found.problem == ""
    assert found.told.keys() == held.keys() == found.tensors.keys()
    assert len(held) == 4
    for name, told in found.told.items():
        assert held[name].alpha[0] == pytest.approx(told.high, abs=held[name].scale[0])
        assert held[name].beta[0] == pytest.approx(told.low, abs=1.001 * held[name].scale[0])


def test_all_values_of_all_samples_are_counted_and_those_of_bias_correction_are_not() -> None:
    found, _ = collected(small().path, SAMPLES, advanced_parameters=BY_LAYER)
    assert found.tensors["image"].elements == 24 * 64
    assert found.tensors["relu_2"].elements == 24 * 256
    assert {statistics.samples for statistics in found.tensors.values()} == {24}


def test_of_many_samples_some_are_counted_and_the_extremes_are_those_of_all() -> None:
    images = small().images[: 2 * MOST].copy()
    images[1, 0, 0, 0] = 7.0  # every second sample is counted, and this is none of them
    with collecting(2 * MOST) as found:
        nncf.quantize(small().path, [{"image": image[None]} for image in images], {"subset_size": 2 * MOST})
    image = found.tensors["image"]
    assert (found.every, found.read, found.counted) == (2, 2 * MOST, MOST)
    assert (image.samples, image.elements, image.high) == (2 * MOST, MOST * 64, 7.0)
    assert image.counts[np.float32(1.0).view(np.uint32) >> 16] == (images[::2] == 1).sum() > 0


def test_an_activation_with_a_range_for_each_channel_is_named_and_not_counted() -> None:
    found, held = collected(small().path, SAMPLES)
    assert found.by_channel == {name for name, row in held.items() if len(row.scale) > 1} != set()
    assert not found.by_channel & (found.told.keys() | found.tensors.keys())


def test_tensors_that_are_joined_have_one_range_that_holds_both(tmp_path: Path) -> None:
    nodes = [
        NODE("Gemm", ["x", "w"], ["a"], "small"),
        NODE("Gemm", ["x", "v"], ["b"], "large"),
        NODE("Concat", ["a", "b"], ["c"], "join", axis=1),
        NODE("Gemm", ["c", "u"], ["y"], "end"),
    ]
    tensors = {"w": normal(8, 8) / 10, "v": normal(8, 8) * 10, "u": normal(16, 4)}
    path = saved(tmp_path, nodes, tensors, x_shape=["n", 8], y_shape=["n", 4])
    found, held = collected(path, [{"x": row[None]} for row in normal(20, 8)])
    assert found.told["a"] == found.told["b"]
    assert found.tensors["a"].high < 0.1 * found.told["a"].high
    for name in ("a", "b"):
        assert held[name].alpha[0] == pytest.approx(found.told[name].high, rel=1e-2)


def test_a_tensor_that_is_not_finite_is_named_and_does_not_stop_nncf(tmp_path: Path) -> None:
    nodes = [NODE("Reciprocal", ["x"], ["r"], "inverse"), NODE("Gemm", ["r", "w"], ["y"], "end")]
    path = saved(tmp_path, nodes, {"w": normal(8, 8)}, x_shape=["n", 8], y_shape=["n", 8])
    samples = normal(6, 8)
    samples[2, 3] = 0
    found, _ = collected(path, [{"x": row[None]} for row in samples], advanced_parameters={"disable_bias_correction": True})
    assert found.problem == ""
    assert "r" not in found.tensors
    assert "tensor 'r' is not finite at calibration sample 2" in found.uncounted["r"]


def test_what_stumbles_in_the_counting_costs_the_counts_and_not_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    class Moved:
        """An NNCF that names tensors elsewhere: a real one cannot be had before it is released."""

    monkeypatch.setattr(nncf_statistics, "ONNXModelTransformer", Moved)
    found, held = collected(small().path, SAMPLES)
    assert len(held) == 4
    assert (found.told, found.tensors) == ({}, {})
    assert found.problem.startswith("AttributeError: ")


def test_nothing_is_counted_outside_or_in_another_thread() -> None:
    other: list[Any] = []
    with collecting() as found:
        thread = Thread(target=lambda: other.append(nncf.quantize(small().path, SAMPLES, {"subset_size": 24})))
        thread.start()
        thread.join()
    nncf.quantize(small().path, SAMPLES, {"subset_size": 24})
    assert len(other) == 1
    assert (found.told, found.tensors) == ({}, {})


def test_a_symmetric_range_is_as_long_to_both_sides_and_every_range_holds_zero() -> None:
    assert Told.of(-1, 3, symmetric=True) == Told(-3, 3, symmetric=True)
    assert Told.of(1, 3, symmetric=False) == Told(0, 3)
    assert Told.of(-3, -1, symmetric=False) == Told(-3, 0)


def test_nncf_is_as_it_was_when_nobody_collects_any_more() -> None:
    names = [(module, name) for module, name, _ in nncf_statistics._REPLACED]
    before = [getattr(module, name) for module, name in names]
    with collecting():
        with collecting():
            assert all(getattr(module, name) is one for module, name, one in nncf_statistics._REPLACED)
        assert all(getattr(module, name) is one for module, name, one in nncf_statistics._REPLACED)
    assert [getattr(module, name) for module, name in names] == before
    assert not any(one.__module__.startswith("mlflow_aifsm") for one in before)
