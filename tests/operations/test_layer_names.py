"""``keep_float`` and ``overrides``: layers by the names people know, and what comes of it in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from mlflow_aifsm.backends.graph_rewrites import named
from mlflow_aifsm.capture import quantizers
from mlflow_aifsm.capture.layer_names import selected
from mlflow_aifsm.capture.onnx_graph import opened
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.operations.quantization import Dynamic, Static, WeightOnly
from tests.operations.quantized_models import asked, done, found, saved, small

CONVOLUTIONS = ("node_Conv_19", "node_Conv_20", "node_conv2d_2")
FEW = {"subset_size": 32}
METHODS = [Static(**FEW), Static(**FEW, backend="nncf"), Dynamic()]


def kind(config: object) -> str:
    return f"{type(config).__name__}-{getattr(config, 'backend', '')}"


def types(config: Static, part: str = "activation") -> dict[str, str]:
    """Types of codes by tensor."""
    return {row.label: row.dtype for row in quantizers.read(done(config).quantized.path) if row.kind == part}


@pytest.mark.parametrize(
    ("pattern", "nodes"),
    [
        ("features.3", ("node_Conv_20",)),
        ("head", ("node_linear",)),
        ("h?ad", ("node_linear",)),
        ("node_Conv_*", CONVOLUTIONS[:2]),
        ("Conv", CONVOLUTIONS),
        ("features", ("node_Conv_19", "node_relu", "node_Conv_20", "node_relu_1", "node_conv2d_2", "node_relu_2")),
    ],
)
def test_a_layer_goes_by_its_module_path_its_node_name_and_its_operator(pattern: str, nodes: tuple[str, ...]) -> None:
    assert selected(opened(small().path), [pattern], "keep_float") == {pattern: nodes}


@pytest.mark.parametrize(
    ("pattern", "nearest"), [("heads", "head"), ("feature.0", "features.0"), ("node_linaer", "node_linear"), ("conv", "Conv")]
)
@pytest.mark.parametrize("config", [Static, Dynamic, WeightOnly])
def test_a_name_that_means_nothing_is_refused_with_the_nearest(config: Any, pattern: str, nearest: str) -> None:
    with pytest.raises(InputError, match=rf"keep_float names no layer; got '{pattern}'.*nearest: .*\b{nearest}\b"):
        done(config(keep_float=("head", pattern)))


def test_a_bracket_in_a_name_is_no_wildcard(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"], "blocks[0].fc")]
    path = saved(tmp_path, nodes, {"w": np.eye(4, dtype=np.float32)}, x_shape=["n", 4], y_shape=["n", 4])
    assert selected(opened(path), ["blocks[0].fc"], "keep_float") == {"blocks[0].fc": ("blocks[0].fc",)}
    with pytest.raises(InputError, match="names no layer"):
        selected(opened(path), ["blocks[01].fc"], "keep_float")


def test_every_node_gets_a_name_of_its_own() -> None:
    given = ["", "same", "same", "Relu_0", ""]
    nodes = [helper.make_node("Relu", [str(place)], [str(place + 1)], name) for place, name in enumerate(given)]
    after = [node.name for node in named(helper.make_model(helper.make_graph(nodes, "g", [], []))).graph.node]
    assert after == ["Relu_0_0", "same", "same_2", "Relu_0", "Relu_4"]


@pytest.mark.parametrize("config", METHODS, ids=kind)
@pytest.mark.parametrize(("pattern", "left"), [("features", CONVOLUTIONS), ("head", ("node_linear",))])
def test_what_is_kept_in_float_is_in_float_in_the_file(config: Any, pattern: str, left: tuple[str, ...]) -> None:
    settings = {name: getattr(config, name) for name in type(config).__dataclass_fields__}
    outcome = done(type(config)(**{**settings, "keep_float": pattern}))
    partial = found(outcome)["recovery.partial"].value
    assert tuple(partial.data) == left
    assert partial.text.startswith(f"Partial quantization: {len(left)} of 4 layers in float")
    assert {outcome.reasons[name] for name in left} == {f"keep_float names it ({pattern})"}


def test_a_linear_layer_that_is_kept_has_no_groups(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], "first", transB=1),
        helper.make_node("Gemm", ["h", "w", "b"], ["y"], "second", transB=1),
    ]
    tensors = {"w": rng.normal(size=(16, 16)).astype(np.float32), "b": np.ones(16, np.float32)}
    path = saved(tmp_path, nodes, tensors, x_shape=["n", 16], y_shape=["n", 16])
    outcome = done(WeightOnly(bits=8, group_size=16, keep_float=("first",)), path)
    assert found(outcome)["recovery.partial"].value.data == ["first"]
    data = rng.normal(size=(8, 16)).astype(np.float32)
    before, after = (onnxruntime.InferenceSession(file).run(None, {"x": data})[0] for file in (path, outcome.quantized.path))
    assert np.abs(before - after).max() < 0.05 * np.abs(before).max()


@pytest.mark.parametrize(
    ("pattern", "settings", "part", "tensor", "dtype"),
    [
        ("features.0", {"activations": "uint16"}, "activation", "relu", "uint16"),
        ("node_relu", {"activations": "int8"}, "activation", "relu", "int8"),
        ("features.3", {"weights": "int16"}, "weight", "features.3.weight", "int16"),
        ("head", {"weights": "int4"}, "weight", "head.weight", "int4"),
        ("features.?", {"weights": "uint8"}, "weight", "features.6.weight", "uint8"),
    ],
)
def test_a_setting_by_layer_is_found_on_its_tensor(
    pattern: str, settings: dict[str, str], part: str, tensor: str, dtype: str
) -> None:
    usual = types(Static(**FEW), part)
    other = types(Static(**FEW, overrides={pattern: settings}), part)
    assert other[tensor] == dtype != usual[tensor]
    assert [name for name in usual if name not in other] == []
    assert pattern == "features.?" or [name for name in usual if usual[name] != other[name]] == [tensor]


def test_of_two_patterns_for_one_layer_the_later_one_holds() -> None:
    both = {"Conv": {"weights": "int16"}, "features.3": {"weights": "uint8"}}
    found_types = types(Static(**FEW, overrides=both), "weight")
    assert [found_types[f"features.{place}.weight"] for place in (0, 3, 6)] == ["int16", "uint8", "int16"]
    wanted = done(Static(**FEW, overrides=both)).overridden
    assert {tensor: words["dtype"] for tensor, words in wanted.items()} == {
        "features.0.weight": "int16",
        "features.3.weight": "uint8",
        "features.6.weight": "int16",
    }


def test_what_stays_in_float_is_not_asked_for_codes() -> None:
    # of all layers that the pattern means, the last has an output that is the graph's own and stays in float
    outcome = done(Static(**FEW, overrides={"*": {"activations": "uint16"}}))
    assert set(outcome.overridden) == {"relu", "relu_1", "relu_2"}


def test_ranges_of_one_layer_are_those_of_its_own_method() -> None:
    config = Static(**FEW, ranges="min_max", overrides={"features.3": {"ranges": "percentile"}}, percentile=90)
    rows = {row["tensor"]: row for row in done(config).tables["calibration"]}
    assert {name for name, row in rows.items() if row["method"] == "percentile"} == {"relu_1"}
    assert rows["relu_1"]["calibrated_max"] < rows["relu_1"]["observed_max"]
    held = {row.label: row for row in quantizers.read(done(config).quantized.path)}["relu_1"]
    assert held.alpha[0] == pytest.approx(rows["relu_1"]["calibrated_max"], rel=1e-5)


def test_a_symmetric_layer_among_others_keeps_its_relu() -> None:
    outcome = done(Static(**FEW, overrides={"features.3": {"scheme": "symmetric"}}))
    zero = {row.label: row.zero_point for row in quantizers.read(outcome.quantized.path) if row.kind == "activation"}
    assert (zero["relu_1"], zero["relu_2"]) == ((128,), (0,))
    facts = found(outcome, small().path)
    assert facts["quantizers.lost_non_linearities"].findings == ()
    assert asked(outcome)["asked.scheme"].value.data is None  # the file as a whole has neither; the tensor is looked up
    assert outcome.overridden == {"relu_1": {"scheme": "symmetric"}}


def test_a_product_with_its_weight_on_the_right_has_scales_by_output_channel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["h"], "first"),
        helper.make_node("Gemm", ["h", "w"], ["y"], "second"),
    ]
    tensors = {"v": rng.normal(size=(8, 12)).astype(np.float32), "w": rng.normal(size=(12, 4)).astype(np.float32)}
    path = saved(tmp_path, nodes, tensors, x_shape=["n", 8], y_shape=["n", 4])
    wide = {"first": {"weights": "int16"}, "second": {"weights": "int16"}}
    outcome = done(Static(**FEW, overrides=wide), path, rng.normal(size=(32, 8)).astype(np.float32))
    rows = {row.label: row for row in quantizers.read(outcome.quantized.path) if row.kind == "weight"}
    assert {name: (row.dtype, row.axis, len(row.scale)) for name, row in rows.items()} == {
        "v": ("int16", 1, 12),
        "w": ("int16", 1, 4),
    }


@pytest.mark.parametrize(
    ("pattern", "settings", "why"),
    [
        ("head", {"activations": "uint16"}, "a quantized output of its own"),
        ("Reshape", {"activations": "int8"}, "a quantized output of its own"),
        ("Relu", {"weights": "int4"}, "a stored weight"),
        ("nowhere", {"weights": "int4"}, "nearest"),
    ],
)
def test_a_setting_that_no_layer_can_have_is_refused(pattern: str, settings: dict[str, str], why: str) -> None:
    with pytest.raises(InputError, match="overrides") as caught:
        done(Static(**FEW, overrides={pattern: settings}))
    assert why in str(caught.value)


def test_a_layer_cannot_be_quantized_its_own_way_and_stay_in_float() -> None:
    with pytest.raises(InputError, match="'node_linear' cannot be quantized and stay in float"):
        done(Static(**FEW, overrides={"head": {"weights": "int16"}}, keep_float=("head",)))
    # of several layers, those that stay in float are exceptions
    outcome = done(Static(**FEW, overrides={"Conv": {"weights": "int16"}}, keep_float=("features.0",)))
    rows = {row.label: row.dtype for row in quantizers.read(outcome.quantized.path) if row.kind == "weight"}
    assert rows == {"features.3.weight": "int16", "features.6.weight": "int16", "head.weight": "int8"}
    assert outcome.reasons["node_Conv_19"] == "keep_float names it (features.0)"


def test_the_float_file_stays_as_it_was() -> None:
    before = small().path.read_bytes()
    done(Static(**FEW, overrides={"Conv": {"weights": "int16"}}, keep_float=("head",)))
    assert small().path.read_bytes() == before
    assert onnx.load(small().path).graph.node[0].name == "node_Conv_19"
