"""Quantization-aware training: what the log holds is what happened, looked up on the real file and in the real run."""

from __future__ import annotations

from pathlib import Path

import mlflow
import onnx
import pytest
import torch

import mlflow_aifsm as aifsm
from mlflow_aifsm import audit
from mlflow_aifsm.capture import quantizers
from mlflow_aifsm.facts import State
from mlflow_aifsm.verification import integer_execution
from tests.models import digits
from tests.operations.qat_training import begun, beside, codes, entry, epoch, held_out, run, trained, training_data


@pytest.fixture(scope="module")
def done(database: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[aifsm.Result, aifsm.Result, str]:
    """A training of two epochs with a schedule, frozen and verified: results of optimization and conversion, and the run."""
    place = tmp_path_factory.mktemp("qat")
    mlflow.set_tracking_uri(database)
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(str(place), artifact_location=(place / "artifacts").as_uri()))
    with mlflow.start_run() as active, begun(training_data=training_data(), base="digits-MO-ptq") as qat:
        optimizer = torch.optim.Adam(qat.model.parameters(), 1e-3, weight_decay=1e-4)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        qat.optimizer(optimizer, scheduler)
        for _ in range(2):
            loss = epoch(qat.model, optimizer, 256)
            scheduler.step()
            qat.epoch(loss=loss)
    int8 = qat.freeze(verification=held_out())
    assert qat.conversion is not None
    return int8, qat.conversion, active.info.run_id


def test_one_run_holds_both_logs_of_one_file(done: tuple[aifsm.Result, aifsm.Result, str]) -> None:
    int8, conversion, run_id = done
    tags = mlflow.MlflowClient().get_run(run_id).data.tags
    assert int8.run_id == conversion.run_id == run_id
    assert tags["aifsm.optimization.output_sha256"] == tags["aifsm.conversion.output_sha256"] == int8.record.output_sha256
    assert tags["aifsm.optimization.status"] != "failed"
    assert {evidence.record.template.log for evidence in audit.read(run_id)} == {"conversion", "optimization"}


def test_both_rows_are_answered_by_measurement(done: tuple[aifsm.Result, aifsm.Result, str]) -> None:
    int8, _, _ = done
    assert entry(int8, "qat").state is State.MEASURED
    assert entry(int8, "learned").state is State.MEASURED
    told = entry(int8, "qat").value.data
    assert told["epochs"] == 2
    assert told["steps"] == 8
    assert 0 < told["codes_changed"] <= told["codes"] == 3856
    assert {"no_training_step", "learned_scale_unchanged", "scale_not_as_trained", "file_not_as_trained"}.isdisjoint(
        codes(int8)
    )


def test_the_training_stands_in_the_log_as_it_was(done: tuple[aifsm.Result, aifsm.Result, str]) -> None:
    int8, _, _ = done
    group = beside(int8, "optimizer").value.data[0]
    assert group["class"] == "Adam"
    assert group["rates"] == [[1e-3, 4.0], [5e-4, 4.0]]
    assert group["settings"]["weight_decay"] == 1e-4
    assert beside(int8, "schedule").value.data == [{"class": "ExponentialLR", "settings": {"gamma": 0.5}}]
    assert beside(int8, "data").value.data["name"] == "digits, training"
    assert beside(int8, "seeds").value.data[0]["seed"] == 0
    assert beside(int8, "base").value.data["log_id"] == "digits-MO-ptq"
    assert beside(int8, "batch_normalization").value.data["moved"] == ["features.1", "features.4"]
    assert "nncf.quantize(" in beside(int8, "ranges").value.text
    assert beside(int8, "agreement").value.data["largest"] <= 1
    assert len(beside(int8, "metrics").value.data["loss"]) == 2


def test_metrics_by_epoch_are_stepped_metrics_of_the_run(done: tuple[aifsm.Result, aifsm.Result, str]) -> None:
    _, _, run_id = done
    history = mlflow.MlflowClient().get_metric_history(run_id, "aifsm.qat.loss")
    assert [point.step for point in history] == [1, 2]
    rates = mlflow.MlflowClient().get_metric_history(run_id, "aifsm.qat.learning_rate")
    assert [point.value for point in rates] == [1e-3, 5e-4]


def test_the_data_sets_are_inputs_of_the_run_with_their_context(done: tuple[aifsm.Result, aifsm.Result, str]) -> None:
    _, _, run_id = done
    listed = mlflow.MlflowClient().get_run(run_id).inputs.dataset_inputs
    found = {used.dataset.name: {tag.value for tag in used.tags} for used in listed}
    assert "training" in found["digits, training"]
    assert "calibration" in found["calibration"]


def test_the_table_holds_each_scale_before_and_after(done: tuple[aifsm.Result, aifsm.Result, str]) -> None:
    int8, _, run_id = done
    (evidence,) = audit.read(run_id, "optimization")
    rows = evidence.tables["learned"]
    file = {row.label: row for row in quantizers.read(int8.path)}
    assert len(rows) == 8
    for row in rows:
        assert row["changed"]
        assert row["in_file"]
        assert row["learning_rate"] == 5e-4
        assert row["largest_move"] > 0
        assert row["scale_before_max"] != row["scale_after_max"]
        if row["kind"] == "activation":
            assert file[row["tensor"]].scale == pytest.approx((row["scale_after_max"],), rel=1e-6)


def test_the_file_is_integer_and_onnx_runtime_runs_it_so(done: tuple[aifsm.Result, aifsm.Result, str]) -> None:
    int8, _, _ = done
    model = onnx.load(int8.path)
    assert {node.op_type for node in model.graph.node}.isdisjoint({"BatchNormalization", "Dropout"})
    assert integer_execution.float_layers(int8.path) == []
    assert beside(int8, "float_layers").value.data == {}
    assert int8.record.entries["aifsm.ptq.precision"].value.data["weights"] == ["int8"]


def test_the_conversion_says_that_the_model_was_changed_after_its_verification(
    done: tuple[aifsm.Result, aifsm.Result, str],
) -> None:
    _, conversion, _ = done
    assert "changed_after_verification" in {finding.code for finding in conversion.findings}
    assert any("within 1 step" in note or "within 0 steps" in note for note in conversion.record.notes)
    assert conversion.verification is not None
    assert conversion.verification.passed


def test_the_given_module_is_not_changed_and_the_copy_has_its_modes(experiment: str) -> None:
    model = trained().train()
    model.head.eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with aifsm.quantization_aware_training(model, digits()[0][:32], aifsm.Static(subset_size=32)) as qat:
        assert qat.model is not model
        assert qat.model.training
        assert qat.model.features.training
        assert not qat.model.head.training
        epoch(qat.model, torch.optim.SGD(qat.model.parameters(), 0.1), 64)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())
    assert model.training
    assert not hasattr(model, "__nncf_hooks")


def test_a_run_that_was_started_for_it_is_ended_and_says_failed_until_the_model_is_frozen(experiment: str) -> None:
    with begun() as qat:
        epoch(qat.model, torch.optim.SGD(qat.model.parameters(), 0.01), 64)
    found = mlflow.MlflowClient().get_run(qat.run_id)
    assert mlflow.active_run() is None
    assert found.info.status == "FINISHED"
    assert found.data.tags["aifsm.optimization.status"] == "failed"
    int8 = qat.freeze()
    tags = mlflow.MlflowClient().get_run(qat.run_id).data.tags
    assert tags["aifsm.optimization.status"] == str(int8.record.status)
    with pytest.raises(aifsm.AifsmError, match="is finished"):
        qat.freeze()


def test_a_loop_that_fails_leaves_a_log_that_says_why(experiment: str) -> None:
    with pytest.raises(ZeroDivisionError), begun() as qat:
        raise ZeroDivisionError("out of patience")
    assert aifsm.load_record(qat.run_id).failure == "ZeroDivisionError: out of patience"


def test_what_was_not_told_is_not_recorded_and_the_remedy_is_named(experiment: str) -> None:
    with begun() as qat:
        optimizer = torch.optim.SGD(qat.model.parameters(), 0.01)
        epoch(qat.model, optimizer, 128)
        optimizer.param_groups[0]["lr"] = 0.001
        epoch(qat.model, optimizer, 128)
    int8 = qat.freeze()
    for name, remedy in {
        "epochs": "qat.epoch()",
        "metrics": "qat.epoch(",
        "schedule": "qat.optimizer(",
        "data": "training_data=",
    }.items():
        fact = beside(int8, name)
        assert fact.state is State.NOT_RECORDED
        assert remedy in fact.remedy
    assert beside(int8, "optimizer").value.data[0]["rates"] == [[0.01, 2.0], [0.001, 2.0]]


def test_fixed_scales_are_proven_to_be_those_of_calibration(experiment: str) -> None:
    qat = run(learn_scales=False)
    row = entry(qat.freeze(), "learned")
    assert row.state is State.NOT_APPLICABLE
    assert "8 of 8 quantizers are those of calibration" in row.reason
    assert row.findings == ()


def test_fixed_scales_that_changed_are_a_finding(experiment: str) -> None:
    with begun(learn_scales=False) as qat:
        epoch(qat.model, torch.optim.SGD([one for one in qat.model.parameters() if one.requires_grad], 0.01), 64)
        first = next(one for name, one in qat.model.named_parameters() if name.endswith("_scale_param_storage"))
        with torch.no_grad():
            first *= 1.5
    assert "fixed_scale_changed" in codes(qat.freeze())


def test_scales_claimed_as_learned_that_no_optimizer_had_are_a_finding(experiment: str) -> None:
    with begun() as qat:
        weights = [one for name, one in qat.model.named_parameters() if "__nncf_hooks" not in name]
        epoch(qat.model, torch.optim.SGD(weights, 0.05), 128)
    found = [one for one in qat.freeze().findings if one.code == "learned_scale_unchanged"]
    assert len(found) == 1
    assert "8 of them in no parameter group" in found[0].measured


def test_a_freeze_before_any_step_is_a_finding_seen_on_the_weights(experiment: str) -> None:
    with begun() as qat:
        qat.epoch(accuracy=0.99)
    int8 = qat.freeze()
    assert {"no_training_step", "learned_scale_unchanged"} <= codes(int8)
    assert entry(int8, "qat").value.data["codes_changed"] == 0


def test_a_file_that_differs_from_the_trained_model_is_a_finding(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow_aifsm.backends import integer_export

    honest = integer_export.saved

    def tampered(model: onnx.ModelProto) -> Path:
        scale = next(one for one in model.graph.initializer if one.name == "features.6.weight_scale")
        scale.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) * 1.5, scale.name))
        return honest(model)

    monkeypatch.setattr(integer_export, "saved", tampered)
    assert {"file_not_as_trained", "scale_not_as_trained"} <= codes(run().freeze())


def test_both_logs_name_the_same_source_of_the_responsible_person(done: tuple[aifsm.Result, aifsm.Result, str]) -> None:
    int8, conversion, _ = done
    sources = {result.record.entry_of("log.responsible").source.origin for result in (int8, conversion)}
    assert len(sources) == 1
    assert sources != {"argument responsible"}
