"""Faults of a pruning that only one measure shows: everything else about the model is in order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from torch.nn.utils import prune

from mlflow_aifsm import audit
from mlflow_aifsm.errors import OptimizationError
from mlflow_aifsm.operations.pruning import Magnitude
from mlflow_aifsm.validation import bench, pruning, runner
from mlflow_aifsm.validation.workplace import workplace


@pytest.fixture(scope="module", autouse=True)
def place() -> Iterator[None]:
    bench.forget()
    with workplace():
        yield
    bench.forget()


def test_a_lost_class_is_the_only_thing_said_of_a_model_whose_accuracy_even_rises() -> None:
    made = pruning.rare_class_lost_while_accuracy_holds.make()
    assert made.verification is not None
    assert made.verification.passed
    assert made.verification.numbers["accuracy_drop"] <= 0
    (finding,) = made.findings
    assert (finding.code, finding.field) == ("worst_class_lost", "aifsm.pruning.additional")
    (log,) = audit.read(made.run_id)
    assert [one.code for one in log.record.open_findings] == ["worst_class_lost"]


def test_a_class_limit_of_the_caller_takes_the_place_of_the_default() -> None:
    judged = bench.held_out()
    config = Magnitude(0.1, "local", "channel", layers=("fc",))
    for limits, codes in (({"accuracy_drop": 0.5}, ["worst_class_lost"]), ({"worst_class_drop": 1.0}, [])):
        asked = type(judged)(judged.data, judged.labels, limits=limits, reason="a test")
        made = bench.pruned(bench.good(), config, asked)
        assert [one.code for one in made.findings] == codes


def test_the_functions_of_the_tools_are_back_after_each_trial() -> None:
    before = prune.ln_structured

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("in it")

    with pytest.raises(OptimizationError, match="in it"), pruning._replaced(prune, "ln_structured", broken):
        bench.pruned(bench.network(), Magnitude(0.25, "local", "channel", layers=("conv",)))
    assert prune.ln_structured is before


def test_a_module_that_is_pruned_is_judged_by_its_optimization_log_and_not_by_the_conversion_beside_it() -> None:
    made = bench.sparse()
    assert {log.record.template.log for log in audit.read(made.run_id)} == {"conversion", "optimization"}
    assert runner._ran(runner.good_models.pruned_and_trained_in_steps) == ((), True)
    seen, caught = runner._ran(pruning.pruned_after_its_verification_and_frozen)
    assert caught
    assert len(seen) == 1
