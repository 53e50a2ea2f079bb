"""What a run says about training, from the plain data of a run."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mlflow_aifsm.capture.training_run import facts
from mlflow_aifsm.facts import Fact, State

RUN = "0123456789abcdef"


def by_name(
    params: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
    datasets: tuple[Mapping[str, str], ...] = (),
    flavor: str = "",
) -> dict[str, Fact]:
    return {fact.name: fact for fact in facts(RUN, params or {}, metrics or {}, tags or {}, datasets, flavor)}


def test_a_silent_run_leaves_techniques_unknown_and_says_what_would_tell() -> None:
    found = by_name({"epochs": "3", "lr": "0.1", "optimizer_name": "SGD"})
    clipping = found["training.gradient_clipping"]
    assert clipping.state is State.NOT_RECORDED
    assert clipping.reason == f"run {RUN} names no gradient clipping"
    assert clipping.remedy == "mlflow.log_param('gradient_clip_val', …) in the training run"
    unknown = {name for name, fact in found.items() if fact.state is State.NOT_RECORDED}
    assert unknown == set(found) - {"training.run"}
    assert all(found[name].reason and found[name].remedy and not found[name].value.text for name in unknown)


def test_what_autologging_of_lightning_writes_is_understood() -> None:
    params = {"optimizer_name": "SGD", "lr": "0.1", "momentum": "0", "weight_decay": "0", "decoupled_weight_decay": "False"}
    found = by_name(params, tags={"mlflow.autologging": "pytorch"})
    assert found["training.weight_regularization"].value.text == "not used (weight_decay=0)"
    assert found["training.weight_regularization"].value.short == "not used"
    assert found["training.lr_scheduling"].state is State.NOT_RECORDED
    assert found["training.framework"].value.text == "pytorch (autologging of the run; version not named)"


@pytest.mark.parametrize(
    ("fact", "params", "text"),
    [
        ("weight_regularization", {"weight_decay": "0.0001"}, "weight_decay=0.0001"),
        ("weight_regularization", {"l2": "1e-3", "l1": "0.0"}, "l2=1e-3"),
        ("weight_regularization", {"optimizer/weight-decay": "0.1"}, "optimizer/weight-decay=0.1"),
        ("gradient_clipping", {"gradient_clip_val": "None"}, "not used (gradient_clip_val=None)"),
        (
            "gradient_clipping",
            {"trainer.gradient_clip_val": "0.5", "trainer.gradient_clip_algorithm": "norm"},
            "trainer.gradient_clip_val=0.5, trainer.gradient_clip_algorithm=norm",
        ),
        ("gradient_clipping", {"max_grad_norm": "1.0"}, "max_grad_norm=1.0"),
        ("gradient_clipping", {"clip_grad_norm": "5"}, "clip_grad_norm=5"),
        (
            "lr_scheduling",
            {"scheduler": "StepLR", "gamma": "0.1", "step_size": "7"},
            "scheduler=StepLR, gamma=0.1, step_size=7",
        ),
        ("lr_scheduling", {"lr_scheduler_type": "constant"}, "not used (lr_scheduler_type=constant)"),
        ("lr_scheduling", {"lr_schedule": "cosine"}, "lr_schedule=cosine"),
    ],
)
def test_parameters_that_people_log_are_understood(fact: str, params: Mapping[str, str], text: str) -> None:
    found = by_name(params)[f"training.{fact}"]
    assert (found.state, found.value.text, str(found.source)) == (State.CAPTURED, text, f"run {RUN}")
    assert found.value.data == {"params": dict(params)}


def test_a_detail_alone_is_a_hint_and_no_answer() -> None:
    found = by_name({"gamma": "2.0"})["training.lr_scheduling"]
    assert found.state is State.NOT_RECORDED
    assert found.reason == f"run {RUN} names no learning-rate schedule; gamma=2.0 may belong to one"


@pytest.mark.parametrize("name", ["l2_normalize", "weight", "clip_embeddings", "lr", "schedule_id", "width", "gradient"])
def test_other_parameters_answer_nothing(name: str) -> None:
    found = by_name({name: "1"})
    assert {fact.state for key, fact in found.items() if key != "training.run"} == {State.NOT_RECORDED}


def test_metrics_are_the_users_own_and_judging_ones_come_first() -> None:
    metrics = {f"m{number}": float(number) for number in range(6)}
    own = {"val_accuracy": 0.97412345, "evaluations": 1.0, **metrics}
    found = by_name(metrics={**own, "aifsm.accuracy": 0.5, "system/cpu": 9.0})["training.metrics"]
    assert found.value.text == "val_accuracy 0.974123, evaluations 1, m0 0, m1 1, m2 2, m3 3 and 2 more"
    assert found.value.data == own


def test_run_data_sets_and_framework_are_named() -> None:
    datasets = ({"name": "digits", "context": "training", "digest": "1a2b"}, {"name": "held out"})
    found = by_name(tags={"mlflow.runName": "gentle-fox"}, datasets=datasets, flavor="PyTorch 2.13.0")
    assert found["training.run"].value.text == f"gentle-fox ({RUN})"
    assert found["training.data_sets"].value.text == "digits (training, digest 1a2b); held out"
    assert found["training.data_sets"].value.data == [dict(dataset) for dataset in datasets]
    assert found["training.framework"].value.text == "PyTorch 2.13.0"
