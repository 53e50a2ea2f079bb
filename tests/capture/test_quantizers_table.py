"""The table of quantizers beside what calibration found, joined on files whose tools renamed tensors and removed functions."""

import pytest
from onnxruntime.quantization import QuantFormat, QuantType

from mlflow_aifsm.capture import non_linearities, quantizer_table, quantizers
from mlflow_aifsm.capture.onnx_graph import opened

FLOAT_TENSORS = {"x", "getitem", "relu", "relu6", "add_30", "conv2d_2", "relu_1", "mean", "y"}


def calibrated(name):
    return {"calibrated_min": 0.0, "calibrated_max": float(len(name)), "clip_fraction": 0.25, "sqnr_db": 30.0}


FOUND = {name: calibrated(name) for name in FLOAT_TENSORS}


def joined(path, against=None):
    names = {} if against is None else non_linearities.standing_for(opened(path), opened(against))
    rows = quantizer_table.table(quantizers.read(path), standing_for=names)
    return {row["tensor"]: row for row in quantizer_table.with_calibrated(rows, FOUND)}


@pytest.fixture(scope="module")
def operators_file(static):
    arguments = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    return static("operators.onnx", quant_format=QuantFormat.QOperator, **arguments)


def test_every_activation_of_onnx_runtime_and_nncf_meets_its_calibrated_range(static_file, nncf_file):
    for path in (static_file, nncf_file):
        rows = [row for row in joined(path).values() if row["kind"] == "activation"]
        assert [row["tensor"] for row in rows if row["calibrated_max"] is None] == []
        assert all(row["calibrated_max"] == len(row["float_tensor"]) for row in rows)


def test_the_name_that_onnx_runtime_gives_the_output_before_its_quantizer_is_seen_through(static_file):
    assert joined(static_file)["y_QuantizeLinear_Input"]["float_tensor"] == "y"


def test_a_tensor_before_a_removed_relu_has_the_range_of_the_one_behind(operators_file, float_file):
    rows = joined(operators_file, float_file)
    assert rows["getitem_quantized"]["float_tensor"] == "relu"
    assert rows["getitem_quantized"]["calibrated_max"] == len("relu")
    assert rows["conv2d_2_quantized"]["float_tensor"] == "relu_1"


def test_a_relu_that_is_kept_leaves_the_tensor_before_it_as_it_is(static, float_file):
    options = {"ActivationSymmetric": True}
    path = static("kept.onnx", activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, extra_options=options)
    assert joined(path, float_file)["getitem"]["float_tensor"] == "getitem"


def test_calibrated_columns_stand_behind_the_represented_range_and_weights_have_none(static_file):
    rows = joined(static_file).values()
    columns = list(next(iter(rows)))
    place = columns.index("alpha_max")
    assert columns[place + 1 : place + 5] == ["calibrated_min", "calibrated_max", "clip_fraction", "sqnr_db"]
    assert len({tuple(row) for row in rows}) == 1
    assert {row["calibrated_max"] for row in rows if row["kind"] != "activation"} == {None}


def test_joining_twice_gives_the_later_ranges_and_changes_no_row(static_file):
    rows = quantizer_table.table(quantizers.read(static_file))
    before = [dict(row) for row in rows]
    twice = quantizer_table.with_calibrated(quantizer_table.with_calibrated(rows, FOUND), {"x": calibrated("longer")})
    assert rows == before
    assert twice == quantizer_table.table(quantizers.read(static_file), {"x": calibrated("longer")})


def test_a_range_is_found_under_the_name_the_file_has_for_the_tensor_too(operators_file, float_file):
    names = non_linearities.standing_for(opened(operators_file), opened(float_file))
    rows = quantizer_table.table(quantizers.read(operators_file), {"getitem": calibrated("getitem")}, names)
    assert next(row for row in rows if row["tensor"] == "getitem_quantized")["calibrated_max"] == len("getitem")
