"""Zeros of weights: counted in float and in codes, told apart from the zeros that rounding makes."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from mlflow_aifsm.capture import sparsity
from mlflow_aifsm.facts import State


@pytest.fixture(scope="module")
def pruned_file(prepared, folder):
    """The float file, prepared for quantization, with 40 % of the smallest weights of ``c2`` set to zero."""
    model = onnx.load(prepared)
    weight = next(item for item in model.graph.initializer if item.name == "c2.weight")
    values = numpy_helper.to_array(weight).copy()
    values[np.abs(values) < np.quantile(np.abs(values), 0.4)] = 0
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, folder / "pruned.onnx")
    return folder / "pruned.onnx"


def pattern(path, **options):
    return next(fact for fact in sparsity.facts(path, **options) if fact.name == "pruning.patterns")


def test_zeros_are_counted_among_the_weights_and_nothing_else(float_file):
    rows = {row.tensor: row for row in sparsity.read_zeros(float_file)}
    assert {name: row.size for name, row in rows.items()} == {
        "c1.weight": 144,
        "dw.weight": 144,
        "c2.weight": 4608,
        "fc.weight": 320,
    }
    ratio = sparsity.facts(float_file)[0]
    assert (ratio.value.text, ratio.value.data) == ("0 of 5,216 weights are zero", 0.0)


def test_a_file_without_zeros_was_not_pruned(float_file):
    fact = pattern(float_file)
    assert (fact.state, fact.reason) == (State.NOT_APPLICABLE, "no pruning: 0 of 5,216 weights are zero")


def test_zeros_that_nobody_logged_are_a_finding(pruned_file):
    fact = pattern(pruned_file)
    assert (fact.state, [finding.code for finding in fact.findings]) == (State.NOT_RECORDED, ["zeros_without_pruning"])
    assert "40.0% in c2.weight" in fact.reason
    assert pattern(pruned_file, pruning_logged=True).findings == ()


def test_pruned_zeros_survive_quantization(pruned_file, folder):
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(str(pruned_file), str(folder / "pruned_int8.onnx"))
    rows = {row.tensor: row for row in sparsity.read_zeros(folder / "pruned_int8.onnx")}
    assert rows["c2.weight"].ratio == pytest.approx(0.4, abs=0.01)
    assert rows["c2.weight"].notable


def test_zeros_that_rounding_to_four_bits_makes_are_no_finding(int4_file):
    assert sparsity.facts(int4_file)[0].value.data > sparsity.NOTABLE
    fact = pattern(int4_file)
    assert (fact.state, fact.findings) == (State.NOT_APPLICABLE, ())
    assert "no more than rounding makes" in fact.reason


def test_weights_behind_a_mask_are_not_called_unpruned(float_file, tmp_path):
    model = onnx.load(float_file)
    conv = next(node for node in model.graph.node if "c2.weight" in node.input)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((32, 16, 3, 3), np.float32), "mask"))
    model.graph.node.insert(0, onnx.helper.make_node("Mul", ["c2.weight", "mask"], ["masked"]))
    conv.input[1] = "masked"
    onnx.save(model, tmp_path / "masked.onnx")
    fact = pattern(tmp_path / "masked.onnx")
    assert fact.state is State.NOT_RECORDED
    assert conv.name in fact.reason


def test_the_table_has_the_share_of_zeros_of_each_weight(pruned_file):
    table = sparsity.table(sparsity.read_zeros(pruned_file))
    shares = {row["tensor"]: row["ratio"] for row in table}
    assert shares["c2.weight"] == pytest.approx(0.4, abs=1e-3)
    assert shares["fc.weight"] == 0


@pytest.mark.parametrize(
    ("beside", "parent", "found"), [(4, 0, []), (4, 12, ["zeros_without_pruning"]), (0, 0, ["zeros_without_pruning"])]
)
def test_zeros_of_codes_are_rounding_where_the_float_weight_has_none(float_file, beside, parent, found):
    zeros, before = sparsity.Zeros("w", "conv", 100, 12, beside), sparsity.Zeros("w", "conv", 100, parent)
    pattern = sparsity.facts(float_file, zeros=(zeros,), before=(before,))[1]
    assert [finding.code for finding in pattern.findings] == found
