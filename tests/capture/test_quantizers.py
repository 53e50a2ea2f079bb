"""Quantizers as they are read back from files of ORT and NNCF, and from graphs with one trap each."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType

from mlflow_aifsm.capture import quantizer_facts, quantizer_table, quantizers
from mlflow_aifsm.capture.onnx_graph import opened
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import State


def facts(path, against=None):
    return {fact.name.removeprefix("quantizers."): fact for fact in quantizer_facts.facts(path, against)}


def rows(path, kind="weight"):
    return {row.label: row for row in quantizers.read(path) if row.kind == kind}


def codes(fact):
    return [finding.code for finding in fact.findings]


def saved(path, nodes, initializers, opset=21):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]), path)
    return path


def held(name, values):
    return numpy_helper.from_array(np.asarray(values), name)


def test_ort_static_weights_are_read_with_axis_scales_and_codes(static_file):
    weights = rows(static_file)
    assert set(weights) == {"c1.weight", "dw.weight", "c2.weight", "fc.weight"}
    c2 = weights["c2.weight"]
    assert (c2.dtype, c2.bits, c2.axis, len(c2.scale), c2.granularity, c2.op) == ("int8", 8, 0, 32, "channelwise", "Conv")
    assert (c2.codes_min, c2.codes_max, c2.levels, c2.formula) == (-127, 127, 255, "s = (2^(b−1) − 1)/α")


def test_weights_decode_to_the_float_weights_within_half_a_step(static_file, prepared):
    file = opened(static_file)
    original = {item.name: numpy_helper.to_array(item) for item in onnx.load(prepared).graph.initializer}
    for label, row in rows(file).items():
        found = file.array(file.scopes[0].initializers[row.tensor]).astype(float)
        scale = np.reshape(row.scale, [-1] + [1] * (found.ndim - 1))
        assert np.abs(found * scale - original[label]).max() <= 0.5001 * max(row.scale)
        assert max(row.alpha) == pytest.approx(np.abs(original[label]).max(), rel=1e-6)


def test_int32_biases_are_no_weights(static_file):
    assert set(rows(static_file, "bias")) == {"c1.bias", "c2.bias", "fc.bias"}
    assert {row.dtype for row in rows(static_file, "bias").values()} == {"int32"}


def test_the_representable_range_follows_from_codes_scale_and_zero_point(static_file):
    x = rows(static_file, "activation")["x"]
    assert x.beta[0] == pytest.approx((0 - x.zero_point[0]) * x.scale[0])
    assert (2**8 - 1) / (x.alpha[0] - x.beta[0]) == pytest.approx(1 / x.scale[0])


def test_ort_static_speaks_the_words_of_the_template(static_file):
    found = facts(static_file)
    assert found["precision"].value.data == {"weights": ["int8"], "activations": ["uint8"], "bias": ["int32"]}
    assert found["precision"].value.short == "int8 weights, uint8 activations"
    assert found["scheme"].value.data == {"weights": "symmetric", "activations": "asymmetric"}
    assert found["technique"].value.data == "integer quantization (static, QDQ)"
    assert found["granularity"].value.data == {"weights": "channelwise", "activations": "layerwise"}
    assert found["transformation"].value.short == "mixed"
    assert found["float_layers"].value.data == []
    assert found["recovery.partial"].state is State.NOT_APPLICABLE


def test_unsigned_symmetric_activations_have_the_middle_zero_point(static):
    options = {"ActivationSymmetric": True}
    path = static("middle.onnx", activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, extra_options=options)
    assert {row.zero_point for row in rows(path, "activation").values()} == {(128,)}
    assert facts(path)["scheme"].value.short == "symmetric"
    assert "f(x) = s·x + z" in facts(path)["transformation"].value.text


def test_nncf_symmetric_is_not_called_asymmetric_and_its_half_range_is_told(nncf_file):
    found = facts(nncf_file)
    assert found["scheme"].value.short == "symmetric"
    assert found["transformation"].value.short == "f(x) = s·x"
    assert found["precision"].value.data["activations"] == ["int8", "uint8"]
    assert "effective 7 bits in c1.weight" in found["precision"].value.text
    assert rows(nncf_file)["c1.weight"].levels == 129


def test_the_layer_nncf_left_out_is_left_in_float(nncf_file):
    found = facts(nncf_file)
    assert found["float_layers"].value.data == ["node_linear"]
    assert found["float_layers"].value.text == "1 of 4 layers in float: node_linear (Gemm)"
    assert found["recovery.partial"].state is State.MEASURED


def test_dynamic_quantization_has_weights_and_ranges_at_run_time(dynamic_file):
    found = facts(dynamic_file)
    assert found["technique"].value.data == "integer quantization (dynamic)"
    assert all(row.dynamic for row in rows(dynamic_file, "activation").values())
    assert all(len(row.scale) == 1 for row in rows(dynamic_file).values())
    assert "computed at run time" in found["scale"].value.text


def test_four_bit_weights_in_groups_are_unpacked(int4_file, linear_file):
    weight = rows(int4_file)["a.weight"]
    assert (weight.dtype, weight.block_size, weight.granularity, weight.size) == ("int4", 16, "groupwise", 64 * 32)
    file = opened(int4_file)
    packed = file.array(file.scopes[0].initializers[weight.tensor])
    unpacked = np.stack([packed & 15, packed >> 4], -1).reshape(32, 64).astype(int) - 8
    decoded = unpacked * np.repeat(np.reshape(weight.scale, (32, 4)), 16, 1)
    original = next(numpy_helper.to_array(item) for item in onnx.load(linear_file).graph.initializer if item.name == "a.weight")
    assert np.abs(decoded - original).max() <= 1.01 * np.abs(weight.scale).max()
    assert weight.zeros == np.count_nonzero(unpacked == 0)
    assert facts(int4_file)["technique"].value.data == "weight quantization"


def test_operators_on_codes_are_read_as_the_pairs_they_replace(static):
    arguments = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    codes_file, pairs_file = static("q.onnx", quant_format=QuantFormat.QOperator, **arguments), static("t.onnx", **arguments)
    assert facts(codes_file)["technique"].value.data == "integer quantization (static, QOperator)"
    for label, row in rows(pairs_file).items():
        assert rows(codes_file)[label].scale == row.scale
    for label, row in rows(pairs_file, "bias").items():
        assert rows(codes_file, "bias")[label].scale == pytest.approx(row.scale)


def test_a_relu_that_is_gone_although_the_range_is_signed_is_a_finding(lost_file, float_file):
    fact = facts(lost_file, float_file)["lost_non_linearities"]
    assert fact.value.data == ["node_relu", "node_relu6", "node_relu_1"]
    assert codes(fact) == ["non_linearity_lost"]


def test_a_relu_that_the_range_stands_for_is_not_lost(static_file, nncf_file, dynamic_file, float_file):
    for path in (static_file, nncf_file, dynamic_file):
        assert facts(path, float_file)["lost_non_linearities"].value.data == []


def test_a_clip_whose_upper_bound_the_range_exceeds_is_lost(tmp_path):
    weight, bounds = held("w", np.ones((2, 2), np.float32)), [held("lo", np.float32(0)), held("hi", np.float32(6))]
    product = helper.make_node("MatMul", ["x", "w"], ["m"])
    before = saved(
        tmp_path / "f.onnx", [product, helper.make_node("Clip", ["m", "lo", "hi"], ["y"], name="c")], [weight, *bounds]
    )
    for scale, lost in ((6 / 255, []), (8 / 255, ["c"])):
        pair = [helper.make_node("QuantizeLinear", ["m", "s", "z"], ["q"])]
        pair += [helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])]
        after = saved(tmp_path / "q.onnx", [product, *pair], [weight, held("s", np.float32(scale)), held("z", np.uint8(0))])
        assert facts(after, before)["lost_non_linearities"].value.data == lost


def test_without_the_float_model_lost_functions_are_not_recorded(static_file):
    assert facts(static_file)["lost_non_linearities"].state is State.NOT_RECORDED


def test_a_float_file_says_that_no_quantizer_was_found(float_file):
    found = facts(float_file)
    assert {fact.state for fact in found.values()} == {State.NOT_APPLICABLE}
    assert found["precision"].reason == "no quantizer among 9 nodes"


def test_a_float_weight_behind_a_pair_of_nodes_is_a_quantized_weight(tmp_path):
    values = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    nodes = [helper.make_node("QuantizeLinear", ["w", "s", "z"], ["q"], axis=1)]
    nodes += [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], axis=1),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    scales = [held("s", np.full(3, 1 / 127, np.float32)), held("z", np.zeros(3, np.int8))]
    row = rows(saved(tmp_path / "w.onnx", nodes, [held("w", values), *scales]))["w"]
    assert (row.kind, row.op, row.codes_min, row.codes_max, row.granularity) == ("weight", "MatMul", -127, 127, "channelwise")


def test_a_negative_axis_counts_from_the_end(tmp_path):
    nodes = [helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], axis=-2), helper.make_node("Gemm", ["x", "d"], ["y"])]
    stored = [held("w", np.ones((4, 3), np.int8)), held("s", np.ones(4, np.float32)), held("z", np.zeros(4, np.int8))]
    assert rows(saved(tmp_path / "axis.onnx", nodes, stored))["w"].axis == 0


def test_an_absent_zero_point_means_unsigned_codes_from_zero(tmp_path):
    nodes = [helper.make_node("QuantizeLinear", ["x", "s"], ["q"]), helper.make_node("DequantizeLinear", ["q", "s"], ["y"])]
    row = rows(saved(tmp_path / "absent.onnx", nodes, [held("s", np.float32(0.5))]), "activation")["x"]
    assert (row.dtype, row.zero_point, row.alpha) == ("uint8", (0,), (127.5,))


@pytest.mark.parametrize("first", ["Gather", "DequantizeLinear"])
def test_an_embedding_is_a_constant_beside_the_weights_of_layers(tmp_path, first):
    operands = {"Gather": ("i",), "DequantizeLinear": ("s", "z")}
    second = next(name for name in operands if name != first)
    nodes = [helper.make_node(first, ["table", *operands[first]], ["between"]), helper.make_node("MatMul", ["x", "d"], ["y"])]
    nodes.insert(1, helper.make_node(second, ["between", *operands[second]], ["d"]))
    stored = [held("table", np.full((5, 3), 7, np.int8)), held("i", np.array([0, 1, 2])), held("s", np.float32(1))]
    path = saved(tmp_path / "table.onnx", nodes, [*stored, held("z", np.int8(0))])
    assert [(row.kind, row.tensor, row.size) for row in quantizers.read(path)] == [("constant", "table", 15)]
    assert quantizer_table.table(quantizers.read(path))[0]["kind"] == "constant"
    assert ("1 constants" in facts(path)["technique"].value.text, facts(path)["granularity"].value.data) == (True, {})


def test_a_constant_of_one_element_does_not_count_as_few_bits(tmp_path):
    nodes = [helper.make_node("DequantizeLinear", ["c", "s", "z"], ["d"]), helper.make_node("Mul", ["x", "d"], ["y"])]
    stored = [held("c", np.uint8(255)), held("s", np.float32(1)), held("z", np.uint8(0))]
    assert rows(saved(tmp_path / "one.onnx", nodes, stored), "constant")["c"].effective_bits == 8


def test_packed_weights_with_zero_points_of_their_own_are_asymmetric(tmp_path):
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    weight = np.random.default_rng(0).uniform(-0.5, 1, size=(40, 6)).astype(np.float32)
    path = saved(tmp_path / "f.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")], [held("w", weight)])
    quantizer = MatMulNBitsQuantizer(onnx.load(path), bits=4, block_size=16, is_symmetric=False)
    quantizer.process()
    quantizer.model.save_model_to_file(str(tmp_path / "q.onnx"))
    (row,) = quantizers.read(tmp_path / "q.onnx")
    assert (row.dtype, row.symmetric, row.size, len(row.scale), len(row.zero_point)) == ("uint4", False, 240, 18, 18)
    assert (row.codes_min, row.codes_max) == (0, 15)
    blocks = [weight.T[:, start : start + 16] for start in (0, 16, 32)]
    highest = np.stack([block.max(axis=1) for block in blocks], axis=1).ravel()
    np.testing.assert_allclose(row.alpha, highest, atol=0.51 * max(row.scale))


def test_a_scale_of_zero_is_a_finding(tmp_path):
    nodes = [helper.make_node("QuantizeLinear", ["x", "s"], ["q"]), helper.make_node("DequantizeLinear", ["q", "s"], ["y"])]
    assert codes(facts(saved(tmp_path / "zero.onnx", nodes, [held("s", np.float32(0))]))["scale"]) == ["scale_unusable"]


def test_blocks_of_weights_have_zero_points_of_their_own(tmp_path):
    nodes = [helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], axis=0, block_size=2)]
    nodes += [helper.make_node("MatMul", ["x", "d"], ["y"])]
    stored = [held("w", np.array([[3], [3], [5], [3]], np.uint8)), held("s", np.ones((2, 1), np.float32))]
    row = rows(saved(tmp_path / "block.onnx", nodes, [*stored, held("z", np.array([[3], [5]], np.uint8))]))["w"]
    assert (row.zeros, row.granularity, row.symmetric) == (3, "groupwise", False)


def test_the_table_has_one_row_a_quantizer_with_s_and_its_inverse(static_file):
    table = quantizer_table.table(quantizers.read(static_file))
    assert len(table) == len(quantizers.read(static_file))
    for row in table:
        assert row["s_max"] == pytest.approx(1 / row["scale_min"])
    assert len({tuple(row) for row in table}) == 1


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError):
        quantizers.read(tmp_path / "missing.onnx")
