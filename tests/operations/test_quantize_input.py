"""Data that are no basis for ranges, settings that contradict each other, and models of unusual build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlflow_aifsm.backends.quantized import EXTERNAL_DATA_ABOVE
from mlflow_aifsm.capture import quantizers
from mlflow_aifsm.errors import AifsmError, InputError, OptimizationError
from mlflow_aifsm.operations import support
from mlflow_aifsm.operations.outcome import Task
from mlflow_aifsm.operations.quantization import ORT, Dynamic, Static, WeightOnly
from mlflow_aifsm.samples import Data, Samples
from tests.models import digits
from tests.operations.quantized_models import OPSETS, asked, done, found, saved, small

NODE = helper.make_node
IMAGES, LABELS = (part[1200:] for part in digits())
BACKENDS = ["onnxruntime", "nncf"]


def normal(*shape: int) -> np.ndarray:
    return (np.random.default_rng(sum(shape)).normal(size=shape) * 0.4).astype(np.float32)


def spoiled(value: float) -> np.ndarray:
    images = IMAGES[:16].copy()
    images[5, 0, 0, 0] = value
    return images


def sqnr(path: Path, quantized: Path, data: dict[str, np.ndarray]) -> float:
    """Signal to quantization noise of the outputs as deployed, in dB."""
    results = (onnxruntime.InferenceSession(file).run(None, data)[0] for file in (path, quantized))
    before, after = (result.astype(np.float64) for result in results)
    return float(10 * np.log10((before**2).sum() / ((before - after) ** 2).sum()))


BAD = {
    "empty": (IMAGES[:0], "no calibration sample|must not be empty"),
    "shape": (IMAGES[:8, :, :4], r"shape \[1, 1, 4, 8\]; expected \['n', 1, 8, 8\]"),
    "rank": (IMAGES[:8].reshape(8, -1), r"shape \[1, 64\]"),
    "nan": (spoiled(np.nan), "tensor 'image' is not finite at calibration sample 5"),
    "infinite": (spoiled(np.inf), "tensor 'image' is not finite at calibration sample 5"),
    "labels": (Data(IMAGES[:32], labels=np.zeros(5, int)), "labels do not fit"),
    "names": ({"picture": IMAGES[:8]}, "data do not name the model's inputs"),
    "once": ((image for image in IMAGES), "an iterator can be read only once"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("backend", BACKENDS)
def test_data_that_do_not_fit_are_refused_in_one_line(backend: str, kind: str) -> None:
    data, message = BAD[kind]
    with pytest.raises(AifsmError, match=message) as caught:
        done(Static(subset_size=32, backend=backend), data=data)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, InputError) or backend == "nncf"


def test_ort_refuses_data_that_do_not_fit_as_an_input_and_not_as_its_own_failure() -> None:
    with pytest.raises(InputError, match="not finite at calibration sample 5"):
        done(ORT(), data=spoiled(np.nan))


FINDINGS = {
    "few": (IMAGES[:3], {"fewer_calibration_samples"}),
    "one class": (Data(IMAGES[:40], labels=np.zeros(40, int)), {"one_class_calibration"}),
    "black": (np.zeros((40, 1, 8, 8), np.float32), {"constant_calibration_data"}),
    "one image": (IMAGES[:1].repeat(40, 0), {"constant_calibration_data"}),
    "one": (IMAGES[:1], {"constant_calibration_data", "fewer_calibration_samples"}),
    "good": (Data(IMAGES[:40], labels=LABELS[:40]), set()),
}


@pytest.mark.parametrize("kind", FINDINGS)
@pytest.mark.parametrize(("backend", "ranges"), [("onnxruntime", "entropy"), ("nncf", "mean_min_max"), ("nncf", "percentile")])
def test_poor_data_are_findings(backend: str, ranges: str, kind: str) -> None:
    data, codes = FINDINGS[kind]
    outcome = done(Static(subset_size=32, backend=backend, ranges=ranges), data=data)
    assert {finding.code for finding in asked(outcome)["calibration.method"].findings} == codes
    held = [row for row in quantizers.read(outcome.quantized.path) if row.kind == "activation"]
    assert all(np.isfinite(row.scale).all() and min(row.scale) > 0 for row in held)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_static_quantization_without_data_says_what_needs_none(backend: str) -> None:
    config = Static(backend=backend)
    with pytest.raises(InputError, match=r"no calibration data.*use Dynamic\(\)"):
        support.method(config)(Task(small().path, None), config)


@pytest.mark.parametrize("config", [Dynamic(), WeightOnly()], ids=["dynamic", "weights"])
def test_data_for_a_quantization_that_reads_none_are_refused(config: Any) -> None:
    task = Task(small().path, Samples.of(IMAGES[:8]), 8)
    with pytest.raises(InputError, match="calibration data; got unnamed ndarray; expected none"):
        support.method(config)(task, config)


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (Static, {"weights": "int9"}, "weights; got 'int9'.*did you mean 'int"),
        (Static, {"activations": "int4"}, "activations; got 'int4'"),
        (Static, {"scheme": "asymetric"}, "did you mean 'asymmetric'"),
        (Static, {"scheme": {"weight": "symmetric"}}, "key of scheme; got 'weight'.*did you mean 'weights'"),
        (Static, {"granularity": {"weights": "tensor"}}, "granularity of weights; got 'tensor'"),
        (Static, {"ranges": "entrophy"}, "did you mean 'entropy'"),
        (Static, {"percentile": 101}, "percentile; got 101; expected a number between 50 and 100"),
        (Static, {"percentile": 50}, "percentile; got 50"),
        (Static, {"percentile": float("nan")}, "percentile; got nan"),
        (Static, {"accuracy_target": 1}, "accuracy_target; got 1"),
        (Static, {"accuracy_target": 0.0}, "accuracy_target; got 0.0"),
        (Static, {"accuracy_target": -0.1}, "accuracy_target"),
        (Static, {"subset_size": True}, "subset_size; got True"),
        (Static, {"bias_correction": "yes"}, "bias_correction; got 'yes'"),
        (Static, {"bias_correction": 1}, "bias_correction; got 1"),
        (Static, {"backend": "tensorrt"}, "backend; got 'tensorrt'"),
        (Static, {"overrides": {"head": {"bits": 4}}}, r"setting of overrides\['head'\]; got 'bits'"),
        (Static, {"overrides": {"head": {"weights": "int3"}}}, r"weights of overrides\['head'\]; got 'int3'"),
        (Static, {"keep_float": ("", "head")}, "keep_float; got"),
        (Dynamic, {"weights": "int4"}, "weights; got 'int4'"),
        (Dynamic, {"granularity": "group"}, "granularity; got 'group'"),
        (WeightOnly, {"bits": 3}, "bits; got 3; expected 2, 4, 8"),
        (WeightOnly, {"bits": True}, "bits; got True"),
        (WeightOnly, {"group_size": 48}, "group_size; got 48"),
    ],
)
def test_settings_that_are_none_are_refused_when_they_are_written(config: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config(**settings)


def two_inputs(folder: Path) -> tuple[Path, Any]:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 8]) for name in "ab"]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    stored = [numpy_helper.from_array(normal(4, 8), "w"), numpy_helper.from_array(normal(4), "c")]
    nodes = [NODE("Add", ["a", "b"], ["s"], "add"), NODE("Gemm", ["s", "w", "c"], ["y"], "fc", transB=1)]
    model = helper.make_model(helper.make_graph(nodes, "g", ends, [result], stored), opset_imports=OPSETS, ir_version=10)
    onnx.save(model, folder / "two.onnx")
    return folder / "two.onnx", {"a": normal(32, 8), "b": normal(32, 8)}


def constants(folder: Path) -> tuple[Path, Any]:
    made = numpy_helper.from_array(normal(7, 8), "w")
    nodes = [NODE("Constant", [], ["w"], "made", value=made), NODE("Gemm", ["x", "w"], ["y"], "fc", transB=1)]
    return saved(folder, nodes, {}, x_shape=["n", 8], y_shape=["n", 7]), {"x": normal(32, 8)}


def shared(folder: Path) -> tuple[Path, Any]:
    tensors = {"w": normal(8, 8), "c": normal(8)}
    nodes = [NODE("Gemm", ["x", "w", "c"], ["h"], "a", transB=1), NODE("Gemm", ["h", "w", "c"], ["y"], "b", transB=1)]
    return saved(folder, nodes, tensors, x_shape=["n", 8], y_shape=["n", 8]), {"x": normal(32, 8)}


def tied(folder: Path) -> tuple[Path, Any]:
    """A weight that one linear layer reads as it is, another transposed."""
    nodes = [NODE("Gemm", ["x", "w"], ["h"], "a", transB=1), NODE("Gemm", ["h", "w"], ["y"], "b")]
    return saved(folder, nodes, {"w": normal(16, 8)}, x_shape=["n", 8], y_shape=["n", 8]), {"x": normal(32, 8)}


def ends_in_relu(folder: Path) -> tuple[Path, Any]:
    nodes = [NODE("Gemm", ["x", "w"], ["h"], "a"), NODE("Relu", ["h"], ["y"], "relu")]
    return saved(folder, nodes, {"w": normal(8, 8)}, x_shape=["n", 8], y_shape=["n", 8]), {"x": normal(32, 8)}


def broadcast(folder: Path) -> tuple[Path, Any]:
    nodes = [NODE("Gemm", ["x", "w", "c"], ["h"], "a", beta=0.5), NODE("Gemm", ["h", "w", "one"], ["y"], "b", beta=3.0)]
    tensors = {"w": normal(8, 8), "c": normal(1, 8), "one": normal(1) + 1}
    return saved(folder, nodes, tensors, x_shape=["n", 8], y_shape=["n", 8]), {"x": normal(32, 8)}


def fixed(folder: Path) -> tuple[Path, Any]:
    nodes = [NODE("Gemm", ["x", "w"], ["h"], "a"), NODE("Gemm", ["h", "w"], ["y"], "b")]
    path = saved(folder, nodes, {"w": normal(8, 8)}, x_shape=[5, 8], y_shape=[5, 8])
    return path, {"x": normal(5, 8)}


BUILDS = [two_inputs, constants, shared, tied, ends_in_relu, broadcast, fixed]
METHODS = {
    "static": Static(ranges="min_max", granularity="layer"),
    "by channel": Static(ranges="min_max", backend="onnxruntime"),
    "nncf": Static(ranges="mse", granularity="layer", backend="nncf"),
    "dynamic": Dynamic(),
    "weights": WeightOnly(bits=8, group_size=16),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("build", BUILDS, ids=lambda one: one.__name__)
def test_models_of_unusual_build_compute_what_they_did(tmp_path: Path, build: Any, method: str) -> None:
    path, data = build(tmp_path)
    outcome = done(METHODS[method], path, data)
    rows = [row for row in quantizers.read(outcome.quantized.path) if row.kind == "weight"]
    assert {row.dtype for row in rows} == {"uint8" if method == "dynamic" else "int8"}
    assert found(outcome)["recovery.partial"].value.data == []
    assert sqnr(path, outcome.quantized.path, data) > 20


def test_a_relu_at_the_end_is_not_lost(tmp_path: Path) -> None:
    path, data = ends_in_relu(tmp_path)
    outcome = done(Static(ranges="min_max"), path, data)
    assert found(outcome, path)["quantizers.lost_non_linearities"].findings == ()
    assert onnxruntime.InferenceSession(outcome.quantized.path).run(None, data)[0].min() == 0


def branched(folder: Path) -> Path:
    inner = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 8]) for name in ("t", "e")]
    weight = numpy_helper.from_array(normal(8, 8), "v")
    taken = helper.make_graph([NODE("MatMul", ["h", "v"], ["t"], "inside")], "then", [], inner[:1], [weight])
    other = helper.make_graph([NODE("Identity", ["h"], ["e"], "same")], "else", [], inner[1:])
    nodes = [
        NODE("Gemm", ["x", "w", "c"], ["h"], "before"),
        NODE("ReduceSum", ["x"], ["s"], "sum", keepdims=0),
        NODE("Greater", ["s", "zero"], ["q"], "compare"),
        NODE("If", ["q"], ["i"], "branch", then_branch=taken, else_branch=other),
        NODE("Gemm", ["i", "w", "c"], ["y"], "after"),
    ]
    tensors = {"w": normal(8, 8), "c": normal(8), "zero": np.float32(0)}
    return saved(folder, nodes, tensors, x_shape=["n", 8], y_shape=["n", 8])


def test_a_layer_inside_a_branch_stays_in_float_and_is_named(tmp_path: Path) -> None:
    path, data = branched(tmp_path), normal(32, 8)
    outcome = done(Static(ranges="min_max"), path, data)
    assert found(outcome)["recovery.partial"].value.data == ["inside"]
    assert sqnr(path, outcome.quantized.path, {"x": data}) > 20
    with pytest.raises(InputError, match=r"biases of a graph with branches.*If 'branch'"):
        done(Static(bias_correction=True), path, data)
    with pytest.raises(OptimizationError, match=r"quantize_dynamic failed.*sorted"):
        done(Dynamic(), path)


def test_half_precision_is_refused_where_scales_would_be_single(tmp_path: Path) -> None:
    model = onnx.load(small().path)
    for tensor in [tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT]:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    del model.graph.value_info[:]
    path = tmp_path / "half.onnx"
    onnx.save(model, path)
    for config in (Static(), Static(backend="nncf"), Dynamic()):
        with pytest.raises(InputError, match=r"half precision; got float16 in .*expected float32"):
            done(config, path, IMAGES[:8].astype(np.float16))
    data = {"image": IMAGES[:8].astype(np.float16)}
    assert sqnr(path, done(WeightOnly(bits=8), path).quantized.path, data) > 20
    assert sqnr(path, done(ORT(), path, data).quantized.path, data) > 10


@pytest.mark.slow
def test_large_weights_lie_beside_the_file_before_and_after(tmp_path: Path) -> None:
    width = 8192 + 1024
    tensors = {"w": np.zeros((width, width), np.float32), "v": normal(width, 4)}
    tensors["w"][np.arange(width), np.arange(width)] = 0.5
    nodes = [NODE("Gemm", ["x", "w"], ["h"], "large"), NODE("Gemm", ["h", "v"], ["y"], "small")]
    path = saved(tmp_path, nodes, tensors, x_shape=["n", width], y_shape=["n", 4])
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin")
    data = normal(4, width)
    outcome = done(Static(ranges="min_max", granularity="layer"), path, data, 4)
    beside = list(outcome.quantized.path.parent.glob("*.data"))
    assert [file.stat().st_size > EXTERNAL_DATA_ABOVE for file in beside] == [True]
    assert outcome.quantized.path.stat().st_size < 10_000
    assert found(outcome)["quantizers.precision"].value.data["weights"] == ["int8"]
    assert sqnr(path, outcome.quantized.path, {"x": data}) > 20
