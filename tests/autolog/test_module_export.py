"""A module that NNCF quantized in memory and a script exports later, as NNCF's own PyTorch examples do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import nncf
import pytest
import torch

from mlflow_aifsm.audit import load_record
from mlflow_aifsm.digests import sha256_file
from mlflow_aifsm.facts import State
from mlflow_aifsm.record import Record
from tests.autolog.recorded import children, images, recording, the_log
from tests.models import fitted
from tests.operations.quantized_models import SmallNet

pytestmark = [
    pytest.mark.usefixtures("experiment"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),
]

QUANTIZERS = (*(f"aifsm.ptq.{name}" for name in ("precision", "scheme", "technique", "granularity")),)
QUANTIZERS += ("aifsm.calibration.scale", "aifsm.calibration.transformation")
EXAMPLE = torch.from_numpy(images(1)[0])


def quantized(count: int = 8, epochs: int = 1) -> tuple[torch.nn.Module, Any]:
    """A float module, and what NNCF makes of it."""
    model = fitted(SmallNet, epochs)
    return model, nncf.quantize(model, nncf.Dataset([torch.from_numpy(one) for one in images(count)]), subset_size=count)


def exported(model: torch.nn.Module, name: str) -> None:
    """As NNCF's examples export: the newer exporter refuses NNCF's quantizers."""
    torch.onnx.export(model.cpu(), (EXAMPLE,), name, dynamo=False)


def logs(run_id: str) -> dict[str, Record]:
    """The logs of the child runs, by template."""
    found = {}
    for child in children(run_id):
        tags = mlflow.get_run(child).data.tags
        found |= {log: load_record(child, log) for log in ("conversion", "optimization") if f"aifsm.{log}.log_id" in tags}
    return found


@pytest.mark.parametrize("stripped", [True, False], ids=["stripped", "as it is"])
def test_the_exported_file_is_that_of_an_optimization_log_and_measured(stripped: bool) -> None:
    with recording(), mlflow.start_run() as run:
        model, made = quantized()
        exported(model, "fp32.onnx")
        exported(nncf.strip(made, example_input=EXAMPLE) if stripped else made, "int8.onnx")
    before, found = load_record(run.info.run_id, "optimization"), logs(run.info.run_id)
    record, conversion = found["optimization"], found["conversion"]
    assert {record.entries[key].state for key in QUANTIZERS} == {State.MEASURED}
    assert not [key for key, entry in record.entries.items() if entry.state is State.NOT_RECORDED]
    assert record.output_sha256 == conversion.output_sha256 == sha256_file(Path("int8.onnx"))
    assert record.input_sha256 == before.input_sha256
    digest = next(fact for fact in record.entries["aifsm.optimization.input_id"].beside if fact.name == "input.digest")
    assert str(digest.source) == "parameters and buffers of SmallNet"
    assert record.supersedes is not None
    assert (record.supersedes.run_id, record.supersedes.sha256) == (run.info.run_id, before.sha256)
    assert mlflow.get_run(run.info.run_id).data.tags["aifsm.optimization.superseded_by"] == record.run_id
    same = ("aifsm.ptq.additional", "aifsm.calibration.method", "aifsm.ptq.framework")
    assert {key: record.entries[key].value for key in same} == {key: before.entries[key].value for key in same}
    beside = {fact.name: fact.state for fact in record.entries["aifsm.ptq.additional"].beside}
    assert beside["quantizers.lost_non_linearities"] is State.MEASURED


def test_the_file_holds_the_quantizers_that_the_module_held() -> None:
    with recording(), mlflow.start_run() as run:
        exported(quantized(epochs=2)[1], "int8.onnx")
    before, after = load_record(run.info.run_id, "optimization"), logs(run.info.run_id)["optimization"]
    for key in ("aifsm.ptq.precision", "aifsm.ptq.scheme"):
        assert before.entries[key].value.brief == after.entries[key].value.brief
    assert any(note.startswith("No file of the float model was exported before") for note in after.notes)


def test_the_conversion_of_a_quantized_module_is_not_that_of_the_verified_one() -> None:
    with recording(verified_model="digits_1"), mlflow.start_run() as run:
        made = quantized()[1]
        exported(made, "int8.onnx")
    entry = load_record(run.info.run_id, "conversion").entries["aifsm.conversion.input_id"]
    (finding,) = entry.findings
    assert finding.code == "changed_after_verification"
    first = load_record(run.info.run_id, "optimization")
    assert finding.measured == f"changed by nncf.quantize, optimization log {first.log_id}"
    assert logs(run.info.run_id)["optimization"].subject == "digits_1"


def test_quantizers_that_nobody_recorded_are_told_in_the_conversion() -> None:
    made = quantized(5, epochs=2)[1]  # as no other test quantizes it: a module is known by its digest
    with recording(verified_model="digits_1"), mlflow.start_run() as run:
        exported(made, "int8.onnx")
    (finding,) = the_log(run.info.run_id, "conversion").entries["aifsm.conversion.input_id"].findings
    assert finding.measured == "changed by NNCF, and left so by no call that was recorded: 8 of its hooks in it"


class Unbiased(torch.nn.Module):
    """Convolutions without bias: what quantization makes of it differs in nothing that ``nncf.strip`` leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3, bias=False), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3, bias=False)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layers(image)


def test_of_two_calls_that_cannot_be_told_apart_none_is_claimed_to_have_made_the_file() -> None:
    model, data = Unbiased().eval(), nncf.Dataset([torch.from_numpy(one) for one in images(4)])
    with recording(verified_model="digits_1"), mlflow.start_run() as run:
        presets = (nncf.QuantizationPreset.PERFORMANCE, nncf.QuantizationPreset.MIXED)
        first, _ = (nncf.quantize(model, data, subset_size=4, preset=preset) for preset in presets)
        exported(nncf.strip(first, example_input=EXAMPLE), "int8.onnx")
    (finding,) = load_record(run.info.run_id, "conversion").entries["aifsm.conversion.input_id"].findings
    (second,) = children(run.info.run_id)
    ids = [load_record(one, "optimization").log_id for one in (run.info.run_id, second)]
    told = "changed by NNCF in one of 2 recorded calls that cannot be told apart, optimization logs "
    assert finding.measured == told + ", ".join(ids)


def test_what_was_trained_after_the_call_is_not_claimed_to_be_as_the_call_left_it() -> None:
    data = nncf.Dataset([torch.from_numpy(one) for one in images(4)])
    with recording(verified_model="digits_1"), mlflow.start_run() as run:
        made = nncf.quantize(Unbiased().eval(), data, subset_size=4)
        with torch.no_grad():
            made.layers[0].weight *= 1.5
        exported(made, "trained.onnx")
    (finding,) = load_record(run.info.run_id, "conversion").entries["aifsm.conversion.input_id"].findings
    assert finding.measured.startswith("changed by NNCF, and left so by no call that was recorded")
    assert children(run.info.run_id) == []


def test_a_float_module_beside_a_quantized_one_is_unchanged() -> None:
    with recording(verified_model="digits_1"), mlflow.start_run() as run:
        model, _ = quantized()
        exported(model, "fp32.onnx")
    assert load_record(run.info.run_id, "conversion").entries["aifsm.conversion.input_id"].findings == ()
    assert children(run.info.run_id) == []


def test_a_pruned_module_is_known_again() -> None:
    with recording(verified_model="digits_1"), mlflow.start_run() as run:
        made = nncf.prune(fitted(SmallNet, 1), nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_GLOBAL, ratio=0.5, examples_inputs=EXAMPLE)
        torch.onnx.export(made, (EXAMPLE,), "sparse.onnx", dynamo=True)
    (finding,) = load_record(run.info.run_id, "conversion").entries["aifsm.conversion.input_id"].findings
    assert finding.measured.startswith("changed by nncf.prune, optimization log ")
    assert load_record(run.info.run_id, "optimization").failure == ""
