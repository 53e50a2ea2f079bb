"""Accuracy won back: layers that stay in float until a target is met, and biases that make up for mean errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.operations.bias_correction import corrected
from mlflow_aifsm.operations.judgement import Judge
from mlflow_aifsm.operations.quantization import Static
from mlflow_aifsm.samples import Data, Samples
from tests.operations.quantized_models import asked, done, found, saved, small

BIAS = "recovery.bias_correction"
RNG = np.random.default_rng(0)
NODE = helper.make_node


def normal(*shape: int, scale: float = 0.4) -> np.ndarray:
    return (np.random.default_rng(sum(shape)).normal(size=shape) * scale).astype(np.float32)


def outputs(path: Path, data: np.ndarray) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(path).run(None, {"x": data})[0])


def mean_error(path: Path, quantized: Path, data: np.ndarray) -> float:
    """Largest median error of an output channel."""
    errors = outputs(path, data) - outputs(quantized, data)
    return float(np.abs(np.median(errors.reshape(*errors.shape[:2], -1).mean(2), axis=0)).max())


@pytest.fixture
def uneven(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """Three linear layers, of which the second has one channel 1000 times larger than what the decision hangs on."""
    data = normal(200, 8, scale=1)
    first = np.eye(8, dtype=np.float32)
    first[0] *= 1000
    last = normal(8, 4, scale=1)
    last[0] /= 1000
    nodes = [
        NODE("Gemm", ["x", "w0"], ["a"], "even", transB=1),
        NODE("Gemm", ["a", "w1"], ["b"], "uneven", transB=1),
        NODE("Gemm", ["b", "w2"], ["y"], "last"),
    ]
    tensors = {"w0": np.eye(8, dtype=np.float32), "w1": first, "w2": last}
    path = saved(tmp_path, nodes, tensors, x_shape=["n", 8], y_shape=["n", 4])
    return path, data, outputs(path, data).argmax(1)


def target(value: float, **more: Any) -> Static:
    return Static(ranges="min_max", subset_size=200, accuracy_target=value, **more)


def test_a_target_that_holds_at_once_keeps_nothing_in_float() -> None:
    outcome = done(target(0.5), data=Data(small().images[:200], labels=small().labels[:200]), count=200)
    assert found(outcome)["recovery.partial"].value.data == []
    assert outcome.reasons == {}
    assert outcome.findings == ()
    assert "0 in float: accuracy drop" in outcome.notes[0]


@pytest.mark.parametrize("labelled", [True, False])
def test_the_layers_that_hurt_most_stay_in_float_until_the_target_is_met(
    uneven: tuple[Path, np.ndarray, np.ndarray], labelled: bool
) -> None:
    path, data, labels = uneven
    given = Data(data, labels=labels if labelled else None)
    judge = Judge(path, Samples.of(Data(data, labels=labels)))
    without = judge.judge(done(Static(ranges="min_max"), path, given, 200).quantized.path)
    assert without.drop is not None
    assert without.drop > 0.05
    outcome = done(target(0.02), path, given, 200)
    left = found(outcome)["recovery.partial"].value.data
    assert 0 < len(left) < 3
    assert {"uneven", "last"} & set(left)
    assert all(outcome.reasons[name].startswith("accuracy_target: ") for name in left)
    after = judge.judge(outcome.quantized.path)
    assert after.drop is not None
    assert after.drop <= 0.02
    assert outcome.findings == ()
    assert ("accuracy drop" if labelled else "decisions changed") in outcome.notes[0]


def test_a_target_that_is_never_met_is_a_finding(uneven: tuple[Path, np.ndarray, np.ndarray]) -> None:
    path, data, labels = uneven
    outcome = done(target(1e-9, weights="uint4", granularity="layer"), path, Data(data, labels=labels), 200)
    (finding,) = outcome.findings
    assert (finding.code, finding.asked) == ("accuracy_target_missed", "a drop of at most 1e-09")
    assert "with 2 layers in float" in finding.measured
    assert len(found(outcome)["recovery.partial"].value.data) == 2


def test_a_target_for_outputs_that_decide_nothing_is_a_finding(tmp_path: Path) -> None:
    nodes = [NODE("Gemm", ["x", "w"], ["h"], "a"), NODE("Gemm", ["h", "v"], ["y"], "b")]
    path = saved(tmp_path, nodes, {"w": normal(4, 6), "v": normal(6, 1)}, x_shape=["n", 4], y_shape=["n", 1])
    outcome = done(target(0.01), path, normal(32, 4), 32)
    (finding,) = outcome.findings
    assert "decide nothing" in finding.measured


def test_layers_kept_by_name_and_by_target_have_their_own_reasons(uneven: tuple[Path, np.ndarray, np.ndarray]) -> None:
    path, data, labels = uneven
    outcome = done(target(0.02, keep_float=("even",)), path, Data(data, labels=labels), 200)
    left = found(outcome)["recovery.partial"].value.data
    assert outcome.reasons["even"] == "keep_float names it (even)"
    assert {name for name in left if "accuracy_target" in outcome.reasons[name]} == set(left) - {"even"} != set()


@pytest.mark.slow
def test_nncf_takes_out_quantizers_until_the_target_is_met(uneven: tuple[Path, np.ndarray, np.ndarray]) -> None:
    path, data, labels = uneven
    outcome = done(
        Static(ranges="min_max", subset_size=40, accuracy_target=0.02, backend="nncf"), path, Data(data, labels=labels), 40
    )
    after = Judge(path, Samples.of(Data(data, labels=labels))).judge(outcome.quantized.path)
    assert outcome.quantized.function == "nncf.quantize_with_accuracy_control"
    assert after.drop is not None
    assert after.drop <= 0.02


LAYERS = {
    "linear": (NODE("Gemm", ["h", "v", "b"], ["y"], "layer"), (4, 6), ["n", 6]),
    "linear, transposed": (NODE("Gemm", ["h", "v", "b"], ["y"], "layer", transB=1), (6, 4), ["n", 6]),
    "linear, beta": (NODE("Gemm", ["h", "v", "b"], ["y"], "layer", beta=0.5), (4, 6), ["n", 6]),
    "depthwise": (NODE("Conv", ["h", "v", "b"], ["y"], "layer", group=4), (4, 1, 3, 3), ["n", 4, 4, 4]),
    "grouped": (NODE("Conv", ["h", "v", "b"], ["y"], "layer", group=2), (6, 2, 3, 3), ["n", 6, 4, 4]),
    "transposed": (NODE("ConvTranspose", ["h", "v", "b"], ["y"], "layer"), (4, 6, 3, 3), ["n", 6, 8, 8]),
}
"""The layer under test, the shape of its weight, that of its output."""


@pytest.mark.parametrize("kind", LAYERS)
def test_biases_are_corrected_in_layers_of_each_kind(tmp_path: Path, kind: str) -> None:
    layer, shape, y_shape = LAYERS[kind]
    images = len(shape) == 4
    channels = int(y_shape[1])
    tensors = {"v": normal(*shape), "b": normal(channels)}
    nodes = [NODE("Relu", ["x"], ["h"], "relu"), layer]
    path = saved(tmp_path, nodes, tensors, x_shape=["n", 4, 6, 6] if images else ["n", 4], y_shape=y_shape)
    data = normal(*((64, 4, 6, 6) if images else (64, 4)), scale=1)
    # four bits, so that there is something to correct
    config = {"weights": "int4", "ranges": "min_max", "subset_size": 64}
    before = done(Static(**config, bias_correction=False), path, data, 64)
    after = done(Static(**config, bias_correction=True), path, data, 64)
    assert asked(after)[BIAS].value.data["layers"] == ["layer"]
    assert asked(after)[BIAS].value.brief == "empirical"
    assert asked(before)[BIAS].value.brief == "none"
    assert mean_error(path, after.quantized.path, data) < 0.5 * mean_error(path, before.quantized.path, data)


@pytest.fixture
def clipped(tmp_path: Path) -> tuple[Path, Path, np.ndarray]:
    """A float layer, its file with ranges of ordinary samples, and samples of which one in eight is 100 times larger."""
    nodes = [NODE("Relu", ["x"], ["h"], "relu"), NODE("Gemm", ["h", "w", "b"], ["y"], "layer")]
    path = saved(tmp_path, nodes, {"w": normal(8, 4), "b": normal(4)}, x_shape=["n", 8], y_shape=["n", 4])
    data = normal(64, 8, scale=1)
    quantized = done(Static(ranges="min_max"), path, data, 64).quantized.path
    outliers = data.copy()
    outliers[::8] *= 100
    return path, quantized, outliers


def test_outliers_among_the_samples_do_not_move_the_biases(clipped: tuple[Path, Path, np.ndarray]) -> None:
    path, quantized, outliers = clipped
    ordinary = np.delete(outliers, np.s_[::8], axis=0)
    change = corrected(quantized, path, Samples.of(outliers))
    mean = (outputs(path, outliers) - outputs(quantized, outliers)).mean(0)
    assert np.abs(mean).max() > 1  # what a mean would have added to the biases
    assert change.largest[0] < 0.05
    assert mean_error(path, change.path, ordinary) <= mean_error(path, quantized, ordinary) + 0.01


@pytest.mark.parametrize("backend", ["onnxruntime", "nncf"])
def test_auto_delivers_the_better_file_and_records_both(backend: str) -> None:
    data = Data(small().images[:100], labels=small().labels[:100])
    judge = Judge(small().path, Samples.of(data))
    given = {"subset_size": 100, "backend": backend, "weights": "int8"}
    made = {asked_for: done(Static(**given, bias_correction=asked_for), data=data, count=100) for asked_for in (True, False)}
    rank = {asked_for: judge.judge(outcome.quantized.path).rank for asked_for, outcome in made.items()}
    auto = done(Static(**given, bias_correction="auto"), data=data, count=100)
    better = min(rank, key=lambda word: rank[word])
    assert auto.quantized.path.read_bytes() == made[better].quantized.path.read_bytes()
    fact = asked(auto)[BIAS]
    assert set(fact.value.data["judged"]) == {"with", "without"}
    assert fact.value.brief == asked(made[better])[BIAS].value.brief
    for word, asked_for in (("with", True), ("without", False)):
        assert fact.value.data["judged"][word]["sqnr_db"] == pytest.approx(-rank[asked_for][1])
        assert f"{word} it accuracy drop" in fact.value.text


def test_nncf_leaves_biases_alone_where_it_is_told_to() -> None:
    briefs = {
        asked_for: asked(done(Static(subset_size=32, backend="nncf", bias_correction=asked_for)))[BIAS].value.brief
        for asked_for in (None, True, False)
    }
    assert briefs == {None: "nncf_fast", True: "nncf_fast", False: "none"}


def test_layers_without_a_bias_are_named(tmp_path: Path) -> None:
    nodes = [NODE("Gemm", ["x", "w"], ["h"], "bare"), NODE("Gemm", ["h", "v", "b"], ["y"], "full")]
    tensors = {"w": normal(4, 6), "v": normal(6, 3), "b": normal(3)}
    path = saved(tmp_path, nodes, tensors, x_shape=["n", 4], y_shape=["n", 3])
    data = asked(done(Static(bias_correction=True), path, normal(32, 4)))[BIAS].value.data
    assert (data["layers"], data["without_bias"]) == (["full"], ["bare"])


@pytest.mark.parametrize("asked_for", [True, "auto"])
def test_a_model_without_any_bias_comes_out_as_without_correction(tmp_path: Path, asked_for: Any) -> None:
    nodes = [NODE("Gemm", ["x", "w"], ["y"], "bare")]
    path = saved(tmp_path, nodes, {"w": normal(4, 6)}, x_shape=["n", 4], y_shape=["n", 6])
    data = normal(32, 4)
    plain, after = (done(Static(bias_correction=word), path, data) for word in (False, asked_for))
    assert after.quantized.path.read_bytes() == plain.quantized.path.read_bytes()
    assert asked(after)[BIAS].value.data.get("layers", []) == []


def test_fewer_samples_than_the_fixed_batch_cannot_correct_biases(tmp_path: Path) -> None:
    nodes = [NODE("Gemm", ["x", "w", "b"], ["y"], "layer")]
    path = saved(tmp_path, nodes, {"w": normal(4, 6), "b": normal(6)}, x_shape=[5, 4], y_shape=[5, 6])
    with pytest.raises(InputError, match="too few samples to correct biases; got 3 samples; expected at least 5"):
        done(Static(bias_correction=True), path, normal(3, 4))
    assert asked(done(Static(bias_correction=True), path, normal(11, 4)))[BIAS].value.data["layers"] == ["layer"]


def test_a_file_that_yields_nan_loses_every_comparison(tmp_path: Path) -> None:
    broken = onnx.load(small().path)
    for tensor in broken.graph.initializer:
        if tensor.name == "head.bias":
            tensor.CopyFrom(numpy_helper.from_array(np.full(10, np.nan, np.float32), tensor.name))
    onnx.save(broken, tmp_path / "nan.onnx")
    judge = Judge(small().path, Samples.of(small().images[:16]))
    same, nan = judge.judge(small().path), judge.judge(tmp_path / "nan.onnx")
    assert same.rank < nan.rank
    assert (same.drop, same.data["sqnr_db"], nan.data["sqnr_db"]) == (0.0, None, None)
