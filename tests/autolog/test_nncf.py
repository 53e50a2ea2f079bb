"""What a log says of NNCF's calls on an ONNX graph."""

from __future__ import annotations

import mlflow
import nncf
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import mlflow_aifsm as aifsm
from mlflow_aifsm.audit import exit_code, load_record
from mlflow_aifsm.audit import read as audited
from mlflow_aifsm.autologging import wrapping
from mlflow_aifsm.autologging.table import BUILT_IN
from mlflow_aifsm.facts import State
from mlflow_aifsm.samples import Samples
from tests.autolog.recorded import artifact, children, fed, graph, images, recording, the_log
from tests.operations.quantized_models import OPSETS, small

pytestmark = pytest.mark.usefixtures("experiment")

MEASURED = (
    "calibration.transformation",
    "calibration.scale",
    "ptq.precision",
    "ptq.scheme",
    "ptq.technique",
    "ptq.granularity",
)


def test_the_log_says_what_that_of_the_verb_says() -> None:
    with recording(), mlflow.start_run() as run:
        nncf.quantize(graph(), nncf.Dataset(images(), fed), subset_size=24)
    with mlflow.start_run() as other:
        aifsm.quantize(graph(), small().images[:24], aifsm.NNCF(subset_size=24))
    ours, verbs = the_log(run.info.run_id).entries, the_log(other.info.run_id).entries
    assert {key: entry.state for key, entry in ours.items()} == {key: entry.state for key, entry in verbs.items()}
    same = [*(f"aifsm.{key}" for key in MEASURED), "aifsm.recovery.partial", "aifsm.pruning.patterns", "aifsm.ptq.framework"]
    assert {key: ours[key].value for key in same} == {key: verbs[key].value for key in same}
    assert all(ours[f"aifsm.{key}"].state is State.MEASURED for key in MEASURED)
    told, known = ours["aifsm.calibration.method"].value.data, verbs["aifsm.calibration.method"].value.data
    names = ("method", "consumed", "sha256", "clip_fraction")
    assert {name: told[name] for name in names} == {name: known[name] for name in names}


def test_the_call_is_told_with_resolved_defaults() -> None:
    with recording(), mlflow.start_run() as run:
        nncf.quantize(
            graph(), nncf.Dataset(images(), fed), preset=nncf.QuantizationPreset.MIXED, subset_size=8, fast_bias_correction=True
        )
    entry = the_log(run.info.run_id).entries["aifsm.ptq.additional"]
    data = entry.value.data
    assert data["function"] == "nncf.quantize"
    assert (data["arguments"]["preset"], data["arguments"]["target_device"]) == ("mixed", "ANY")
    assert data["arguments"]["advanced_parameters"]["disable_bias_correction"] is False
    assert entry.value.text.startswith("nncf.quantize(preset='mixed', subset_size=8); all other arguments are the function's")
    assert "model" not in data["arguments"]
    assert data["source"]["name"].endswith("test_nncf.py")


def test_a_generator_is_read_once_and_by_nncf() -> None:
    given = iter(images(6))
    model = graph()
    before = model.SerializeToString()
    advanced = nncf.AdvancedQuantizationParameters(disable_bias_correction=True)
    with recording(), mlflow.start_run() as run:
        nncf.quantize(model, nncf.Dataset(given, fed), subset_size=6, advanced_parameters=advanced)
    data = the_log(run.info.run_id).entries["aifsm.calibration.method"].value.data
    assert (data["consumed"], data["sha256"]) == (6, Samples.of(small().images[:6]).digest)
    assert list(given) == []
    assert model.SerializeToString() == before


def test_only_the_samples_that_were_read_are_in_the_digest() -> None:
    with recording(), mlflow.start_run() as run:
        nncf.quantize(graph(), nncf.Dataset(images(20), fed), subset_size=7)
    data = the_log(run.info.run_id).entries["aifsm.calibration.method"].value.data
    assert (data["asked"], data["consumed"], data["sha256"]) == (7, 7, Samples.of(small().images[:7]).digest)
    inputs = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
    assert [used.dataset.digest for used in inputs] == [data["sha256"][:36]]


def test_the_result_is_the_graph_that_is_in_the_log() -> None:
    with recording(), mlflow.start_run() as run:
        made = nncf.quantize(graph(), nncf.Dataset(images(4), fed), subset_size=4)
    record = the_log(run.info.run_id)
    delivered = mlflow.onnx.load_model(f"models:/{run_model(run.info.run_id)}")
    assert delivered.graph == made.graph
    assert exit_code(audited(run.info.run_id)) < 5
    assert record.output_files[0].size == len(made.SerializeToString())


def run_model(run_id: str) -> str:
    """The logged model of a run."""
    return str(mlflow.get_run(run_id).outputs.model_outputs[0].model_id)


def test_calibration_tables_stand_in_the_run() -> None:
    with recording(), mlflow.start_run() as run:
        nncf.quantize(graph(), nncf.Dataset(images(), fed), subset_size=24)
    lines = artifact(run.info.run_id, "aifsm/optimization/calibration.csv").splitlines()
    assert len(lines) > 3
    assert "clip_fraction" in lines[0]


def test_an_exported_file_is_the_input_of_the_quantization_in_the_same_run(tmp_path: object) -> None:
    del tmp_path
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 10)).eval()
    with recording(), mlflow.start_run() as run:
        torch.onnx.export(net, (torch.from_numpy(images(1)[0]),), "net.onnx", dynamo=True)
        loaded = onnx.load("net.onnx")
        name = loaded.graph.input[0].name
        nncf.quantize(loaded, nncf.Dataset(images(4), lambda image: {name: image}), subset_size=4)
    conversion = the_log(run.info.run_id, "conversion")
    assert the_log(run.info.run_id).entries["aifsm.optimization.input_id"].value.text == conversion.log_id


def test_each_of_two_exported_files_is_the_input_of_its_own_quantization() -> None:
    with recording(), mlflow.start_run() as run:
        for channels in (2, 3):
            net = torch.nn.Sequential(torch.nn.Conv2d(1, channels, 3), torch.nn.ReLU()).eval()
            torch.onnx.export(net, (torch.from_numpy(images(1)[0]),), f"{channels}.onnx", input_names=["image"], dynamo=False)
            nncf.quantize(onnx.load(f"{channels}.onnx"), nncf.Dataset(images(4), fed), subset_size=4)
    held = {one: mlflow.get_run(one).data.tags for one in (run.info.run_id, *children(run.info.run_id))}
    made, given = (
        [load_record(one, log) for one in held if f"aifsm.{log}.log_id" in held[one]] for log in ("conversion", "optimization")
    )
    pairs = {record.output_sha256: record.log_id for record in made}
    assert len(pairs) == 2
    assert {record.input_sha256: record.entry_of("input.id").value.text for record in given} == pairs


def linear() -> onnx.ModelProto:
    """Two linear layers of 64 inputs, as products, whose weights NNCF can compress in groups."""
    shapes = {"x": [1, 64], "y": [1, 64]}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    random = np.random.default_rng(0)
    stored = [numpy_helper.from_array(random.standard_normal((64, 64), np.float32), name) for name in ("a", "b")]
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "b"], ["y"], "second"),
    ]
    return helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], stored), opset_imports=OPSETS, ir_version=10)


def test_compressed_weights_are_measured_and_nothing_is_said_to_be_calibrated() -> None:
    with recording(), mlflow.start_run() as run:
        nncf.compress_weights(linear(), mode=nncf.CompressWeightsMode.INT4_SYM, group_size=16)
    entries = the_log(run.info.run_id).entries
    assert entries["aifsm.ptq.precision"].value.data["weights"] == ["int4", "uint8"]
    assert "groups of 16" in entries["aifsm.ptq.granularity"].value.text
    assert entries["aifsm.calibration.method"].state is State.NOT_APPLICABLE
    assert not entries["aifsm.ptq.precision"].findings


def test_a_precision_that_was_asked_for_all_layers_and_is_not_there_is_a_finding() -> None:
    with recording(), mlflow.start_run() as run:
        nncf.compress_weights(graph(), mode=nncf.CompressWeightsMode.INT4_SYM, group_size=16, all_layers=True)
    (finding,) = the_log(run.info.run_id).entries["aifsm.ptq.precision"].findings
    assert (finding.code, finding.asked) == ("asked_not_found", "weights int4 (mode int4_sym)")


def test_a_model_of_a_framework_that_cannot_be_read_is_told_and_not_measured() -> None:
    class Elsewhere:
        """A model of another framework, which is not installed here."""

    def work(model: object, calibration_dataset: object, *, subset_size: int = 300) -> object:
        del calibration_dataset, subset_size
        return model

    function = wrapping.wrapped(next(row for row in BUILT_IN if row.function == "nncf.quantize"), work)
    with recording(), mlflow.start_run() as run:
        function(Elsewhere(), [], subset_size=8)
    entries = the_log(run.info.run_id).entries
    assert entries["aifsm.ptq.precision"].state is State.NOT_RECORDED
    assert entries["aifsm.ptq.precision"].reason.endswith("Elsewhere, which cannot be read here")
    assert entries["aifsm.ptq.additional"].value.data["arguments"] == {"subset_size": 8}
