"""Reading an ONNX file, its canonical digest, and the facts on its graph."""

import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlflow_aifsm.capture import graph_facts, onnx_graph
from mlflow_aifsm.capture.canonical import canonical_digest
from mlflow_aifsm.digests import sha256_file
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import State

VALUES = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]


def facts(path):
    return {fact.name: fact for fact in graph_facts.facts(path)}


def saved(path, nodes, initializers=(), **options):
    graph = helper.make_graph(list(nodes), "g", VALUES[:1], VALUES[1:], list(initializers))
    options.setdefault("opset_imports", [helper.make_opsetid("", 20)])
    onnx.save(helper.make_model(graph, **options), path)
    return path


def codes(fact):
    return [finding.code for finding in fact.findings]


def test_a_file_set_lists_the_file_and_its_weights(float_file):
    files = onnx_graph.file_set(float_file)
    assert [file.path for file in files] == ["float.onnx", "float.onnx.data"]
    assert files[1].sha256 == sha256_file(float_file.parent / "float.onnx.data")


def test_external_weights_equal_those_onnx_loads(float_file):
    file = onnx_graph.opened(float_file)
    for expected in onnx.load(float_file).graph.initializer:
        found = file.array(file.scopes[0].initializers[expected.name])
        np.testing.assert_array_equal(found, numpy_helper.to_array(expected))


def test_the_canonical_digest_survives_another_name_inline_weights_and_stripped_metadata(float_file, tmp_path):
    model = onnx.load(float_file)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.name = f"renamed_{node.name}"
        node.doc_string = "said something"
    onnx.save(model, tmp_path / "inline.onnx")
    assert canonical_digest(tmp_path / "inline.onnx") == canonical_digest(float_file)


@pytest.mark.parametrize(
    "kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.INT4, TensorProto.INT64]
)
def test_typed_and_raw_weights_have_one_canonical_digest(tmp_path, kind):
    typed = helper.make_tensor("w", kind, [4], [1, -2, 3, -4])
    raw = numpy_helper.from_array(numpy_helper.to_array(typed), "w")
    assert raw.HasField("raw_data")
    assert not typed.HasField("raw_data")
    both = [saved(tmp_path / f"{n}.onnx", [helper.make_node("Relu", ["x"], ["y"])], [w]) for n, w in enumerate((typed, raw))]
    assert canonical_digest(both[0]) == canonical_digest(both[1])


def test_one_changed_bit_of_a_weight_changes_the_canonical_digest(float_file, tmp_path):
    for name in ("float.onnx", "float.onnx.data"):
        shutil.copy(float_file.parent / name, tmp_path / name)
    data = bytearray((tmp_path / "float.onnx.data").read_bytes())
    data[100] ^= 1
    (tmp_path / "float.onnx.data").write_bytes(data)
    assert canonical_digest(tmp_path / "float.onnx") != canonical_digest(float_file)


def test_a_changed_attribute_inside_a_subgraph_changes_the_canonical_digest(tmp_path):
    first, second = (with_subgraph(tmp_path / f"{mode}.onnx", training=mode) for mode in (True, False))
    assert canonical_digest(first) != canonical_digest(second)


def with_subgraph(path, *, training):
    ratio, mode = (
        helper.make_tensor("r", TensorProto.FLOAT, [], [0.5]),
        helper.make_tensor("t", TensorProto.BOOL, [], [training]),
    )
    inner = helper.make_graph([helper.make_node("Dropout", ["x", "r", "t"], ["a"], name="inner_drop")], "then", [], VALUES[:0])
    inner.output.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, [2]))
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "else", [], VALUES[:0])
    other.output.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, [2]))
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=other)
    condition = helper.make_tensor("c", TensorProto.BOOL, [], [True])
    return saved(path, [branch], [ratio, mode, condition])


def test_an_active_dropout_inside_a_subgraph_is_a_finding(tmp_path):
    fact = facts(with_subgraph(tmp_path / "active.onnx", training=True))["graph.dropout"]
    assert (fact.value.short, fact.value.data, codes(fact)) == ("left in the file", ["inner_drop"], ["training_operation_left"])


def test_a_dropout_with_training_mode_false_is_inert_and_no_finding(tmp_path):
    fact = facts(with_subgraph(tmp_path / "inert.onnx", training=False))["graph.dropout"]
    assert (fact.value.short, codes(fact)) == ("inert", [])


def test_an_active_dropout_inside_a_function_is_a_finding(tmp_path):
    mode = helper.make_node("Constant", [], ["t"], value=helper.make_tensor("", TensorProto.BOOL, [], [True]))
    drop = helper.make_node("Dropout", ["a", "", "t"], ["b"], name="drop")
    function = helper.make_function("own", "f", ["a"], ["b"], [mode, drop], [helper.make_opsetid("", 20)])
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    node = helper.make_node("f", ["x"], ["y"], domain="own")
    path = saved(tmp_path / "function.onnx", [node], functions=[function], opset_imports=imports)
    assert codes(facts(path)["graph.dropout"]) == ["training_operation_left"]


def test_a_model_exported_in_training_mode_keeps_its_dropout_and_is_found_out(training_file):
    fact = facts(training_file)["graph.dropout"]
    assert codes(fact) == ["training_operation_left"]
    assert "Dropout" in fact.value.text


def test_batch_normalization_is_folded_frozen_or_training(float_file, unfolded_file, tmp_path):
    found = [facts(path)["graph.batch_normalization"] for path in (float_file, unfolded_file)]
    assert [fact.value.short for fact in found] == ["folded", "frozen"]
    assert [len(found[0].value.data["folded"]), len(found[1].value.data["frozen"])] == [2, 2]
    model = onnx.load(unfolded_file)
    next(node for node in model.graph.node if node.op_type == "BatchNormalization").attribute.append(
        helper.make_attribute("training_mode", 1)
    )
    onnx.save(model, tmp_path / "training.onnx")
    assert codes(facts(tmp_path / "training.onnx")["graph.batch_normalization"]) == ["training_operation_left"]


def test_training_domains_that_no_node_uses_are_harmless(prepared):
    assert "ai.onnx.training" in {item.domain for item in onnx.load(prepared).opset_import}
    found = facts(prepared)
    assert found["graph.gradient_clipping"].value.short == found["graph.other"].value.short == "eliminated"
    assert found["graph.opset"].value.text == "ai.onnx 20"


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("fc.weight.exp_avg", "graph.lr_scheduling"),
        ("momentum_buffer", "graph.lr_scheduling"),
        ("c1.weight_orig", "graph.weight_regularization"),
        ("c1.parametrizations.weight.original0", "graph.weight_regularization"),
    ],
)
def test_state_of_training_among_the_weights_is_a_finding(tmp_path, name, fact):
    weight = helper.make_tensor(name, TensorProto.FLOAT, [2], [1, 2])
    path = saved(tmp_path / "state.onnx", [helper.make_node("Add", ["x", name], ["y"])], [weight])
    assert codes(facts(path)[fact]) == ["training_operation_left"]


def test_random_nodes_are_a_finding(tmp_path):
    path = saved(tmp_path / "random.onnx", [helper.make_node("RandomNormalLike", ["x"], ["y"])])
    assert codes(facts(path)["graph.other"]) == ["training_operation_left"]


def test_the_interface_is_told_with_names_types_and_shapes(float_file):
    found = facts(float_file)
    assert found["graph.inputs"].value.text == "x float32 [batch, 1, 8, 8]"
    assert found["graph.outputs"].value.data == [{"name": "y", "dtype": "float32", "shape": ["batch", 10]}]
    assert onnx_graph.inputs_outputs(float_file)[0] == found["graph.inputs"].value.data


def test_size_operators_producer_and_source_paths_are_measured(float_file, tmp_path):
    found = facts(float_file)
    assert found["graph.size"].value.data == sum(file.size for file in onnx_graph.file_set(float_file))
    assert found["graph.operators"].value.text.startswith("Conv 3, Relu 2")
    assert found["graph.producer"].value.text.startswith("pytorch ")
    assert found["graph.source_paths"].value.data == len(onnx.load(float_file).graph.node)
    bare = facts(saved(tmp_path / "bare.onnx", [helper.make_node("Relu", ["x"], ["y"])]))
    assert bare["graph.source_paths"].value.text == "No stack trace with an absolute path in the file"
    assert bare["graph.producer"].state is State.NOT_RECORDED


def test_a_missing_a_foreign_and_a_truncated_file_are_input_errors(float_file, tmp_path):
    (tmp_path / "foreign.onnx").write_text("no model at all")
    (tmp_path / "cut.onnx").write_bytes(float_file.read_bytes()[:5000])
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("missing.onnx", "foreign.onnx", "cut.onnx", "empty.onnx"):
        with pytest.raises(InputError):
            onnx_graph.read(tmp_path / name)


@pytest.mark.parametrize("location", ["/etc/hostname", "../outside.bin", "a/../../outside.bin", "C:\\weights.bin", "gone.bin"])
def test_weights_outside_the_folder_or_missing_are_input_errors(tmp_path, location):
    (tmp_path / "outside.bin").write_bytes(bytes(8))
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    (tmp_path / "model").mkdir()
    with pytest.raises(InputError, match=r"weights"):
        onnx_graph.read(saved(tmp_path / "model" / "m.onnx", [helper.make_node("Add", ["x", "w"], ["y"])], [weight]))


def test_external_data_that_is_cut_short_is_an_input_error(float_file, tmp_path):
    shutil.copy(float_file, tmp_path / "float.onnx")
    (tmp_path / "float.onnx.data").write_bytes((float_file.parent / "float.onnx.data").read_bytes()[:50])
    with pytest.raises(InputError, match="cut short"):
        canonical_digest(tmp_path / "float.onnx")
