"""Zeros written into a frozen file: by magnitude, in every pattern, whatever way its weights are stored."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mlflow_aifsm.backends.exporters import to_onnx
from mlflow_aifsm.backends.onnx_prune import aliases, left_out, prunable, prune_file
from mlflow_aifsm.backends.pruned import Applied
from mlflow_aifsm.capture.layer_weights import layer_weights
from mlflow_aifsm.capture.onnx_graph import opened
from mlflow_aifsm.capture.patterns import Pattern
from mlflow_aifsm.capture.zero_patterns import holds
from mlflow_aifsm.digests import file_digest
from mlflow_aifsm.errors import InputError
from tests.backends.pruning_net import SIDE, net

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("float") / "net.onnx"
    to_onnx(net().eval(), (torch.randn(2, 4, SIDE, SIDE),), {}, made, dynamic_shapes="batch")
    return made


def zeros(path: Path) -> dict[str, np.ndarray]:
    file = opened(path)
    return {one.tensor: one.zero(file) for one in layer_weights(file)}


def pruned(path: Path, pattern: str = "element", scope: str = "global", amount: float = 0.5) -> tuple[Path, Applied]:
    return prune_file(path, [one.tensor for one in prunable(path)], Pattern.of(pattern), amount, scope)


def products(path: Path, weight: np.ndarray, *, times: int = 1, **external: bool) -> Path:
    """A file of ``times`` matrix products with one stored weight."""
    kind = helper.np_dtype_to_tensor_dtype(weight.dtype)
    names = ["x", *(f"h{at}" for at in range(times))]
    nodes = [helper.make_node("MatMul", [one, "w"], [two], f"product_{two}") for one, two in pairwise(names)]
    ends = [helper.make_tensor_value_info(name, kind, [1, weight.shape[at]]) for at, name in ((0, "x"), (1, names[-1]))]
    graph = helper.make_graph(nodes, "products", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, path, save_as_external_data=external.get("external", False), location="weights.bin", size_threshold=0)
    return path


@pytest.mark.parametrize("pattern", ["element", "vector:4", "block:4x4", "group", "channel", "2:4"])
@pytest.mark.parametrize("scope", ["global", "local"])
def test_the_file_holds_what_was_asked_and_its_other_tensors_stay(path: Path, pattern: str, scope: str) -> None:
    before = file_digest(path)
    made, applied = pruned(path, pattern, scope)
    found = zeros(made)
    assert found.keys() == applied.masks.keys()
    assert len(found) == 4
    assert all((zero == ~applied.masks[name]).all() and holds(zero, Pattern.of(pattern)) for name, zero in found.items())
    assert applied.amount == pytest.approx(0.5, abs=0.04)
    assert len(set(applied.thresholds.values())) == (4 if scope == "local" and pattern != "2:4" else 1)
    old, new = ({one.name: one for one in onnx.load(one).graph.initializer} for one in (path, made))
    same = [name for name in old if old[name] == new[name]]
    assert set(old) - set(same) == {name for name, share in applied.reached.items() if share}
    assert file_digest(path) == before
    assert made.name == path.name


def test_the_smallest_weights_are_gone_and_the_rest_is_as_it_was(path: Path) -> None:
    made, applied = pruned(path)
    values = [{one.tensor: one.values(file) for one in layer_weights(file)} for file in map(opened, (path, made))]
    for name, mask in applied.masks.items():
        limit = applied.thresholds[name]
        assert limit is not None
        assert (np.abs(values[0][name][mask]) > limit).all()
        assert (np.abs(values[0][name][~mask]) <= limit).all()
        assert np.array_equal(values[0][name][mask], values[1][name][mask])


def test_only_the_named_weights_change(path: Path) -> None:
    made, applied = prune_file(path, ["hidden.weight"], Pattern.of("element"), 0.5, "global")
    assert {name for name, zero in zeros(made).items() if zero.any()} == {"hidden.weight"} == set(applied.masks)


def test_weights_go_by_module_tensor_node_and_operator(path: Path) -> None:
    found = {one.tensor: aliases(one) for one in prunable(path)}
    assert {"hidden", "hidden.weight", "Gemm"} <= set(found["hidden.weight"])
    assert {"up", "ConvTranspose"} <= set(found["up.weight"])


def test_a_graph_that_was_read_already_is_not_changed(path: Path) -> None:
    file = opened(path)
    before = file.model.SerializeToString()
    prune_file(file, ["hidden.weight"], Pattern.of("element"), 0.5, "global")
    assert file.model.SerializeToString() == before


def test_output_channels_of_a_matrix_product_are_the_columns_of_its_weight(tmp_path: Path) -> None:
    made, _ = pruned(products(tmp_path / "model.onnx", RNG.standard_normal((6, 4), np.float32)), "channel")
    outputs = onnxruntime.InferenceSession(made).run(None, {"x": np.ones((1, 6), np.float32)})[0]
    assert (outputs == 0).sum() == 2


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_the_type_of_the_weights_stays(tmp_path: Path, kind: type[np.floating]) -> None:
    weight = RNG.standard_normal((8, 8)).astype(kind)
    made, _ = pruned(products(tmp_path / "model.onnx", weight))
    after = numpy_helper.to_array(onnx.load(made).graph.initializer[0])
    assert after.dtype == kind
    assert np.array_equal(after[after != 0], weight[after != 0])
    assert (after == 0).sum() == 32


def test_a_shared_weight_is_pruned_once(tmp_path: Path) -> None:
    made, applied = pruned(products(tmp_path / "model.onnx", RNG.standard_normal((8, 8), np.float32), times=3))
    assert list(applied.masks) == ["w"]
    assert [zero.sum() for zero in zeros(made).values()] == [32]


def test_external_weights_are_read_and_large_ones_written_beside_the_file(tmp_path: Path) -> None:
    weight = RNG.standard_normal((4160, 4160), np.float32)
    source = products(tmp_path / "model.onnx", weight, external=True)
    made, applied = pruned(source, "vector:4", amount=0.25)
    assert sorted(one.name for one in made.parent.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert made.stat().st_size < 10_000
    assert applied.reached["w"] == pytest.approx(0.25)
    after = next(one.values(opened(made)) for one in prunable(made))
    assert np.array_equal(after, np.where(applied.masks["w"], weight.T, 0))
    assert (tmp_path / "weights.bin").stat().st_size == weight.nbytes


def test_external_tensors_that_are_not_pruned_come_along(path: Path, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    onnx.save(onnx.load(path), source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    made, _ = prune_file(source, ["hidden.weight"], Pattern.of("element"), 0.5, "global")
    assert [one.name for one in made.parent.iterdir()] == ["model.onnx"]
    old, new = ({one.name: numpy_helper.to_array(one) for one in onnx.load(one).graph.initializer} for one in (path, made))
    assert {name for name in old if not np.array_equal(old[name], new[name])} == {"hidden.weight"}


def test_weights_in_constant_nodes_are_pruned_too(tmp_path: Path) -> None:
    weight = RNG.standard_normal((8, 8), np.float32)
    source = products(tmp_path / "model.onnx", weight)
    model = onnx.load(source)
    held = model.graph.initializer.pop()
    model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], "constant", value=held))
    onnx.save(model, source)
    made, applied = pruned(source)
    assert applied.reached["w"] == 0.5
    assert [zero.sum() for zero in zeros(made).values()] == [32]


def test_a_quantized_file_is_refused(tmp_path: Path) -> None:
    source = products(tmp_path / "model.onnx", RNG.standard_normal((8, 8), np.float32))
    model = onnx.load(source)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "scale"))
    model.graph.initializer.append(helper.make_tensor("zero", TensorProto.INT8, [], [0]))
    model.graph.node[0].input[0] = "back"
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["back"]))
    model.graph.node.insert(0, helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"]))
    onnx.save(model, source)
    with pytest.raises(InputError, match=r"cannot prune a quantized file.*prune before quantizing"):
        prunable(source)


def test_a_weight_that_is_not_there_is_refused(path: Path) -> None:
    with pytest.raises(InputError, match=r"net\.onnx holds no such weight; got gone\.weight"):
        prune_file(path, ["hidden.weight", "gone.weight"], Pattern.of("element"), 0.5, "global")


def test_a_weight_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    weight = RNG.standard_normal((8, 8), np.float32)
    weight[3, 3] = np.inf
    with pytest.raises(InputError, match="weight w is not finite"):
        pruned(products(tmp_path / "model.onnx", weight))


def test_stored_weights_that_no_pruning_reaches_are_told(path: Path, tmp_path: Path) -> None:
    words = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 4))
    to_onnx(words.eval(), (torch.zeros(2, dtype=torch.int64),), {}, made := tmp_path / "words.onnx", dynamic_shapes="batch")
    assert (left_out(made).sizes, left_out(made).total) == ({"0.weight": 80}, 112)
    assert left_out(path).text == ""
