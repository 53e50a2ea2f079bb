"""What a log says of calls on PyTorch modules: exports, and quantizers and masks that NNCF puts into a module in memory."""

from __future__ import annotations

import io
from contextlib import nullcontext
from pathlib import Path

import mlflow
import nncf
import numpy as np
import onnx
import pytest
import torch
from torch import nn

from mlflow_aifsm.capture.torch_module import state_digest
from mlflow_aifsm.digests import sha256_bytes, sha256_file
from mlflow_aifsm.facts import State
from mlflow_aifsm.samples import Samples
from tests.autolog.recorded import images, recording, the_log
from tests.models import fitted
from tests.operations.quantized_models import SmallNet

pytestmark = pytest.mark.usefixtures("experiment")

QUANTIZERS = (
    "ptq.precision",
    "ptq.scheme",
    "ptq.technique",
    "ptq.granularity",
    "calibration.scale",
    "calibration.transformation",
)


def net() -> nn.Module:
    return fitted(SmallNet, 1)


def tensors(count: int = 4) -> list[torch.Tensor]:
    return [torch.from_numpy(image) for image in images(count)]


def test_an_export_to_a_file_is_a_conversion_log_of_that_file() -> None:
    model = net().train()
    with recording(), mlflow.start_run() as run, pytest.warns(UserWarning, match="in training mode"):
        program = torch.onnx.export(
            model, (torch.cat(tensors()),), "net.onnx", dynamo=True, external_data=False, opset_version=20
        )
    record = the_log(run.info.run_id, "conversion")
    assert isinstance(program, torch.onnx.ONNXProgram)
    assert record.output_sha256 == sha256_file(Path("net.onnx"))
    assert record.input_sha256 == state_digest(model)
    assert record.entries["aifsm.conversion.opset"].asked.data == 20
    assert record.entries["aifsm.model.architecture"].value.brief == "SmallNet"
    call = record.entries["aifsm.conversion.converter"].value
    assert call.text.startswith("torch.onnx.export(opset_version=20, external_data=False); all other")
    assert model.training


def test_a_program_that_is_returned_is_measured_too() -> None:
    with recording(), mlflow.start_run() as run:
        program = torch.onnx.export(net(), tuple(tensors(1)), dynamo=True)
    entries = the_log(run.info.run_id, "conversion").entries
    assert entries["aifsm.elimination.dropout"].state is State.MEASURED
    assert program.model_proto.graph.node


def test_the_older_exporter_writes_to_memory_as_well() -> None:
    target = io.BytesIO()
    with recording(), mlflow.start_run() as run:
        torch.onnx.export(net(), tuple(tensors(1)), target, dynamo=False)
    record = the_log(run.info.run_id, "conversion")
    assert record.output_sha256 == sha256_bytes(target.getvalue())
    assert onnx.load_from_string(target.getvalue()).graph.node
    assert record.entries["aifsm.conversion.converter"].value.data["arguments"]["dynamo"] is False


def test_an_export_that_fails_is_logged_and_raises() -> None:
    with recording(), mlflow.start_run() as run, pytest.raises(Exception, match=r"shapes|size|export"):
        torch.onnx.export(net(), (torch.zeros(1, 3, 5, 5),), "never.onnx", dynamo=True)
    record = the_log(run.info.run_id, "conversion")
    assert record.failure
    assert "'shape': [1, 3, 5, 5]" in record.entries["aifsm.conversion.converter"].value.text


def test_quantizers_of_a_module_are_captured_and_it_is_said_that_there_is_no_file() -> None:
    model = net()
    before = state_digest(model)
    with recording(), mlflow.start_run() as run:
        made = nncf.quantize(model, nncf.Dataset(tensors()), subset_size=4)
    record = the_log(run.info.run_id)
    states = {record.entries[f"aifsm.{name}"].state for name in QUANTIZERS}
    assert states == {State.CAPTURED}
    precision = record.entries["aifsm.ptq.precision"].value
    assert (precision.brief, precision.data["effective_bits"]) == (
        "int8 weights, uint8 activations",
        {"features.0.weight": 7},
    )
    assert record.entries["aifsm.recovery.partial"].reason.endswith("0 of 4 weights in float")
    assert record.input_sha256 == before
    assert any(note.startswith("No file was delivered by this call") for note in record.notes)
    beside = {fact.name: fact.reason for fact in record.entries["aifsm.ptq.additional"].beside}
    assert beside["runtime.integer_operators"] == "no file was delivered by this call"
    assert record.entries["aifsm.calibration.method"].value.data["sha256"] == Samples.of(np.concatenate(images(4))).digest
    assert made(tensors(1)[0]).shape == (1, 10)


class Drawing(SmallNet):
    """Draws numbers and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(image + 0.01 * torch.rand(()))


def test_the_pass_that_reads_the_quantizers_leaves_no_trace() -> None:
    left = []
    for on in (False, True):
        torch.manual_seed(0)
        model, data = Drawing().eval(), nncf.Dataset(tensors())
        with recording() if on else nullcontext(), mlflow.start_run():
            made = nncf.quantize(model, data, subset_size=4)
        left.append((made.calls.item(), torch.rand(()).item()))
    assert left[0] == left[1]


def test_layers_that_are_left_out_of_a_module_are_named() -> None:
    scope = nncf.IgnoredScope(names=["head/linear/0"])
    with recording(), mlflow.start_run() as run:
        nncf.quantize(net(), nncf.Dataset(tensors()), subset_size=4, ignored_scope=scope)
    record = the_log(run.info.run_id)
    assert record.entries["aifsm.recovery.partial"].value.data == ["head.weight"]
    assert "ignored_scope.names=['head/linear/0']" in record.entries["aifsm.ptq.additional"].value.text


def test_compressed_weights_of_a_module_are_captured() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).eval()

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.layers(x)
            return scores

    with recording(), mlflow.start_run() as run:
        nncf.compress_weights(
            Wrapped(), mode=nncf.CompressWeightsMode.INT4_SYM, group_size=16, dataset=nncf.Dataset([torch.rand(1, 64)])
        )
    entries = the_log(run.info.run_id).entries
    assert entries["aifsm.ptq.precision"].value.data["weights"] == ["int4", "uint8"]
    assert "groupwise (groups of 16)" in entries["aifsm.ptq.granularity"].value.text


def test_a_pruning_that_fails_is_told_in_the_row_of_pruning() -> None:
    with recording(), mlflow.start_run() as run, pytest.raises(RuntimeError, match="kthvalue"):
        nncf.prune(net(), nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_GLOBAL, ratio=7.0, examples_inputs=tensors(1)[0])
    record = the_log(run.info.run_id)
    assert record.failure
    assert record.entries["aifsm.pruning.additional"].value.data["function"] == "nncf.prune"
    assert record.entries["aifsm.ptq.additional"].state is State.NOT_RECORDED


def test_pruning_is_told_by_its_mode_and_its_zeros_are_counted() -> None:
    with recording(), mlflow.start_run() as run:
        nncf.prune(net(), nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_GLOBAL, ratio=0.5, examples_inputs=tensors(1)[0])
    record = the_log(run.info.run_id)
    assert record.entries["aifsm.pruning.criteria"].value.brief == "weight_magnitude_global"
    patterns = record.entries["aifsm.pruning.patterns"].value
    assert (patterns.brief, patterns.text.partition("; ")[2]) == ("element", "with the masks, 1,928 of 3,856 weights are zero")
    assert mlflow.get_run(run.info.run_id).data.metrics["aifsm.zeros"] == pytest.approx(0.5, abs=0.001)
    assert "mode='unstructured_magnitude_global', ratio=0.5" in record.entries["aifsm.pruning.additional"].value.text
    assert record.entries["aifsm.ptq.framework"].state is State.NOT_APPLICABLE
