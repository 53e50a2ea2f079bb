"""What quantizers were asked for and what their files hold: traps of ONNX Runtime 1.31 and NNCF 3.4, each on a real file."""

import nncf
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from torch import nn

from mlflow_aifsm.capture import graph_facts, quantizer_facts, quantizers
from mlflow_aifsm.capture.onnx_graph import opened
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import State
from mlflow_aifsm.verification import integer_execution
from tests.capture.conftest import batches, export

MODES = nncf.CompressWeightsMode


def facts(path, against=None):
    return {fact.name.removeprefix("quantizers."): fact for fact in quantizer_facts.facts(path, against)}


def weights(path):
    return {row.label: row for row in quantizers.read(path) if row.kind == "weight"}


def activations(path):
    return {row.label: row for row in quantizers.read(path) if row.kind == "activation"}


def compressed(source, target, opset, mode):
    model = version_converter.convert_version(onnx.load(source), opset)
    onnx.save(nncf.compress_weights(model, mode=mode, group_size=16, all_layers=True), target)
    return target


def default(source, target, **options):
    data = nncf.Dataset(batches(), lambda batch: {"x": batch})
    onnx.save(nncf.quantize(onnx.load(source), data, subset_size=10, **options), target)
    return target


@pytest.fixture(scope="module")
def whole_file(folder, float_file):
    """NNCF's defaults with all layers."""
    return default(float_file, folder / "whole.onnx")


@pytest.fixture(scope="module")
def symmetric_file(static):
    options = {"ActivationSymmetric": True}
    return static("symmetric.onnx", activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, extra_options=options)


def test_unsigned_activations_with_the_middle_for_zero_are_symmetric_and_keep_their_functions(symmetric_file, float_file):
    found = facts(symmetric_file, float_file)
    assert {row.zero_point for row in activations(symmetric_file).values()} == {(128,)}
    assert found["scheme"].value.data == {"weights": "symmetric", "activations": "symmetric"}
    assert found["lost_non_linearities"].value.data == []


def test_a_symmetric_calibration_range_loses_the_functions_that_symmetric_activations_keep(lost_file, float_file):
    fact = facts(lost_file, float_file)["lost_non_linearities"]
    assert [finding.code for finding in fact.findings] == ["non_linearity_lost"]
    assert fact.value.short == "3 lost"


def test_a_symmetric_range_behind_a_relu_has_zero_for_its_zero_point_and_is_not_asymmetric(whole_file):
    rows = activations(whole_file)
    assert {(rows[name].dtype, rows[name].zero_point, rows[name].one_sided) for name in ("relu", "relu_1", "mean")} == {
        ("uint8", (0,), True)
    }
    assert facts(whole_file)["scheme"].value.data == {"weights": "symmetric", "activations": "symmetric"}


def test_an_asymmetric_preset_is_told_by_the_one_range_that_has_both_signs(folder, float_file):
    path = default(float_file, folder / "mixed.onnx", preset=nncf.QuantizationPreset.MIXED)
    assert facts(path)["scheme"].value.data == {"weights": "symmetric", "activations": "asymmetric"}


def test_where_every_range_begins_at_zero_either_scheme_is_possible(folder, float_file):
    data = nncf.Dataset([np.abs(batch) for batch in batches()], lambda batch: {"x": batch})
    path = folder / "positive.onnx"
    onnx.save(nncf.quantize(onnx.load(float_file), data, subset_size=10, preset=nncf.QuantizationPreset.MIXED), path)
    fact = facts(path)["scheme"]
    assert fact.value.data == {"weights": "symmetric", "activations": "symmetric", "either": ["activations"]}
    assert fact.value.text.endswith("the activations would have these zero points under either scheme")


def test_a_zero_point_in_the_middle_by_chance_does_not_mix_schemes(static):
    path = static("uint8.onnx", activation_type=QuantType.QUInt8, weight_type=QuantType.QUInt8)
    assert [row.symmetric for row in weights(path).values()].count(True) > 0
    assert facts(path)["scheme"].value.data == {"weights": "asymmetric", "activations": "asymmetric"}


def test_operator_sets_that_preprocessing_declares_are_no_training_operators(prepared, static_file):
    for path in (prepared, static_file):
        declared = {opset.domain for opset in onnx.load(path).opset_import}
        assert {"ai.onnx.training", "ai.onnx.preview.training"} <= declared
        found = {fact.name: fact for fact in graph_facts.facts(opened(path))}
        assert [finding.code for fact in found.values() for finding in fact.findings] == []
        assert found["graph.other"].value.short == "eliminated"


def test_the_axis_of_a_gemm_counts_from_the_end_in_files_of_nncf(whole_file):
    node = next(
        node
        for node in onnx.load(whole_file).graph.node
        if node.op_type == "DequantizeLinear" and "fc.weight" in node.output[0]
    )
    assert next(item.i for item in node.attribute if item.name == "axis") == -2
    fc = weights(whole_file)["fc.weight"]
    assert (fc.axis, len(fc.scale), fc.granularity, fc.op) == (0, 10, "channelwise", "Gemm")


@pytest.mark.parametrize("mode", [MODES.INT4_SYM, MODES.INT4_ASYM])
def test_four_bits_in_groups_are_the_same_whichever_operator_holds_them(folder, linear_file, mode):
    found = {}
    for opset, operator in ((20, "MatMulNBits"), (21, "DequantizeLinear")):
        path = compressed(linear_file, folder / f"{mode.value}-{opset}.onnx", opset, mode)
        assert operator in {node.op_type for node in onnx.load(path).graph.node}
        found[opset] = facts(path, linear_file)
        assert found[opset]["granularity"].value.data == {"weights": "groupwise"}
        assert found[opset]["precision"].value.data["weights"] == ["int4" if mode is MODES.INT4_SYM else "uint4"]
        assert found[opset]["weight_codes"].value.data["different"] == 0
        assert {(row.axis, row.block_size) for row in weights(path).values()} == {(1, 16)}
    scheme = "symmetric" if mode is MODES.INT4_SYM else "asymmetric"
    assert {item["scheme"].value.data["weights"] for item in found.values()} == {scheme}


def test_four_bits_asked_of_convolutions_are_eight_in_the_file_and_named(folder, float_file):
    path = compressed(float_file, folder / "asked-int4.onnx", 20, MODES.INT4_SYM)
    found = facts(path, float_file)
    assert {label: row.dtype for label, row in weights(path).items()} == {
        "c1.weight": "uint8", "dw.weight": "uint8", "c2.weight": "uint8", "fc.weight": "int4"
    }  # fmt: skip
    assert found["precision"].value.data["weights"] == ["int4", "uint8"]
    assert found["precision"].value.data["exceptions"] == {"fc.weight": "int4"}
    assert found["precision"].value.text == "Weights uint8 (8-bit) in 3 and int4 (4-bit) in 1 (fc.weight)"
    assert found["scheme"].value.data == {"weights": "mixed", "exceptions": {"fc.weight": "symmetric"}}
    assert found["granularity"].value.data == {"weights": "mixed", "exceptions": {"fc.weight": "groupwise"}}


def test_the_first_convolution_of_nncf_has_seven_effective_bits(whole_file):
    found, c1 = facts(whole_file)["precision"], weights(whole_file)["c1.weight"]
    assert (c1.bits, c1.effective_bits, c1.codes_min, c1.codes_max, c1.levels) == (8, 7, -64, 64, 129)
    assert found.value.data["effective_bits"] == {"c1.weight": 7}
    assert "s = 64/max|w| in 1 of 10 quantizers (129 levels)" in facts(whole_file)["scale"].value.text


def test_biases_are_told_apart_and_are_no_weights(static_file):
    found = facts(static_file)
    assert found["precision"].value.data == {"weights": ["int8"], "activations": ["uint8"], "bias": ["int32"]}
    assert "bias symmetric (zero point is 0 in 3 of 3)" in found["scheme"].value.text
    assert found["granularity"].value.text.endswith("bias channelwise")
    assert found["scheme"].value.data.keys() == found["granularity"].value.data.keys() == {"weights", "activations"}


def test_sixteen_bits_run_no_layer_in_integers(static):
    path = static("int16.onnx", activation_type=QuantType.QInt16, weight_type=QuantType.QInt16)
    assert facts(path)["precision"].value.short == "int16 weights, int16 activations"
    assert facts(path)["float_layers"].value.data == []
    ran = {fact.name: fact for fact in integer_execution.facts(path)}
    assert ran["runtime.integer_ratio"].value.data == 0


def test_activations_quantized_by_channel_are_named(folder):
    module = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)).eval()
    source = export(module, torch.randn(1, 4, 8, 8), folder / "depthwise.onnx", external_data=False)
    data = nncf.Dataset([np.random.default_rng(0).normal(size=(1, 4, 8, 8)).astype(np.float32)], lambda batch: {"x": batch})
    onnx.save(nncf.quantize(onnx.load(source), data, subset_size=1), folder / "by-channel.onnx")
    fact = facts(folder / "by-channel.onnx")["granularity"]
    assert fact.value.data == {"weights": "channelwise", "activations": "mixed", "exceptions": {"x": "channelwise"}}


def test_one_scale_for_the_one_channel_of_a_layer_is_still_channelwise(folder):
    module = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 1)).eval()
    source = export(module, torch.randn(4, 12), folder / "binary.onnx", external_data=False)
    samples = [np.random.default_rng(0).normal(size=(4, 12)).astype(np.float32) for _ in range(3)]

    class Reader(CalibrationDataReader):
        items = iter([{"x": batch} for batch in samples])

        def get_next(self):
            return next(self.items, None)

    quantize_static(str(source), str(folder / "binary-ort.onnx"), Reader(), per_channel=True)
    model = nncf.quantize(onnx.load(source), nncf.Dataset(samples, lambda batch: {"x": batch}), subset_size=3)
    onnx.save(model, folder / "binary-nncf.onnx")
    for name in ("binary-ort.onnx", "binary-nncf.onnx"):
        assert facts(folder / name)["granularity"].value.data["weights"] == "channelwise"


def test_scales_that_fit_no_axis_are_refused_by_name(tmp_path):
    nodes = [helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], name="odd", axis=0)]
    nodes += [helper.make_node("MatMul", ["x", "d"], ["y"])]
    stored = {"w": np.ones((4, 3), np.int8), "s": np.ones(5, np.float32), "z": np.zeros(5, np.int8)}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    held = [numpy_helper.from_array(values, name) for name, values in stored.items()]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], held)), tmp_path / "odd.onnx")
    with pytest.raises(InputError, match="odd"):
        quantizers.read(tmp_path / "odd.onnx")


def test_without_weights_in_the_file_codes_do_not_apply(float_file):
    assert facts(float_file)["weight_codes"].state is State.NOT_APPLICABLE
