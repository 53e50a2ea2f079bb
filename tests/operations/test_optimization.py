"""``optimization``: several steps in their order, one log, one delivered file; and orders that cannot be."""

from __future__ import annotations

from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from torch import nn

import mlflow_aifsm as aifsm
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import State
from tests.models import Digits, digits, trained_on

pytestmark = pytest.mark.usefixtures("experiment")

IMAGES, LABELS = (part[:1200] for part in digits())
CALIBRATION = aifsm.Data(IMAGES[:300], name="digits-calibration", labels=LABELS[:300])


def train(module: nn.Module) -> None:
    torch.manual_seed(3)
    trained_on(module.train(), 1200, epochs=2, rate=2e-3)


def steps_of(result: aifsm.Result) -> dict[str, list[Any]]:
    """The table of steps in the run, by column."""
    table = mlflow.artifacts.load_dict(f"runs:/{result.run_id}/aifsm/optimization/steps.json")
    return dict(zip(table["columns"], map(list, zip(*table["data"], strict=True)), strict=True))


@pytest.fixture(scope="module")
def three(digits: Digits, database: str, tmp_path_factory: pytest.TempPathFactory) -> aifsm.Result:
    """A module pruned in blocks, fine-tuned and quantized; made once."""
    folder = tmp_path_factory.mktemp("three")
    mlflow.set_tracking_uri(database)
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(str(folder), artifact_location=(folder / "a").as_uri()))
    judged = aifsm.Verification(digits.images, digits.labels, limits={"accuracy_drop": 0.02}, reason="a test")
    with (
        mlflow.start_run(),
        aifsm.optimization(
            digits.model,
            example_inputs=digits.example,
            verified_model="digits_1",
            verification=judged,
            responsible="A. Ito",
            registered_model_name="digits-small",
        ) as steps,
    ):
        steps.prune(aifsm.Magnitude(0.5, pattern="block:4x4"))
        steps.fine_tune(aifsm.FineTuning(train, epochs=2, data=aifsm.Data(IMAGES, name="digits-training")))
        steps.quantize(CALIBRATION)
    return steps.result


def test_three_steps_are_one_log_with_one_registered_file(three: aifsm.Result) -> None:
    entries = three.record.entries
    assert three.record.gaps == ()
    assert three.findings == ()
    assert three.version_uri == "models:/digits-small/1"
    assert len(mlflow.search_registered_models(filter_string="name = 'digits-small'")[0].latest_versions) == 1
    assert entries["aifsm.pruning.additional"].value.text.startswith("Step 1 of 3: Magnitude(amount=0.5, pattern='block:4x4')")
    assert entries["aifsm.ptq.additional"].value.text.startswith("Step 3 of 3: Static()")
    assert entries["aifsm.optimization.input_id"].value.text == "digits_1"
    assert entries["aifsm.pruning.patterns"].value.data["pattern"] == "block:4x4"
    assert entries["aifsm.ptq.technique"].state is State.MEASURED


def test_the_annex_holds_each_digest_between_the_steps(three: aifsm.Result) -> None:
    table = steps_of(three)
    assert table["operation"] == ["start", "prune", "fine_tune", "freeze", "quantize"]
    assert table["step"] == [0, 1, 2, 3, 3]
    digests = table["sha256"]
    assert len(set(digests)) == 5
    assert digests[0] == three.record.input_sha256
    assert digests[-1] == three.record.output_sha256
    conversion = aifsm.load_record(three.run_id, log="conversion")
    assert digests[3] == conversion.output_sha256
    assert table["log_id"][3] == conversion.log_id
    _, path = aifsm.render_report(three.run_id, output="three.html")
    assert all(digest in path.read_text("utf-8") for digest in digests)


def test_what_the_model_was_before_the_first_step_is_the_reference(digits: Digits, three: aifsm.Result) -> None:
    with torch.no_grad():
        dense = digits.model(torch.from_numpy(digits.images)).argmax(1).numpy()
    numbers = three.verification.numbers
    assert numbers["accuracy_before"] == pytest.approx(np.mean(dense == digits.labels))
    workload = {fact.name: fact for fact in three.record.entries["aifsm.pruning.additional"].beside}
    weights = digits.model.conv.weight.numel() + digits.model.fc.weight.numel()
    assert f"(before: {weights:,})" in workload["workload.parameters"].value.text
    assert workload["workload.parameters"].value.data < 0.51 * weights


def test_a_frozen_file_is_pruned_and_quantized_in_one_log(digits: Digits) -> None:
    frozen = aifsm.freeze(digits.model, digits.example, aifsm.Onnx(dynamic_shapes="batch"), verified_model="digits_1")
    with aifsm.optimization(frozen) as steps:
        steps.prune(aifsm.Magnitude(0.3))
        steps.quantize(CALIBRATION)
    entries = steps.result.record.entries
    assert entries["aifsm.optimization.input_id"].value.text == frozen.log_id
    assert steps.result.record.input_sha256 == frozen.record.output_sha256
    assert entries["aifsm.pruning.patterns"].value.data["pattern"] == "element"
    assert steps.result.findings == ()


def test_a_module_that_is_only_quantized_starts_from_its_conversion(digits: Digits) -> None:
    with aifsm.optimization(digits.model, example_inputs=digits.example, verified_model="digits_1") as steps:
        steps.quantize(CALIBRATION)
    result = steps.result
    tags = mlflow.get_run(result.run_id).data.tags
    assert result.record.entries["aifsm.optimization.input_id"].value.text == tags["aifsm.conversion.log_id"]
    assert result.record.input_sha256 == tags["aifsm.conversion.output_sha256"]
    assert result.record.entries["aifsm.pruning.criteria"].state is State.NOT_APPLICABLE


def test_layers_that_two_calls_prune_are_looked_up_apart(digits: Digits) -> None:
    with aifsm.optimization(digits.model, example_inputs=digits.example, verified_model="digits_1") as steps:
        steps.prune(aifsm.Magnitude(0.25, "local", "channel", layers=("conv",)))
        steps.prune(aifsm.Magnitude(0.5, "local", "vector:4", layers=("fc",)))
    entries = steps.result.record.entries
    assert steps.result.findings == ()
    assert entries["aifsm.pruning.additional"].value.text.count("Step ") == 2
    assert entries["aifsm.pruning.patterns"].value.data["layers"] == {"conv": "channel", "fc": "vector:4"}


def no_step(_: Any) -> None:
    """A body that does nothing."""


def twice(steps: Any) -> None:
    steps.quantize(CALIBRATION)
    steps.quantize(CALIBRATION)


def pruned_late(steps: Any) -> None:
    steps.quantize(CALIBRATION)
    steps.prune()


def trained_first(steps: Any) -> None:
    steps.fine_tune(train)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (no_step, "an optimization without a step"),
        (twice, "quantize after quantize; got a quantized model"),
        (pruned_late, "prune after quantize; got a quantized model"),
        (trained_first, "fine_tune wins back what pruning cost; got a module that nothing was pruned in"),
    ],
)
def test_an_order_that_cannot_be_is_an_error_and_a_log_that_failed(digits: Digits, body: Any, message: str) -> None:
    where = {"example_inputs": digits.example, "verified_model": "digits_1"}
    with (
        mlflow.start_run() as run,
        pytest.raises(InputError, match=message),
        aifsm.optimization(digits.model, **where) as steps,
    ):
        body(steps)
    assert message.partition(";")[0] in aifsm.load_record(run.info.run_id, log="optimization").failure


def test_a_body_that_raises_is_logged_as_failed_and_its_exception_goes_on(digits: Digits) -> None:
    where = {"example_inputs": digits.example, "verified_model": "digits_1"}
    with mlflow.start_run() as run, pytest.raises(ZeroDivisionError), aifsm.optimization(digits.model, **where) as steps:
        steps.prune(aifsm.Magnitude(1 / (steps.log.verification is not None)))
    record = aifsm.load_record(run.info.run_id, log="optimization")
    assert record.failure == "ZeroDivisionError: division by zero"
