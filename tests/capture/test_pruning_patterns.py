"""The fact about pruning patterns: what it prints, what is wrong with zeros, and what is no pruning."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from mlflow_aifsm.capture import sparsity
from mlflow_aifsm.capture.onnx_graph import opened
from mlflow_aifsm.capture.patterns import Pattern
from mlflow_aifsm.capture.pruning_patterns import breaking, pruning_patterns
from mlflow_aifsm.capture.tiles import select
from mlflow_aifsm.facts import State

LAYERS = ("c1", "dw", "c2", "fc")


def pruned(source, path, words, amount=0.5):
    """A copy of the file whose layers are pruned by these patterns, given by module."""
    model = onnx.load(source)
    for item in model.graph.initializer:
        if (word := words.get(item.name.removesuffix(".weight"))) is not None:
            values = numpy_helper.to_array(item)
            mask = select({"w": np.abs(values)}, Pattern.of(word), amount, "local").masks["w"]
            item.CopyFrom(numpy_helper.from_array(values * mask, item.name))
    onnx.save(model, path)
    return path


def fact(path, against=None, *, logged=True):
    return pruning_patterns(opened(path), sparsity.read_zeros(path, against=against), pruning_logged=logged)


def codes(found):
    return [finding.code for finding in found.findings]


def test_a_file_without_zeros_was_not_pruned(float_file):
    found = fact(float_file, logged=False)
    assert (found.state, found.reason) == (State.NOT_APPLICABLE, "no pruning: 0 of 5,216 weights are zero")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("element", "Element-wise: each weight alone, zeros of 3 of 3 pruned layers fill no larger tiles in common"),
        (
            "vector:4",
            "Vector-wise: 4 neighbours along the inputs of an output channel, zeros of 3 of 3 pruned layers fill whole",
        ),
        ("block:4x4", "Block-wise: 4 output channels by 4 neighbouring inputs, zeros of 3 of 3 pruned layers fill whole tiles"),
        ("group", "Group-wise: the same kernel position in all filters of a layer, zeros of 3 of 3 pruned layers fill whole"),
        ("channel", "Channel-wise: all weights of an output channel, zeros of 3 of 3 pruned layers fill whole tiles"),
        ("2:4", "2:4: of every 4 neighbouring inputs 2 are kept, in 3 of 3 pruned layers"),
    ],
)
def test_the_pattern_is_printed_by_its_definition(word, said, float_file, tmp_path):
    found = fact(pruned(float_file, tmp_path / "m.onnx", dict.fromkeys(("c1", "c2", "fc"), word)))
    assert found.state is State.MEASURED
    assert found.value.text.startswith(said)
    assert "of 5,216 weights are zero" in found.value.text
    assert (found.value.data["pattern"], found.value.short, set(found.value.data["layers"])) == (word, word, {"c1", "c2", "fc"})
    assert codes(found) == []


def test_layers_with_a_coarser_pattern_than_all_have_in_common_are_named(float_file, tmp_path):
    found = fact(pruned(float_file, tmp_path / "m.onnx", {"c2": "vector:4", "fc": "channel"}))
    assert found.value.text.startswith(
        "Vector-wise: 4 neighbours along the inputs of an output channel, zeros of 2 of 2 pruned"
    )
    assert "fc even channel-wise: all weights of an output channel" in found.value.text
    assert found.value.data["layers"] == {"c2": "vector:4", "fc": "channel"}


def test_a_few_zeros_elsewhere_do_not_hide_the_pattern_and_are_named(float_file, tmp_path):
    path = pruned(float_file, tmp_path / "m.onnx", {"c2": "block:4x4"})
    few = fact(pruned(path, tmp_path / "few.onnx", {"fc": "element"}, amount=0.02))
    assert few.value.text.startswith("Block-wise: 4 output channels by 4 neighbouring inputs, zeros of 1 of 2 pruned layers")
    assert "zeros that fill no such tiles: 6 in fc" in few.value.text
    assert few.value.data == {"pattern": "block:4x4", "layers": {"c2": "block:4x4", "fc": "element"}}


def test_few_zeros_are_the_work_of_a_pruning_that_is_on_record(float_file, tmp_path):
    path = pruned(float_file, tmp_path / "m.onnx", {"c2": "block:4x4"}, amount=0.02)
    assert fact(path).value.data["pattern"] == "block:4x4"
    assert fact(path, logged=False).state is State.NOT_APPLICABLE


def test_zeros_that_nobody_logged_are_a_finding_with_their_pattern(float_file, tmp_path):
    path = pruned(float_file, tmp_path / "m.onnx", {"c2": "channel"})
    found = fact(path, logged=False)
    assert (found.state, found.value.short, codes(found)) == (State.MEASURED, "channel", ["zeros_without_pruning"])
    assert "50.0% in c2.weight" in found.findings[0].measured


def test_weights_that_break_an_asked_pattern_are_told(float_file, tmp_path):
    zeros = sparsity.read_zeros(pruned(float_file, tmp_path / "m.onnx", {"c2": "block:4x4", "fc": "vector:2"}))
    assert breaking(zeros, Pattern.of("vector:2")) == ()
    assert [row.module for row in breaking(zeros, Pattern.of("vector:4"))] == ["fc"]
    assert [row.module for row in breaking(zeros, Pattern.of("channel"))] == ["c2", "fc"]


@pytest.fixture(scope="module")
def chain(prepared, folder):
    """A file pruned in blocks, and the same with 8-bit weights."""
    from onnxruntime.quantization import quantize_dynamic

    path = pruned(prepared, folder / "blocks.onnx", dict.fromkeys(("c1", "c2", "fc"), "block:4x1"))
    quantize_dynamic(str(path), str(folder / "blocks_int8.onnx"))
    return path, folder / "blocks_int8.onnx"


def test_codes_tell_how_many_zeros_of_the_float_weights_they_keep(chain):
    before, after = chain
    found = fact(after, before)
    text = "2,534 of 2,534 zeros of the float weights are zero in the file"
    assert found.value.text.startswith("Block-wise: 4 output channels by 1 input, zeros of 3 of 3 pruned layers")
    assert text in found.value.text
    assert "more by rounding" in found.value.text
    assert codes(found) == []


@pytest.mark.parametrize(("logged", "expected"), [(True, ["zeros_lost"]), (False, ["zeros_lost", "zeros_without_pruning"])])
def test_zeros_that_a_quantization_lost_are_a_finding(logged, expected, chain, tmp_path):
    before, after = chain
    model = onnx.load(after)
    for item in (item for item in model.graph.initializer if item.name == "c2.weight_quantized"):
        values = numpy_helper.to_array(item).copy()
        values += 1  # every code is another
        item.CopyFrom(numpy_helper.from_array(values, item.name))
    onnx.save(model, tmp_path / "lost.onnx")
    found = fact(tmp_path / "lost.onnx", before, logged=logged)
    assert codes(found) == expected
    assert "2,304 of 2,304 in c2.weight" in found.findings[0].measured


def test_zeros_that_rounding_to_four_bits_makes_are_no_finding(int4_file):
    found = fact(int4_file, logged=False)
    assert (found.state, found.findings) == (State.NOT_APPLICABLE, ())
    assert "no more than rounding makes" in found.reason


def masked(source, path, values):
    model = onnx.load(source)
    conv = next(node for node in model.graph.node if "c2.weight" in node.input)
    model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), "mask"))
    model.graph.node.insert(0, helper.make_node("Mul", ["c2.weight", "mask"], ["masked"]))
    conv.input[1] = "masked"
    onnx.save(model, path)
    return path, conv.name


def test_masks_that_a_file_still_applies_are_a_finding(float_file, tmp_path):
    path, layer = masked(float_file, tmp_path / "masked.onnx", np.random.default_rng(0).random((32, 16, 3, 3)) < 0.5)
    found = fact(path)
    assert (found.state, codes(found)) == (State.NOT_RECORDED, ["masks_left"])
    assert layer in found.reason
    assert layer in found.findings[0].measured


def test_a_factor_is_no_mask_and_the_weights_behind_it_are_not_called_unpruned(float_file, tmp_path):
    path, layer = masked(float_file, tmp_path / "scaled.onnx", np.full((32, 16, 3, 3), 0.5))
    found = fact(path)
    assert (found.state, codes(found)) == (State.NOT_RECORDED, [])
    assert layer in found.reason


def test_masks_of_one_layer_stand_beside_the_zeros_of_others(float_file, tmp_path):
    path, layer = masked(float_file, tmp_path / "masked.onnx", np.zeros((32, 16, 3, 3)))
    found = fact(pruned(path, tmp_path / "both.onnx", {"fc": "channel"}))
    assert (found.value.short, codes(found)) == ("channel", ["masks_left"])
    assert f"the weights of {layer} are computed when the file runs" in found.value.text
