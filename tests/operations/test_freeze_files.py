"""Files that other tools froze: taken byte for byte, measured as far as they tell, the rest shown as not recorded."""

from __future__ import annotations

import pickle
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import mlflow_aifsm as aifsm
from mlflow_aifsm import audit
from mlflow_aifsm.digests import set_digest, sha256_file
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import State
from mlflow_aifsm.measurement import measure
from tests.models import Digits

pytestmark = pytest.mark.usefixtures("experiment")


def scores(digits: Digits, folder: Path, *, producer: str = "tf2onnx", version: str = "1.16.1", **saving: object) -> Path:
    """A linear classifier of the digits, fitted by least squares, as another tool would write it: opset 13, its own names."""
    images, labels = digits.images.reshape(-1, 64), digits.labels
    weights = np.linalg.lstsq(images, np.eye(10)[labels], rcond=None)[0].astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("MatMul", ["flat", "kernel"], ["scores"], "dense/MatMul"),
    ]
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 1, 8, 8])]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 10])]
    graph = helper.make_graph(nodes, "keras", inputs, outputs, [numpy_helper.from_array(weights, "kernel")])
    opset = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=7, producer_name=producer, producer_version=version)
    onnx.save(model, folder / "vendor.onnx", **saving)
    return folder / "vendor.onnx"


@pytest.mark.parametrize("kind", [str, Path])
def test_an_onnx_file_is_taken_byte_for_byte_and_what_it_tells_is_measured(digits: Digits, tmp_path: Path, kind: type) -> None:
    path = scores(digits, tmp_path, save_as_external_data=True, location="kernel.bin", size_threshold=0)
    data = aifsm.Verification(digits.images, digits.labels)
    frozen = aifsm.freeze(kind(path), verified_model="keras-digits_4", verification=data)
    folder = Path(mlflow.artifacts.download_artifacts(frozen.model_uri))
    for name in ("vendor.onnx", "kernel.bin"):
        assert sha256_file(folder / name) == sha256_file(tmp_path / name)
    assert set_digest(frozen.record.output_files) == set_digest(measure(path).files) == frozen.record.input_sha256
    entries = frozen.record.entries
    assert entries["aifsm.conversion.opset"].value.data == 13
    assert entries["aifsm.elimination.dropout"].value.brief == "eliminated"
    framework = entries["aifsm.conversion.framework"]
    assert (framework.state, framework.value.text) == (State.MEASURED, "tf2onnx 1.16.1, as the file names its producer")
    assert entries["aifsm.conversion.input_id"].value.text == "keras-digits_4"
    assert mlflow.onnx.load_model(frozen.model_uri).graph.name == "keras"


def test_what_the_file_does_not_tell_is_not_recorded_with_the_line_that_fills_it(digits: Digits, tmp_path: Path) -> None:
    frozen = aifsm.freeze(scores(digits, tmp_path, producer="", version=""), verified_model="d_1")
    entries = frozen.record.entries
    for row in ("framework", "packages", "converter", "environment"):
        entry = entries[f"aifsm.conversion.{row}"]
        assert entry.state is State.NOT_RECORDED
        assert "elsewhere" in entry.reason
        assert "declare" in entry.remedy
    aifsm.declare(frozen.run_id, "aifsm.conversion.framework", "TensorFlow 2.16", by="A. Ito")
    assert aifsm.load_record(frozen.run_id).entries["aifsm.conversion.framework"].value.text == "TensorFlow 2.16"
    (report,) = aifsm.render_report(frozen.run_id, format="md")
    assert "made elsewhere" in report.read_text("utf-8")


def test_without_a_source_model_accuracy_is_measured_and_nothing_is_compared(digits: Digits, tmp_path: Path) -> None:
    verification = aifsm.Verification(digits.images, digits.labels)
    frozen = aifsm.freeze(scores(digits, tmp_path), verified_model="d_1", verification=verification)
    assert frozen.verification.passed
    assert "no reference model" in frozen.verification.criterion
    assert 0.8 < frozen.verification.numbers["accuracy_after"] < 1.0
    assert "max_diff" not in frozen.verification.numbers
    metrics = mlflow.get_run(frozen.run_id).data.metrics
    assert "aifsm.max_diff" not in metrics
    assert metrics["aifsm.accuracy"] == pytest.approx(frozen.verification.numbers["accuracy_after"])


def test_an_adopted_file_can_be_quantized_as_the_next_step(digits: Digits, tmp_path: Path) -> None:
    frozen = aifsm.freeze(scores(digits, tmp_path), verified_model="d_1")
    int8 = aifsm.quantize(frozen, digits.images[:32], verification=aifsm.Verification(digits.images[32:], digits.labels[32:]))
    assert int8.record.entries["aifsm.ptq.precision"].value.brief
    assert int8.verification.numbers["agreement"] > 0.9


@pytest.mark.parametrize("how", ["traced", "scripted"])
def test_a_torchscript_archive_is_delivered_as_it_is(digits: Digits, tmp_path: Path, how: str) -> None:
    module = torch.jit.trace(digits.model, digits.example) if how == "traced" else torch.jit.script(digits.model)
    module.save(tmp_path / "digits.pt")
    verification = aifsm.Verification(digits.images, digits.labels)
    frozen = aifsm.freeze(tmp_path / "digits.pt", verified_model="d_1", verification=verification)
    delivered = Path(mlflow.artifacts.download_artifacts(frozen.model_uri)) / "model.pth"
    assert sha256_file(delivered) == sha256_file(frozen.path) == sha256_file(tmp_path / "digits.pt")
    assert frozen.verification.numbers["accuracy_after"] > 0.9
    entries = frozen.record.entries
    rows = ("dropout", "batch_normalization", "lr_scheduling")
    assert [entries[f"aifsm.elimination.{row}"].value.brief for row in rows] == ["inert", "frozen", "eliminated"]
    assert entries["aifsm.model.parameters"].value.data == sum(weight.numel() for weight in digits.model.parameters())
    assert entries["aifsm.conversion.opset"].state is State.NOT_APPLICABLE
    with torch.no_grad():
        expected = digits.model(digits.example)
    assert torch.allclose(mlflow.pytorch.load_model(frozen.model_uri)(digits.example), expected, atol=1e-5)
    assert torch.allclose(aifsm.load_model(frozen.model_uri)(digits.example), expected, atol=1e-5)
    assert np.allclose(mlflow.pyfunc.load_model(frozen.model_uri).predict(digits.images[:4]), expected, atol=1e-5)
    assert all(check.holds is not False for evidence in audit.read(frozen.run_id) for check in evidence.checks)


def test_an_archive_of_any_name_that_a_script_delivers_is_found_again(digits: Digits, tmp_path: Path) -> None:
    torch.jit.script(digits.model).save(tmp_path / "digits-v3.ts")
    with aifsm.record_conversion(verified_model="d_1", converter="torch") as log:
        log.output(tmp_path / "digits-v3.ts")
    assert log.finished.path.name == "model.pth"
    checks = [check for evidence in audit.read(log.finished.run_id) for check in evidence.checks]
    assert not [check for check in checks if check.holds is False]
    (found,) = audit.read(str(tmp_path / "digits-v3.ts"))
    assert found.record.log_id == log.log_id


def test_a_torchscript_left_in_training_mode_is_found_out(digits: Digits, tmp_path: Path) -> None:
    torch.jit.script(type(digits.model)().train()).save(tmp_path / "training.pt")
    facts = {fact.name: fact for fact in measure(tmp_path / "training.pt").facts}
    for name in ("graph.dropout", "graph.batch_normalization"):
        assert facts[name].value.short == "left in the file"
        assert facts[name].findings


def test_a_torchscript_whose_weights_are_constants_says_what_it_cannot_tell(digits: Digits, tmp_path: Path) -> None:
    torch.jit.freeze(torch.jit.script(digits.model)).save(tmp_path / "constants.pt")
    facts = {fact.name: fact for fact in measure(tmp_path / "constants.pt").facts}
    assert facts["model.parameters"].state is facts["graph.canonical_digest"].state is State.NOT_RECORDED


def test_the_canonical_digest_of_a_torchscript_does_not_depend_on_its_name(digits: Digits, tmp_path: Path) -> None:
    digests = set()
    for name in ("one.pt", "another.ts"):
        torch.jit.script(digits.model).save(tmp_path / name)
        digests.add({fact.name: fact.value.data for fact in measure(tmp_path / name).facts}["graph.canonical_digest"])
    assert len(digests) == 1


@pytest.mark.parametrize("name", ["model.pt", "model.onnx", "model.pkl"])
def test_a_pickle_is_refused_before_anything_of_it_runs(digits: Digits, tmp_path: Path, experiment: str, name: str) -> None:
    torch.save(digits.model, tmp_path / name)
    with pytest.raises(InputError, match="holds a pickled Python object, no frozen model") as caught:
        aifsm.freeze(tmp_path / name)
    assert "\n" not in str(caught.value)
    (tmp_path / name).write_bytes(pickle.dumps({"weights": [1.0]}))
    with pytest.raises(InputError, match="is a pickle, no frozen model"):
        aifsm.freeze(str(tmp_path / name))
    assert mlflow.search_runs([experiment]).empty


def test_what_only_an_export_could_use_is_refused(digits: Digits, tmp_path: Path) -> None:
    path = scores(digits, tmp_path)
    with pytest.raises(InputError, match="config for a frozen file; got Onnx"):
        aifsm.freeze(path, config=aifsm.Onnx())
    with pytest.raises(InputError, match="example_inputs for a frozen file"):
        aifsm.freeze(path, digits.example)
    with pytest.raises(InputError, match="cannot read"):
        aifsm.freeze("missing.onnx")
