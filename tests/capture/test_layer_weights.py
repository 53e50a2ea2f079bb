"""Weights of layers: each once, output channels first, float and quantized, and back to how they are stored."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mlflow_aifsm.capture.layer_weights import layer_weights
from mlflow_aifsm.capture.onnx_graph import opened

NOISE = np.random.default_rng(0)


class Kinds(nn.Module):
    """Convolution, grouped transposed convolution, linear layers as matrix products, an LSTM."""

    def __init__(self):
        super().__init__()
        self.c, self.t = nn.Conv2d(3, 8, 3, padding=1), nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2)
        self.a, self.b, self.r = nn.Linear(6, 10, bias=False), nn.Linear(10, 5), nn.LSTM(5, 7, batch_first=True)

    def forward(self, x):
        rows = self.t(torch.relu(self.c(x))).flatten(2).transpose(1, 2)
        return self.r(self.b(self.a(rows)))[0]


@pytest.fixture(scope="module")
def kinds():
    torch.manual_seed(0)
    return Kinds().eval()


@pytest.fixture(scope="module", params=[True, False], ids=["dynamo", "torchscript"])
def kinds_file(request, kinds, folder):
    path = folder / f"kinds{request.param}.onnx"
    options = {"external_data": False} if request.param else {}
    torch.onnx.export(kinds, (torch.randn(1, 3, 4, 4),), str(path), dynamo=request.param, verbose=False, **options)
    return path


def saved(path, nodes, inits, shape=(1, 4)):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in (("x", shape), ("y", None))]
    stored = [numpy_helper.from_array(values, name) for name, values in inits.items()]
    graph = helper.make_graph([helper.make_node(*node, **more) for *node, more in nodes], "g", ends[:1], ends[1:], stored)
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)]), path)
    return path


def only(path):
    (weight,) = layer_weights(path)
    return weight, opened(path)


def test_weights_are_those_of_the_module_output_channels_first(kinds, kinds_file):
    file, state = opened(kinds_file), kinds.state_dict()
    found = {weight.layer: weight.values(file) for weight in layer_weights(file) if weight.op != "LSTM"}
    turned = state["t.weight"].reshape(2, 4, 3, 2, 2).swapaxes(1, 2).reshape(6, 4, 2, 2)
    wanted = [state["c.weight"], turned, state["a.weight"], state["b.weight"]]
    assert [values.shape for values in found.values()] == [tuple(values.shape) for values in wanted]
    assert all(np.array_equal(values, other.numpy()) for values, other in zip(found.values(), wanted, strict=True))


def test_both_weights_of_a_recurrent_layer_are_told_a_row_for_each_gate(kinds_file):
    file = opened(kinds_file)
    assert [weight.values(file).shape for weight in layer_weights(file) if weight.op == "LSTM"] == [(28, 5), (28, 7)]


def test_every_weight_goes_back_to_how_it_is_stored(kinds_file):
    file = opened(kinds_file)
    for weight in layer_weights(file):
        assert np.array_equal(weight.stored(weight.values(file)), file.array(weight.held))
        assert weight.outputs == len(weight.values(file))


def test_a_weight_has_the_path_of_its_module(float_file):
    found = [(weight.module, weight.tensor, weight.op) for weight in layer_weights(float_file)]
    assert [module for module, *_ in found] == ["c1", "dw", "c2", "fc"]
    assert found[0] == ("c1", "c1.weight", "Conv")


@pytest.mark.parametrize("name", ["static_file", "dynamic_file", "nncf_file"])
def test_quantized_weights_are_those_of_the_float_file_but_for_rounding(name, float_file, request):
    before, file = opened(float_file), opened(request.getfixturevalue(name))
    floats = {weight.tensor: weight for weight in layer_weights(before)}
    found = {weight.label: weight for weight in layer_weights(file)}
    assert set(found) == set(floats)
    for label, weight in found.items():
        exact = floats[label].values(before)
        assert np.abs(weight.values(file) - exact).max() <= np.abs(exact).max() / 60
        assert weight.module == label.removesuffix(".weight")


def test_packed_four_bit_weights_are_read_a_row_for_each_output(linear_file, int4_file):
    before, file = opened(linear_file), opened(int4_file)
    for weight, other in zip(layer_weights(file), layer_weights(before), strict=True):
        exact = other.values(before)
        assert weight.values(file).shape == exact.shape
        assert np.abs(weight.values(file) - exact).max() < np.abs(exact).max() / 7


def test_a_shared_weight_is_told_once_with_all_its_layers(tmp_path):
    square = NOISE.normal(size=(4, 4)).astype(np.float32)
    nodes = [("MatMul", ["x", "w"], ["h"], "first", {}), ("MatMul", ["h", "w"], ["y"], "second", {})]
    weight, _ = only(saved(tmp_path / "m.onnx", nodes, {"w": square}))
    assert (weight.layer, weight.shared) == ("first", ("second",))


@pytest.mark.parametrize(
    ("nodes", "stored", "way"),
    [
        ([("Transpose", ["w"], ["v"], "t", {})], (3, 4), lambda w: w),
        ([("Reshape", ["w", "shape"], ["v"], "r", {})], (2, 2, 3), lambda w: w.reshape(4, 3).T),
        ([("Squeeze", ["w"], ["v"], "s", {})], (1, 4, 3), lambda w: w[0].T),
        ([("Unsqueeze", ["w", "axis"], ["v"], "u", {})], (4, 3), lambda w: w.T),
        ([("Flatten", ["w"], ["v"], "f", {"axis": 1})], (4, 3, 1), lambda w: w[:, :, 0].T),
        ([("Identity", ["w"], ["i"], "i", {}), ("Cast", ["i"], ["v"], "c", {"to": 1})], (4, 3), lambda w: w.T),
    ],
)
def test_what_moves_a_weight_before_its_layer_is_followed_there_and_back(nodes, stored, way, tmp_path):
    held = NOISE.normal(size=stored).astype(np.float32)
    numbers = {"shape": np.array([0 if stored[0] == 4 else 4, 3]), "axis": np.array([0])}
    path = saved(tmp_path / "m.onnx", [*nodes, ("MatMul", ["x", "v"], ["y"], "mul", {})], {"w": held, **numbers})
    weight, file = only(path)
    assert np.array_equal(weight.values(file), way(held))
    assert np.array_equal(weight.stored(weight.values(file)), held)


def test_stacked_matrices_lie_one_below_the_other(tmp_path):
    held = NOISE.normal(size=(2, 4, 3)).astype(np.float32)
    weight, file = only(saved(tmp_path / "m.onnx", [("MatMul", ["x", "w"], ["y"], "mul", {})], {"w": held}, (2, 1, 4)))
    assert np.array_equal(weight.values(file), np.concatenate([held[0].T, held[1].T]))
    assert np.array_equal(weight.stored(weight.values(file)), held)


@pytest.mark.parametrize(("turned", "shape"), [(1, (3, 4)), (0, (4, 3))])
def test_a_gemm_says_itself_which_axis_is_the_output(turned, shape, tmp_path):
    held = NOISE.normal(size=shape).astype(np.float32)
    weight, file = only(saved(tmp_path / "m.onnx", [("Gemm", ["x", "w"], ["y"], "gemm", {"transB": turned})], {"w": held}))
    assert np.array_equal(weight.values(file), held if turned else held.T)


def test_a_weight_on_the_left_has_its_outputs_in_rows(tmp_path):
    held = NOISE.normal(size=(3, 4)).astype(np.float32)
    weight, file = only(saved(tmp_path / "m.onnx", [("MatMul", ["w", "x"], ["y"], "mul", {})], {"w": held}, (4, 1)))
    assert np.array_equal(weight.values(file), held)


def test_zeros_of_codes_are_those_at_the_zero_point(static_file):
    file = opened(static_file)
    for weight in layer_weights(file):
        assert np.array_equal(weight.zero(file), weight.values(file) == 0)
        assert int(weight.zero(file).sum()) == weight.quantizer.zeros
