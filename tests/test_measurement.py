"""One pass over a delivered file: all facts, all files, both tables, in well under a second."""

import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

from mlflow_aifsm.digests import set_digest, sha256_file
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import State
from mlflow_aifsm.measurement import measure
from mlflow_aifsm.template import LOGS, load

NOISE = np.random.default_rng(0)
ZEROS = {
    *("tensor", "zeros", "size", "ratio", "layer", "beside", "module", "pattern", "multiply_adds", "nonzero_multiply_adds")
}


def convolutions(path, widths, **saving):
    """A chain of 3x3 convolutions with ReLU through these channel widths; input [1, first width, 16, 16]."""
    nodes, weights = [], []
    for index, shape in enumerate(zip(widths[1:], widths[:-1], strict=True)):
        weight = NOISE.normal(scale=0.1, size=(*shape, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{index}"))
        nodes.append(helper.make_node("Conv", [f"t{index}", f"w{index}"], [f"c{index}"], f"conv{index}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"t{index + 1}"], f"relu{index}"))
    ends = [(name, [1, width, 16, 16]) for name, width in (("t0", widths[0]), (f"t{len(widths) - 1}", widths[-1]))]
    inputs, outputs = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in ends)
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), path, **saving)
    return path


def quantized(source, **options):
    class Reader(CalibrationDataReader):
        items = iter([{"t0": NOISE.normal(size=(1, 3, 16, 16)).astype(np.float32)} for _ in range(3)])

        def get_next(self):
            return next(self.items, None)

    target = source.with_name("int8.onnx")
    quantize_static(str(source), str(target), Reader(), activation_type=QuantType.QUInt8, extra_options=options)
    return target


@pytest.fixture(scope="module")
def float_file(tmp_path_factory):
    return convolutions(tmp_path_factory.mktemp("m") / "float.onnx", [3, 8, 8])


def test_every_fact_the_file_can_answer_is_measured(float_file):
    measurement = measure(quantized(float_file), float_file)
    found = {fact.name: fact for fact in measurement.facts}
    asked = {row.fact for log in LOGS for row in load(log).fields if row.basis is State.MEASURED}
    assert asked <= set(found)
    assert len(found) == len(measurement.facts)
    assert State.NOT_RECORDED not in {found[name].state for name in asked}


def test_measuring_twice_gives_the_same(float_file):
    assert measure(float_file) == measure(float_file)


def test_the_digest_of_one_file_is_what_sha256sum_prints(float_file):
    measurement = measure(float_file)
    assert measurement.sha256 == sha256_file(float_file) == measurement.files[0].sha256


def test_external_weights_are_part_of_the_measurement(tmp_path):
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    measurement = measure(convolutions(tmp_path / "apart.onnx", [3, 8], **options))
    assert [file.path for file in measurement.files] == ["apart.onnx", "weights.bin"]
    assert measurement.sha256 == set_digest(measurement.files)


def test_sources_name_the_file_and_its_digest(float_file):
    measurement = measure(float_file)
    sources = {str(fact.source) for fact in measurement.facts if fact.name.startswith("graph.")}
    assert f"float.onnx (sha256 {sha256_file(float_file)[:12]}…)" in sources


def test_the_tables_have_a_row_for_each_quantizer_and_each_weight(float_file):
    tables = measure(quantized(float_file)).tables
    assert [row["tensor"] for row in tables["sparsity"]] == ["w0", "w1"]
    assert {row["kind"] for row in tables["quantizers"]} == {"weight", "activation"}


def test_the_table_of_zeros_has_the_work_of_each_layer_whatever_operators_a_runtime_made_of_it(float_file, tmp_path):
    path = tmp_path / "int8.onnx"
    quantize_dynamic(str(float_file), str(path))
    alone, beside = ({row["tensor"]: row for row in measure(path, before).tables["sparsity"]} for before in (None, float_file))
    assert {name: row["multiply_adds"] for name, row in beside.items()} == {"w0": 8 * 3 * 9 * 256, "w1": 8 * 8 * 9 * 256}
    assert all(row["nonzero_multiply_adds"] <= row["multiply_adds"] for row in beside.values())
    assert (set(alone["w0"]), set(beside["w0"]) - set(alone["w0"])) == (ZEROS, {"zeros_before", "zeros_kept"})


def test_files_are_compressed_where_a_pruning_is_on_record_and_nowhere_else(float_file):
    found = [{fact.name for fact in measure(float_file, pruning_logged=logged).facts} for logged in (True, False)]
    assert found[0] - found[1] == {"workload.compressed"}


def test_a_lost_relu_is_found_when_the_float_file_is_named(float_file):
    path = quantized(float_file, CalibTensorRangeSymmetric=True)
    findings = [finding.code for fact in measure(path, float_file).facts for finding in fact.findings]
    assert findings == ["non_linearity_lost"]


def test_codes_of_the_weights_are_recomputed_when_the_float_file_is_named(float_file, tmp_path):
    path = quantized(float_file)
    found = {fact.name: fact for fact in measure(path, float_file).facts}["quantizers.weight_codes"]
    assert found.value.text.startswith("2 of 2 weights: all 792 codes are those of the float weights in float.onnx")
    model = onnx.load(path)
    stored = next(item for item in model.graph.initializer if item.name == "w1_quantized")
    stored.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(stored), stored.name))
    onnx.save(model, tmp_path / "turned.onnx")
    findings = [finding.code for fact in measure(tmp_path / "turned.onnx", float_file).facts for finding in fact.findings]
    assert findings == ["weight_codes_differ"]


def test_the_table_names_the_tensor_of_the_float_file_that_a_range_stands_for(float_file):
    rows = {row["tensor"]: row for row in measure(quantized(float_file), float_file).tables["quantizers"]}
    assert {row["float_tensor"] for row in rows.values() if row["kind"] == "activation"} <= {"t0", "t1", "t2", "c0", "c1"}


def test_forty_megabytes_are_measured_in_less_than_a_second(tmp_path):
    """As large as ResNet-18; the best of three, because other work may run beside it."""
    path = convolutions(tmp_path / "large.onnx", [3, 256, *[512] * 4, 256])
    assert 35e6 < path.stat().st_size < 60e6
    best = min(timed(path) for _ in range(3))
    assert best < 1.0


def timed(path):
    start = time.perf_counter()
    measure(path)
    return time.perf_counter() - start


def test_a_folder_is_no_onnx_file(tmp_path):
    with pytest.raises(InputError):
        measure(tmp_path)
