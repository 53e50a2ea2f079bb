"""What ONNX Runtime runs in integers, on files that say the same of themselves and run differently."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import State
from mlflow_aifsm.verification import integer_execution

NOISE = np.random.default_rng(0)


class Reader(CalibrationDataReader):
    def __init__(self):
        self.items = iter([{"x": NOISE.normal(size=(2, 3, 8, 8)).astype(np.float32)} for _ in range(5)])

    def get_next(self):
        return next(self.items, None)


@pytest.fixture(scope="module")
def float_file(tmp_path_factory):
    """Two convolutions with ReLU; input [n, 3, 8, 8]."""
    shapes = {"w1": (8, 3, 3, 3), "w2": (8, 8, 3, 3)}
    weights = [numpy_helper.from_array(NOISE.normal(size=shape).astype(np.float32), name) for name, shape in shapes.items()]
    nodes = [helper.make_node("Conv", ["x", "w1"], ["a"], name="c1"), helper.make_node("Relu", ["a"], ["b"], name="r1")]
    nodes += [helper.make_node("Conv", ["b", "w2"], ["c"], name="c2"), helper.make_node("Relu", ["c"], ["y"], name="r2")]
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])]
    ends += [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8, 4, 4])]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], weights), ir_version=10)
    model.opset_import[0].version = 20
    path = tmp_path_factory.mktemp("runtime") / "float.onnx"
    onnx.save(model, path)
    return path


def quantized(source, kind):
    target = source.with_name(f"{kind.name}.onnx")
    quantize_static(str(source), str(target), Reader(), activation_type=kind, weight_type=kind)
    return target


def measured(path):
    return {fact.name: fact for fact in integer_execution.facts(path)}


def test_a_float_file_runs_nothing_in_integers(float_file):
    found = measured(float_file)
    assert found["runtime.integer_ratio"].value.data == 0
    assert found["runtime.integer_operators"].value.data["integer"] == {}


def test_eight_bit_codes_run_in_integers(float_file):
    found = measured(quantized(float_file, QuantType.QUInt8))
    assert found["runtime.integer_ratio"].value.data == 1
    assert "runs 2 of 2 layers in integers: QLinearConv 2" in found["runtime.integer_operators"].value.text
    assert found["runtime.integer_ratio"].metrics == {"aifsm.integer_ops_ratio": 1.0}


def test_sixteen_bit_codes_run_in_float_whatever_the_file_says(float_file):
    found = measured(quantized(float_file, QuantType.QInt16))
    assert found["runtime.integer_ratio"].value.data == 0
    assert sum(found["runtime.integer_operators"].value.data["float"].values()) == 2


def test_dynamic_quantization_runs_in_integers(float_file):
    target = float_file.with_name("dynamic.onnx")
    quantize_dynamic(str(float_file), str(target), weight_type=QuantType.QUInt8)
    assert measured(target)["runtime.integer_operators"].value.data["integer"] == {"ConvInteger": 2}


def found_codes(path):
    return [finding.code for finding in measured(path)["runtime.integer_operators"].findings]


def test_quantized_layers_that_run_in_float_are_a_finding_that_names_them(float_file):
    assert found_codes(quantized(float_file, QuantType.QUInt8)) == []
    (finding,) = measured(quantized(float_file, QuantType.QInt16))["runtime.integer_operators"].findings
    assert finding.code == "runs_in_float"
    assert finding.measured == "2 of 2 layers with quantized data and weights run in float: c1, c2"


@pytest.mark.parametrize("kept", [[], ["c1"], ["c2"], ["c1", "c2"]])
def test_layers_that_were_kept_in_float_or_have_float_data_are_not_accused(float_file, kept):
    target = float_file.with_name("kept.onnx")
    quantize_static(str(float_file), str(target), Reader(), activation_type=QuantType.QUInt8, nodes_to_exclude=kept)
    assert found_codes(target) == []
    assert found_codes(float_file) == []


def test_weights_alone_in_integers_are_not_accused(float_file):
    model = onnx.load(float_file)
    for number, (node, held) in enumerate(
        zip([model.graph.node[0], model.graph.node[2]], model.graph.initializer, strict=True)
    ):
        codes = numpy_helper.to_array(held).clip(-3, 3) * 40
        model.graph.initializer[number].CopyFrom(numpy_helper.from_array(codes.astype(np.int8), held.name))
        node.input[1] = f"{held.name}_float"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.025), "scale"))
    for name in ("w1", "w2"):
        model.graph.node.insert(0, helper.make_node("DequantizeLinear", [name, "scale"], [f"{name}_float"], name=f"dq_{name}"))
    target = float_file.with_name("weights.onnx")
    onnx.save(model, target)
    assert sum(measured(target)["runtime.integer_operators"].value.data["float"].values()) == 2
    assert found_codes(target) == []


def test_nothing_is_left_beside_the_file_and_the_file_is_not_changed(float_file):
    before = (sorted(float_file.parent.iterdir()), float_file.read_bytes())
    integer_execution.facts(float_file)
    assert (sorted(float_file.parent.iterdir()), float_file.read_bytes()) == before


def test_a_file_the_runtime_refuses_has_a_finding_and_no_value(float_file, tmp_path):
    model = onnx.load(float_file)
    model.graph.node[1].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "refused.onnx")
    found = measured(tmp_path / "refused.onnx")
    assert {fact.state for fact in found.values()} == {State.NOT_RECORDED}
    assert [finding.code for finding in found["runtime.integer_operators"].findings] == ["runtime_refuses"]
    assert "NoSuchOperator" in found["runtime.integer_operators"].reason


def test_the_runtime_does_not_warn_about_its_optimized_graph(float_file, capfd):
    integer_execution.facts(float_file)
    assert capfd.readouterr().err == ""


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError):
        integer_execution.facts(tmp_path / "missing.onnx")
