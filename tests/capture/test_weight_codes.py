"""Codes of real quantizers beside the float weights they were made from, and codes that somebody changed."""

import time

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from mlflow_aifsm.capture import quantizers, weight_codes
from mlflow_aifsm.capture.onnx_graph import opened
from mlflow_aifsm.capture.quantizer import WEIGHT, Quantizer
from mlflow_aifsm.facts import State
from tests.capture.conftest import export

NAMES = ["c1.weight", "dw.weight", "c2.weight", "fc.weight"]


def compared(path, against):
    file = opened(path)
    return weight_codes.weight_codes(file, against, quantizers.read(file))


def edited(source, target, **changes):
    """A copy of ``source`` whose initializers of these names went through a function."""
    model = onnx.load(source)
    for item in model.graph.initializer:
        if item.name in changes:
            values = numpy_helper.to_array(item).copy()
            item.CopyFrom(numpy_helper.from_array(changes[item.name](values).astype(values.dtype), item.name))
    onnx.save(model, target)
    return target


def weight(**attributes):
    return Quantizer("w", WEIGHT, "l", "Conv", "int8", 8, **attributes)


@pytest.mark.parametrize(
    "arguments",
    [
        {"weight_type": QuantType.QInt8, "per_channel": True},
        {"weight_type": QuantType.QUInt8},
        {"weight_type": QuantType.QInt8, "reduce_range": True},
        {"weight_type": QuantType.QInt8, "per_channel": True, "quant_format": QuantFormat.QOperator},
        {"weight_type": QuantType.QInt4},
        {"weight_type": QuantType.QInt16, "activation_type": QuantType.QInt16},
    ],
    ids=["int8", "uint8", "reduced", "operators", "int4", "int16"],
)
def test_every_code_of_onnx_runtimes_quantizer_is_that_of_the_float_weight(static, float_file, arguments, request):
    name = f"codes-{request.node.callspec.id}.onnx"
    fact = compared(static(name, **{"activation_type": QuantType.QUInt8, **arguments}), float_file)
    assert (fact.state, fact.value.short, fact.findings) == (State.MEASURED, "agree", ())
    assert fact.value.text.startswith("4 of 4 weights: all 5,216 codes are those of the float weights in float.onnx")


def test_every_code_of_nncf_and_of_dynamic_quantization_is_that_of_the_float_weight(nncf_file, dynamic_file, float_file):
    for path, count in ((nncf_file, 3), (dynamic_file, 4)):
        data = compared(path, float_file).value.data
        assert (data["different"], data["compared"], data["not_compared"]) == (0, count, {})


def test_packed_codes_in_groups_are_those_of_the_float_weights(int4_file, linear_file):
    data = compared(int4_file, linear_file).value.data
    assert (data["codes"], data["different"], data["compared"]) == (64 * 32 + 32 * 10, 0, 2)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_packed_matrix_is_compared_with_the_matrix_it_was_transposed_from(tmp_path, symmetric):
    values = np.random.default_rng(0).uniform(-0.5, 1, size=(40, 40)).astype(np.float32)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(values, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), tmp_path / "f.onnx")
    quantizer = MatMulNBitsQuantizer(onnx.load(tmp_path / "f.onnx"), bits=4, block_size=16, is_symmetric=symmetric)
    quantizer.process()
    quantizer.model.save_model_to_file(str(tmp_path / "q.onnx"))
    data = compared(tmp_path / "q.onnx", tmp_path / "f.onnx").value.data
    assert (data["codes"], data["different"]) == (1600, 0)


def test_a_transpose_that_was_folded_on_the_way_is_followed(tmp_path):
    raw = export(
        nn.Sequential(nn.Linear(12, 8, bias=False), nn.ReLU(), nn.Linear(8, 8, bias=False)).eval(), torch.randn(2, 3, 12),
        tmp_path / "raw.onnx", optimize=False, external_data=False,
    )  # fmt: skip
    assert [node.op_type for node in onnx.load(raw).graph.node].count("Transpose") == 2
    quant_pre_process(str(raw), str(tmp_path / "prepared.onnx"))
    quantize_dynamic(str(tmp_path / "prepared.onnx"), str(tmp_path / "q.onnx"))
    data = compared(tmp_path / "q.onnx", raw).value.data
    assert (data["codes"], data["different"], data["not_compared"]) == (12 * 8 + 8 * 8, 0, {})


def test_codes_that_were_changed_are_counted_and_named(static_file, float_file, tmp_path):
    def two_off(codes):
        codes.ravel()[:3] = np.where(codes.ravel()[:3] > 0, codes.ravel()[:3] - 2, codes.ravel()[:3] + 2)
        return codes

    path = edited(static_file, tmp_path / "changed.onnx", **{"c2.weight_quantized": two_off})
    fact = compared(path, float_file)
    assert [finding.code for finding in fact.findings] == ["weight_codes_differ"]
    assert "3 of 5,216 codes differ" in fact.value.text
    assert "c2.weight (3 of 4,608, largest by 2 codes)" in fact.value.text
    assert list(fact.value.data["by_weight"]) == ["c2.weight"]


@pytest.mark.parametrize("factor", [0.5, 1.02, 100])
def test_a_wrong_scale_is_found_however_large(static_file, float_file, tmp_path, factor):
    path = edited(static_file, tmp_path / "scale.onnx", **{"fc.weight_scale": lambda scale: scale * factor})
    assert list(compared(path, float_file).value.data["by_weight"]) == ["fc.weight"]


def test_codes_cut_to_fewer_levels_are_no_range_of_their_own(static_file, float_file, tmp_path):
    path = edited(static_file, tmp_path / "cut.onnx", **{"c2.weight_quantized": lambda codes: np.clip(codes, -5, 5)})
    assert compared(path, float_file).value.data["by_weight"]["c2.weight"]["largest"] > 50


def test_a_float_weight_that_was_exchanged_is_found(static_file, float_file, tmp_path):
    path = edited(float_file, tmp_path / "other.onnx", **{"dw.weight": lambda values: values + 0.05})
    assert list(compared(static_file, path).value.data["by_weight"]) == ["dw.weight"]


def test_at_the_border_of_two_codes_either_is_right_and_a_third_is_not():
    row = weight(scale=(0.5,), zero_point=(0,), codes_min=-127, codes_max=127)
    found = weight_codes.agreement(row, np.array([2, 3, 4, -2, 127]), np.array([1.25, 1.25, 1.25, -1.25, 63.5], np.float32))
    assert (found.codes, found.different, found.largest, found.border) == (5, 1, 1, 1)


def test_a_quotient_off_by_float32_rounding_is_no_fault_and_one_beyond_it_is():
    row = weight(scale=(1.0,), zero_point=(0,), codes_min=-127, codes_max=127)
    near, far = np.nextafter(np.float32(100.5), np.float32(200)), np.float32(100.51)
    assert weight_codes.agreement(row, np.array([100]), np.array([near])).different == 0
    assert weight_codes.agreement(row, np.array([100]), np.array([far])).different == 1


def test_half_and_narrow_ranges_are_clipped_as_their_quantizers_do():
    for end, other in ((64, 65), (127, 128)):
        row = weight(scale=(1.0,), zero_point=(0,), codes_min=-end, codes_max=end)
        found = weight_codes.agreement(row, np.array([-end, end]), np.array([-other - 0.2, other + 0.2], np.float32))
        assert (found.different, found.clipped) == (0, 2)


def test_a_weight_that_is_zero_everywhere_agrees_whatever_its_scale():
    row = weight(scale=(0.0, 1.0), zero_point=(0, 0), axis=0)
    assert weight_codes.agreement(row, np.zeros((2, 3), np.int8), np.zeros((2, 3), np.float32)).different == 0


def test_a_weight_without_a_float_weight_is_named(static_file, float_file, tmp_path):
    model = onnx.load(float_file)
    for node in model.graph.node:
        node.name = f"other {node.name}"
        node.input[:] = ["renamed" if name == "c2.weight" else name for name in node.input]
    next(item for item in model.graph.initializer if item.name == "c2.weight").name = "renamed"
    onnx.save(model, tmp_path / "renamed.onnx")
    fact = compared(static_file, tmp_path / "renamed.onnx")
    assert "; not compared: c2.weight (no float weight of this name or layer and size in renamed.onnx)" in fact.value.text
    assert (fact.value.data["compared"], list(fact.value.data["not_compared"])) == (3, ["c2.weight"])


def test_a_float_weight_of_another_name_is_found_by_its_layer(static_file, float_file, tmp_path):
    model = onnx.load(float_file)
    for node in model.graph.node:
        node.input[:] = [f"{name} of torch" if name in NAMES else name for name in node.input]
    for item in model.graph.initializer:
        item.name = f"{item.name} of torch" if item.name in NAMES else item.name
    onnx.save(model, tmp_path / "renamed.onnx")
    assert compared(static_file, tmp_path / "renamed.onnx").value.short == "agree"


def test_weights_that_batch_normalization_was_folded_into_are_not_called_wrong(static_file, unfolded_file):
    data = compared(static_file, unfolded_file).value.data
    assert {label: reason[:19] for label, reason in data["not_compared"].items()} == dict.fromkeys(
        ["c1.weight", "dw.weight"], "batch normalization"
    )
    assert (data["compared"], data["different"]) == (2, 0)


def test_without_the_float_model_codes_are_not_recorded_and_a_float_file_has_none(static_file, float_file):
    assert compared(static_file, None).state is State.NOT_RECORDED
    assert "--against" in compared(static_file, None).remedy
    assert compared(float_file, float_file).state is State.NOT_APPLICABLE


def test_another_model_is_not_recorded_with_the_reason(static_file, linear_file):
    fact = compared(static_file, linear_file)
    assert fact.state is State.NOT_RECORDED
    assert "none of 4 weights could be compared" in fact.reason


def test_as_many_weights_as_in_mobilenet_are_compared_in_a_third_of_a_second(tmp_path):
    """The best of three, because other work may run beside it."""
    values = np.random.default_rng(0).normal(size=(1280, 2734)).astype(np.float32)
    row = weight(scale=tuple((np.abs(values).max(1) / 127).tolist()), zero_point=(0,), axis=0)
    codes = np.rint(values / np.abs(values).max(1, keepdims=True) * 127).astype(np.int8)
    durations = []
    for _ in range(3):
        start = time.perf_counter()
        assert weight_codes.agreement(row, codes, values).different == 0
        durations.append(time.perf_counter() - start)
    assert min(durations) < 0.3
