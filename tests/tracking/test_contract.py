"""The contract with the user's run: what a log adds to it, and what it leaves alone."""

from __future__ import annotations

import json
import threading

import mlflow
import onnx
import pytest
from mlflow import MlflowClient

import mlflow_aifsm as aifsm
from mlflow_aifsm import audit
from mlflow_aifsm.errors import InputError, NotFoundError
from mlflow_aifsm.facts import State
from mlflow_aifsm.template import load
from tests.models import Digits

pytestmark = pytest.mark.usefixtures("experiment")


def frozen(digits: Digits, **where: object) -> aifsm.Result:
    where = {"verified_model": "digits_1"} | where
    return aifsm.freeze(digits.model, digits.example, aifsm.Onnx(dynamic_shapes="batch"), **where)


def quantized(digits: Digits, given: aifsm.Result, **where: object) -> aifsm.Result:
    return aifsm.quantize(given, digits.images[:32], aifsm.NNCF(subset_size=32), **where)


def test_an_active_run_is_joined_and_not_ended(digits: Digits) -> None:
    with mlflow.start_run() as run:
        mlflow.log_metric("accuracy", 0.5)
        result = frozen(digits)
        assert mlflow.active_run().info.run_id == run.info.run_id
    assert result.run_id == run.info.run_id
    assert mlflow.get_run(run.info.run_id).data.metrics["accuracy"] == 0.5


def test_without_a_run_one_is_started_and_ended(digits: Digits) -> None:
    result = frozen(digits)
    assert mlflow.active_run() is None
    assert mlflow.get_run(result.run_id).info.status == "FINISHED"


def test_freeze_and_quantize_in_one_run_give_one_row_with_both_logs(digits: Digits, experiment: str) -> None:
    with mlflow.start_run() as run:
        first = frozen(digits)
        second = quantized(digits, first)
    assert first.run_id == second.run_id == run.info.run_id
    assert len(MlflowClient().search_runs([experiment])) == 1
    tags = mlflow.get_run(run.info.run_id).data.tags
    assert (tags["aifsm.conversion.log_id"], tags["aifsm.optimization.log_id"]) == (first.log_id, second.log_id)
    assert tags["aifsm.optimization.input_id"] == first.log_id


def test_every_key_begins_with_aifsm(digits: Digits) -> None:
    with mlflow.start_run() as run:
        quantized(digits, frozen(digits, verification=aifsm.Verification(digits.images, digits.labels)))
    data = mlflow.get_run(run.info.run_id).data
    added = [*data.params, *data.metrics, *(tag for tag in data.tags if not tag.startswith("mlflow."))]
    assert len(added) > 40
    assert all(key.startswith("aifsm.") for key in added)


def test_a_second_log_of_the_same_template_goes_to_a_child_run(digits: Digits) -> None:
    with mlflow.start_run() as run:
        first, second = frozen(digits), frozen(digits)
    child = mlflow.get_run(second.run_id)
    assert (first.run_id, child.data.tags["mlflow.parentRunId"]) == (run.info.run_id, run.info.run_id)
    assert child.info.status == "FINISHED"
    assert any(run.info.run_id in note for note in second.record.notes)


def test_nested_false_refuses_a_second_log_instead(digits: Digits) -> None:
    with mlflow.start_run():
        frozen(digits)
        with pytest.raises(InputError, match="holds a conversion log already; pass nested=True"):
            frozen(digits, nested=False)


def test_nested_true_always_takes_a_child_run(digits: Digits) -> None:
    with mlflow.start_run() as run:
        result = frozen(digits, nested=True)
    assert mlflow.get_run(result.run_id).data.tags["mlflow.parentRunId"] == run.info.run_id


def test_a_finished_run_takes_a_log_by_its_id_and_stays_finished(digits: Digits) -> None:
    with mlflow.start_run() as run:
        pass
    result = frozen(digits, run_id=run.info.run_id)
    assert result.run_id == run.info.run_id
    assert mlflow.get_run(run.info.run_id).info.status == "FINISHED"


def test_an_unknown_run_is_named(digits: Digits) -> None:
    with pytest.raises(NotFoundError, match="run 0a1b does not exist"):
        frozen(digits, run_id="0a1b")


def test_threads_write_to_the_runs_they_were_given(digits: Digits) -> None:
    ids = [MlflowClient().create_run(mlflow.get_experiment_by_name("Default").experiment_id).info.run_id for _ in range(2)]
    first = frozen(digits)
    results: dict[str, aifsm.Result] = {}

    def work(run_id: str) -> None:
        results[run_id] = quantized(digits, first, run_id=run_id)

    threads = [threading.Thread(target=work, args=(run_id,)) for run_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {run_id: result.run_id for run_id, result in results.items()} == {run_id: run_id for run_id in ids}
    assert all(mlflow.get_run(run_id).data.tags["aifsm.optimization.log_id"].endswith(run_id[:8]) for run_id in ids)


def test_params_stand_on_the_logged_model_and_metrics_are_linked_to_it(digits: Digits) -> None:
    result = frozen(digits, verification=aifsm.Verification(digits.images, digits.labels))
    model = mlflow.get_logged_model(result.model_uri.removeprefix("models:/"))
    assert model.params["aifsm.elimination.dropout"] == "eliminated"
    assert {metric.key for metric in model.metrics} >= {"aifsm.accuracy", "aifsm.max_diff", "aifsm.size"}


def test_each_log_keeps_its_own_numbers_where_the_metrics_are_those_of_the_last_one(digits: Digits) -> None:
    judged = aifsm.Verification(digits.images, digits.labels)
    with mlflow.start_run() as run:
        quantized(digits, frozen(digits, verification=judged), verification=judged)
    data, client = mlflow.get_run(run.info.run_id).data, MlflowClient()
    for step, log in enumerate(("conversion", "optimization")):
        told = json.loads(data.tags[f"aifsm.{log}.numbers"])
        assert len(told) > 8
        for name, value in told.items():
            points = client.get_metric_history(run.info.run_id, f"aifsm.{name}")
            assert [point.value for point in points if point.step == step] == [value], name


def test_what_logs_are_compared_by_is_checked_as_the_other_tags_are(digits: Digits) -> None:
    result = frozen(digits, verification=aifsm.Verification(aifsm.Data(digits.images, name="held out"), digits.labels))
    tags = mlflow.get_run(result.run_id).data.tags
    assert tags["aifsm.conversion.data_sha256"] == result.verification.data_sha256
    assert (tags["aifsm.conversion.data"], tags["aifsm.conversion.runtime"]) == ("held out", result.verification.runtime)
    assert tags["aifsm.conversion.host"]
    MlflowClient().set_tag(result.run_id, "aifsm.conversion.data_sha256", "0" * 64)
    (evidence,) = audit.read(result.run_id)
    wrong = [check.detail for check in evidence.checks if check.holds is False]
    assert wrong == ["aifsm.conversion.data_sha256 differ"]


def test_before_and_after_are_steps_of_one_metric(digits: Digits) -> None:
    judged = aifsm.Verification(digits.images, digits.labels)
    with mlflow.start_run() as run:
        quantized(digits, frozen(digits, verification=judged), verification=judged)
    history = MlflowClient().get_metric_history(run.info.run_id, "aifsm.size")
    assert [point.step for point in history] == [0, 1]
    assert history[1].value < history[0].value


def test_models_and_data_sets_are_inputs_and_outputs_of_the_run(digits: Digits) -> None:
    first = frozen(digits)
    judged = aifsm.Verification(aifsm.Data(digits.images, name="held out"), digits.labels)
    second = quantized(digits, first, verification=judged)
    run = mlflow.get_run(second.run_id)
    assert [model.model_id for model in run.inputs.model_inputs] == [first.model_uri.removeprefix("models:/")]
    assert [model.model_id for model in run.outputs.model_outputs] == [second.model_uri.removeprefix("models:/")]
    named = {used.dataset.name: {tag.key: tag.value for tag in used.tags} for used in run.inputs.dataset_inputs}
    contexts = {name: tags["mlflow.data.context"] for name, tags in named.items()}
    assert all(len(tags["aifsm.sha256"]) == 64 for tags in named.values())
    assert contexts["held out"] == "verification"
    assert "calibration" in contexts.values()


def test_a_given_id_is_used_and_a_second_log_of_it_supersedes_the_first(digits: Digits) -> None:
    first = frozen(digits, log_id="digits-17")
    second = frozen(digits, log_id="digits-17")
    assert first.record.supersedes is None
    assert second.record.supersedes is not None
    assert (second.record.supersedes.run_id, second.record.supersedes.sha256) == (first.run_id, first.record.sha256)


def test_a_superseded_log_says_which_one_took_its_place_and_is_not_broken_by_it(digits: Digits) -> None:
    first, second = frozen(digits, log_id="digits-18"), frozen(digits, log_id="digits-18")
    (older,), (newer,) = audit.read(first.run_id), audit.read(second.run_id)
    said = [check for check in older.checks if "supersedes" in check.detail]
    assert [(check.holds, check.detail) for check in said] == [(None, f"the log of run {second.run_id} supersedes this one")]
    assert older.status is first.record.status
    assert not any("supersedes" in check.detail for check in newer.checks)


@pytest.mark.parametrize("log_id", ["a'b", "", "a b", "../x", "ö"])
def test_an_id_that_could_not_be_searched_for_is_refused(digits: Digits, log_id: str) -> None:
    with pytest.raises(InputError, match="log id"):
        frozen(digits, log_id=log_id)


def test_a_declared_field_of_the_run_is_found_where_its_definition_says(digits: Digits) -> None:
    result = frozen(digits)
    key = "aifsm.model.data_sets"
    assert result.record.entries[key].state is State.NOT_RECORDED
    assert key not in mlflow.get_run(result.run_id).data.params
    aifsm.declare(result.run_id, "data_sets", "digits 1.0, first 1,200 images", by="A. Ito")
    assert mlflow.get_run(result.run_id).data.params[key] == "digits 1.0, first 1,200 images"
    entry = aifsm.load_record(result.run_id).entries[key]
    assert (entry.state, entry.source.by) == (State.DECLARED, "A. Ito")
    assert result.record.sha256 == mlflow.get_run(result.run_id).data.tags["aifsm.conversion.record_sha256"]


def test_an_external_converter_is_recorded_by_the_context_manager(digits: Digits, tmp_path) -> None:
    given = frozen(digits)
    model = onnx.load(given.path)
    onnx.save(model, tmp_path / "vendor.onnx")
    with aifsm.record_conversion(verified_model="detector_4", converter="onnxscript") as log:
        log.output(tmp_path / "vendor.onnx")
        log.declare("training_run", "run 17 on the cluster", by="A. Ito")
    record = log.result.record
    assert record.entries["aifsm.conversion.framework"].value.text.startswith("onnxscript ")
    assert record.entries["aifsm.elimination.dropout"].state is State.MEASURED
    assert record.entries["aifsm.model.training_run"].state is State.DECLARED
    assert record.log_id.startswith("detector_4-MC-")


def test_a_body_that_raises_is_logged_as_failed_and_its_exception_goes_on(experiment: str) -> None:
    with pytest.raises(ZeroDivisionError), aifsm.record_conversion(verified_model="detector_4"):
        _ = 1 / 0
    (run,) = MlflowClient().search_runs([experiment])
    assert (run.info.status, run.data.tags["aifsm.conversion.status"]) == ("FAILED", "failed")
    assert aifsm.load_record(run.info.run_id).failure == "ZeroDivisionError: division by zero"


def test_every_field_is_in_the_run_where_its_definition_says(digits: Digits) -> None:
    with mlflow.start_run() as run:
        first = frozen(digits)
        second = quantized(digits, first)
    data = mlflow.get_run(run.info.run_id).data
    places = {"tag": data.tags, "param": data.params, "metric": data.metrics}
    for log, result in (("conversion", first), ("optimization", second)):
        for field in load(log).fields:
            recorded = result.record.entries[field.key].state is not State.NOT_RECORDED
            assert (field.key in places[field.log_as]) is recorded, field.key
