"""Zeros of weights: counted in float and in codes, told apart from the zeros that rounding makes."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from mlflow_aifsm.capture import sparsity
from mlflow_aifsm.capture.onnx_graph import opened
from mlflow_aifsm.capture.patterns import Pattern
from mlflow_aifsm.capture.tiles import select


def rewritten(source, path, **changes):
    """A copy of the file whose weights go through these functions."""
    model = onnx.load(source)
    for item in model.graph.initializer:
        if item.name in changes:
            values = changes[item.name](numpy_helper.to_array(item).copy())
            item.CopyFrom(numpy_helper.from_array(values, item.name))
    onnx.save(model, path)
    return path


def blocks(weight):
    mask = select({"w": np.abs(weight)}, Pattern.of("block:4x4"), 0.4, "local").masks["w"]
    return weight * mask


@pytest.fixture(scope="module")
def pruned_file(prepared, folder):
    """The float file, prepared for quantization, with 40 % of the weights of ``c2`` zero, in blocks of 4x4."""
    return rewritten(prepared, folder / "pruned.onnx", **{"c2.weight": blocks})


@pytest.fixture(scope="module")
def pruned_int8(pruned_file, folder):
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(str(pruned_file), str(folder / "pruned_int8.onnx"))
    return folder / "pruned_int8.onnx"


def rows_of(path, against=None):
    return {row.tensor: row for row in sparsity.read_zeros(path, against=against)}


def test_zeros_are_counted_among_the_weights_and_nothing_else(float_file):
    sizes = {name: row.size for name, row in rows_of(float_file).items()}
    assert sizes == {"c1.weight": 144, "dw.weight": 144, "c2.weight": 4608, "fc.weight": 320}
    ratio = sparsity.ratio(opened(float_file), sparsity.read_zeros(float_file))
    assert (ratio.value.text, ratio.value.data) == ("0 of 5,216 weights are zero", 0.0)


def test_zeros_of_a_float_weight_have_their_pattern(pruned_file):
    rows = rows_of(pruned_file)
    assert (rows["c2.weight"].zeros, rows["c2.weight"].pattern, rows["c2.weight"].rounded) == (1840, "block:4x4", 0)
    assert (rows["c1.weight"].pattern, rows["c1.weight"].mask) == ("", None)


def test_pruned_zeros_survive_quantization_and_keep_their_pattern(pruned_file, pruned_int8):
    row = rows_of(pruned_int8, pruned_file)["c2.weight"]
    assert (row.before, row.kept, row.lost, row.pattern) == (1840, 1840, 0, "block:4x4")
    assert row.rounded == row.zeros - 1840 > 0
    assert row.notable


def test_without_the_float_file_the_zeros_of_rounding_are_left_out_as_far_as_tiles_tell_them(pruned_int8):
    row = rows_of(pruned_int8)["c2.weight"]
    assert (row.before, row.pattern, row.notable) == (None, "block:4x4", True)
    assert 0 < row.rounded <= sparsity.ROUNDING * row.beside


def test_a_zero_that_a_code_lost_is_counted(pruned_file, pruned_int8, tmp_path):
    def one_more(codes):  # the commonest code stands for zero
        values, counts = np.unique(codes, return_counts=True)
        place = np.argwhere(codes == values[counts.argmax()])[:3]
        codes[tuple(place.T)] += 1
        return codes

    changed = rewritten(pruned_int8, tmp_path / "lost.onnx", **{"c2.weight_quantized": one_more})
    row = rows_of(changed, pruned_file)["c2.weight"]
    assert 1 <= row.lost <= 3


def test_zeros_that_rounding_makes_are_not_notable(int4_file):
    rows = sparsity.read_zeros(int4_file)
    assert max(row.ratio for row in rows) > sparsity.NOTABLE
    assert not any(row.notable for row in rows)
    assert {row.pattern for row in rows} == {""}


@pytest.mark.parametrize(("beside", "kept", "notable"), [(4, 0, False), (4, 12, True), (0, 0, True)])
def test_zeros_of_codes_are_rounding_where_the_float_weight_has_none(beside, kept, notable):
    assert sparsity.Zeros("w", "conv", 100, 12, beside, before=kept, kept=kept).notable is notable


def test_a_weight_without_elements_has_no_share_of_zeros():
    row = sparsity.Zeros("w", "conv", 0, 0)
    assert (row.ratio, row.notable, row.pattern) == (0.0, False, "")


def test_the_table_has_share_and_pattern_of_each_weight(pruned_file):
    rows = {row["tensor"]: row for row in sparsity.table(sparsity.read_zeros(pruned_file))}
    assert rows["c2.weight"]["ratio"] == pytest.approx(0.4, abs=1e-3)
    assert (rows["c2.weight"]["module"], rows["c2.weight"]["pattern"]) == ("c2", "block:4x4")
    assert rows["fc.weight"]["ratio"] == 0
    assert "zeros_before" not in rows["fc.weight"]


def test_the_table_has_the_zeros_of_the_float_file_where_it_is_named(pruned_file, pruned_int8):
    rows = {row["tensor"]: row for row in sparsity.table(sparsity.read_zeros(pruned_int8, against=pruned_file))}
    assert (rows["c2.weight"]["zeros_before"], rows["c2.weight"]["zeros_kept"]) == (1840, 1840)
    assert (rows["fc.weight"]["zeros_before"], rows["fc.weight"]["zeros_kept"]) == (0, 0)


def test_weights_of_another_size_are_no_parents(pruned_file, linear_file):
    assert {row.before for row in sparsity.read_zeros(pruned_file, against=linear_file)} == {None}
