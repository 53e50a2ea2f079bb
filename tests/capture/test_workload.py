"""Weights, multiply-adds and compressed bytes of a file, each against what can be reckoned by hand or by a library."""

import zlib

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mlflow_aifsm.capture import sparsity, workload
from mlflow_aifsm.capture.layer_weights import layer_weights
from mlflow_aifsm.capture.onnx_graph import opened


def uses(path):
    file = opened(path)
    return workload.uses(file, layer_weights(file))


def facts(path, against=None, *, logged=False):
    file, before = opened(path), None if against is None else opened(against)
    zeros = sparsity.read_zeros(file, against=before)
    made = workload.facts(file, zeros, uses(path), before, pruning_logged=logged)
    return {fact.name.removeprefix("workload."): fact for fact in made}


def halved(source, path):
    """A copy in which the first half of each weight is zero."""
    model = onnx.load(source)
    for item in model.graph.initializer:
        if item.name.endswith(".weight"):
            values = numpy_helper.to_array(item).copy()
            values[: len(values) // 2] = 0
            item.CopyFrom(numpy_helper.from_array(values, item.name))
    onnx.save(model, path)
    return path


def test_a_weight_is_used_once_for_each_output_position_of_one_sample(float_file):
    # input 8x8: the first two convolutions keep the size, the third has stride 2, the last is a linear layer; batch open
    assert uses(float_file) == {"c1.weight": 64, "dw.weight": 64, "c2.weight": 16, "fc.weight": 1}


def test_a_fixed_batch_is_divided_out(linear_file):
    assert set(uses(linear_file).values()) == {1}


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (3, 4, 9, 9)),
        (nn.Conv1d(4, 6, 5, dilation=2), (2, 4, 30)),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (2, 4, 5, 5)),
        (nn.Linear(4, 6), (2, 7, 4)),
        (nn.Linear(4, 6), (5, 4)),
    ],
)
def test_multiply_adds_are_those_that_pytorch_counts(module, shape, tmp_path):
    from torch.utils.flop_counter import FlopCounterMode

    example = torch.randn(*shape)
    with FlopCounterMode(display=False) as counter:
        module(example)
    torch.onnx.export(module.eval(), (example,), str(tmp_path / "m.onnx"), dynamo=True, verbose=False, external_data=False)
    told = facts(tmp_path / "m.onnx")["multiply_adds"].value.data
    assert told == counter.get_total_flops() / 2 / shape[0]


def test_every_step_of_a_sequence_uses_the_weights_of_an_lstm(tmp_path):
    torch.manual_seed(0)
    model = nn.LSTM(5, 7, bidirectional=True, batch_first=True)
    torch.onnx.export(model.eval(), (torch.randn(1, 11, 5),), str(tmp_path / "m.onnx"), dynamo=False, verbose=False)
    assert set(uses(tmp_path / "m.onnx").values()) == {11}


def test_a_shared_weight_is_used_by_each_of_its_layers(tmp_path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")])
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "m.onnx")
    assert uses(tmp_path / "m.onnx") == {"w": 6}


def test_weights_are_counted_with_and_without_zeros(float_file, tmp_path):
    told = facts(halved(float_file, tmp_path / "half.onnx"), float_file)
    assert told["parameters"].value.text == "5,216 weights, 2,608 of them not zero (before: 5,216)"
    assert told["parameters"].metrics == {"aifsm.nonzero_parameters": 2608}
    every = 64 * 144 + 64 * 144 + 16 * 4608 + 320
    text = f"{every:,} multiply-adds a sample, {every // 2:,} of them with weights that are not zero (before: {every:,})"
    assert told["multiply_adds"].value.text == text
    assert told["multiply_adds"].metrics == {"aifsm.nonzero_multiply_adds": every / 2}


def test_without_a_float_file_nothing_is_said_of_before(float_file):
    assert facts(float_file)["parameters"].value.text == "5,216 weights, 5,216 of them not zero"


def open_size(source, path):
    model = onnx.load(source)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    del model.graph.value_info[:]
    onnx.save(model, path)
    return path


def test_layers_of_unknown_shape_are_said_to_be_not_counted(float_file, tmp_path):
    told = facts(open_size(float_file, tmp_path / "open.onnx"))["multiply_adds"]
    assert told.value.text.startswith("320 multiply-adds a sample")
    assert "not counted, shapes not known: " in told.value.text
    assert len(told.value.data["not_counted"]) == 3
    assert told.metrics == {}


def test_the_table_says_nothing_where_the_shape_is_not_known():
    row = sparsity.Zeros("w", "conv", 10, 4)
    assert workload.columns(row, {"w": 3}) == {"multiply_adds": 30, "nonzero_multiply_adds": 18}
    assert workload.columns(row, {}) == {"multiply_adds": None, "nonzero_multiply_adds": None}


def test_the_compressed_size_is_that_of_all_files_before_and_after(float_file, tmp_path):
    path = halved(float_file, tmp_path / "half.onnx")
    told = facts(path, float_file, logged=True)["compressed"]
    after = len(zlib.compress(path.read_bytes(), 6))
    before = sum(len(zlib.compress((float_file.parent / part.path).read_bytes(), 6)) for part in opened(float_file).files)
    assert len(opened(float_file).files) == 2
    assert told.value.text.startswith(f"{after:,} bytes of {path.stat().st_size:,} (zlib, level 6); before {before:,} of ")
    assert told.metrics == {"aifsm.compressed_ratio": after / before}


def test_nothing_is_compressed_where_nothing_was_pruned(float_file):
    assert set(facts(float_file)) == {"parameters", "multiply_adds"}


def test_a_graph_of_which_nothing_can_be_inferred_tells_the_shapes_that_are_written_in_it(float_file, tmp_path):
    model = onnx.load(float_file)
    model.graph.node.append(helper.make_node("Own", ["x"], ["own"], domain="of.nobody"))
    onnx.save(model, tmp_path / "written.onnx")
    assert uses(tmp_path / "written.onnx") == uses(float_file)
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "bare.onnx")
    told = facts(tmp_path / "bare.onnx")["multiply_adds"]
    assert told.value.text.startswith("320 multiply-adds a sample")
    assert len(told.value.data["not_counted"]) == 3
