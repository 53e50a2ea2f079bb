"""What was not judged, not run or not probed is said, and never looks like a verification that held."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from mlflow_aifsm.verification.criterion import CONVERSION, OPTIMIZATION, Verification
from mlflow_aifsm.verification.run import verify

Model = Callable[..., Path]
Product = Callable[[dict[str, np.ndarray]], list[np.ndarray]]
X = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
NOISE = np.random.default_rng(2).normal(size=(50, 4)).astype(np.float32)
DEVICE = "repeat, batch invariance: outputs came from the target device"


@pytest.fixture
def labels(product: Product) -> np.ndarray:
    return product({"x": X})[0].argmax(axis=1)


def test_labels_with_an_axis_of_length_1_keep_the_default_limit(model: Model, labels: np.ndarray) -> None:
    permuted = model("permuted", lambda weights: np.roll(weights, 1, axis=1))
    result, _ = verify(permuted, model(), Verification(X, labels=labels[:, None]), OPTIMIZATION)
    assert (result.passed, result.criterion) == (False, "accuracy_drop ≤ 0.01")
    assert result.numbers["accuracy_before"] == 1.0


def test_labels_that_fit_no_decision_fail_with_that_reason(model: Model, labels: np.ndarray) -> None:
    result, _ = verify(model(), model("same"), Verification(X, labels=np.eye(4)[labels]), OPTIMIZATION)
    assert not result.passed
    assert "labels do not fit the decisions; got shape [50, 4]; expected shape [50]" in result.failure


def test_a_metric_of_the_caller_may_judge_labels_of_another_shape(model: Model, labels: np.ndarray) -> None:
    def hits(given: np.ndarray, decisions: np.ndarray) -> float:
        return float(given[np.arange(len(decisions)), decisions].mean())

    asked = Verification(X, labels=np.eye(4)[labels], metrics={"hits": hits}, limits={"hits_drop": 0.0})
    result, _ = verify(model(), model("same"), asked, OPTIMIZATION)
    assert (result.passed, result.numbers["hits_after"]) == (True, 1.0)


def _cube(batch: dict[str, np.ndarray]) -> np.ndarray:
    return np.zeros((len(batch["x"]), 4, 1), np.float32)


def test_outputs_that_decide_nothing_are_run_and_not_verified(model: Model, labels: np.ndarray) -> None:
    result, facts = verify(model(), _cube, Verification(X, labels=labels, outputs=NOISE[:, :, None]), OPTIMIZATION)
    assert (result.passed, result.judged, result.criterion) == (True, False, "no limit was set")
    assert facts[0].value.text.startswith("Run on target device, no criterion set. Criterion: no limit was set.")
    assert facts[0].value.short == "no criterion"
    assert "accuracy: there are labels, but the outputs decide nothing" in result.numbers["not_probed"]


def test_random_outputs_of_a_device_do_not_pass_for_want_of_limits(model: Model, product: Product) -> None:
    result, _ = verify(model(), product, Verification(X, outputs=NOISE), OPTIMIZATION)
    assert (result.passed, result.criterion) == (False, "agreement ≥ 0.99")


def test_without_a_reference_there_is_no_criterion(model: Model) -> None:
    result, _ = verify(model(), None, Verification(X), CONVERSION)
    assert (result.passed, result.verdict) == (True, "run on this host, no criterion set")


@pytest.mark.parametrize("default", [CONVERSION, OPTIMIZATION])
def test_nan_of_the_delivered_model_fails_though_the_reference_gives_it_too(model: Model, default: Any) -> None:
    root = [helper.make_node("Sqrt", ["p"], ["y"])]
    result, _ = verify(model("one", nodes=root), model("two", nodes=root), Verification(X), default)
    assert not result.passed
    assert "output values are NaN or infinite" in result.failure
    assert "two runs" not in result.failure
    assert result.numbers["repeat_diff"] == 0.0


def test_infinities_that_both_models_share_are_counted_apart(model: Model, product: Product) -> None:
    shared = product({"x": X})[0]
    shared[3, 1], shared[4, 2] = math.inf, -math.inf
    result, _ = verify(model(), lambda _: shared, Verification(X, outputs=shared.copy(), batch_size=50), CONVERSION)
    assert (result.passed, result.numbers["infinite_in_both"], result.numbers["non_finite"]) == (True, 2, 0)


@pytest.mark.parametrize(("runtime", "said"), [("", "runtime not recorded"), ("TensorRT 10.3", "TensorRT 10.3")])
def test_the_runtime_of_a_device_is_not_that_of_this_host(model: Model, product: Product, runtime: str, said: str) -> None:
    brought = Verification(X, outputs=product({"x": X})[0], runtime=runtime)
    result, facts = verify(model(), product, brought, CONVERSION)
    assert (result.passed, result.runtime) == (True, f"target device, {said}")
    assert result.numbers["not_probed"] == DEVICE
    assert not any("ONNX Runtime" in f"{fact.source.origin} {fact.value.text}" for fact in facts)
    assert all(fact.source.origin.count("target device") == 1 for fact in facts)


@pytest.mark.parametrize(
    ("batch", "size", "why"), [(8, 32, "the file fixes its batch at 8"), ("n", 1, "the first batch held one sample")]
)
def test_batch_invariance_that_was_not_probed_is_said(
    model: Model, product: Product, batch: str | int, size: int, why: str
) -> None:
    result, _ = verify(model(batch=batch), product, Verification(X, batch_size=size), CONVERSION)
    assert result.numbers["not_probed"] == f"batch invariance: {why}"
    assert result.numbers["repeat_diff"] == 0.0
    alone, _ = verify(model(batch=batch), None, Verification(X, batch_size=size), CONVERSION)
    assert alone.numbers["not_probed"] == f"batch invariance: {why}"


def test_outputs_without_a_batch_axis_are_not_said_to_be_invariant(model: Model) -> None:
    summed = model(nodes=[helper.make_node("ReduceSum", ["p"], ["y"], keepdims=0)])
    result, _ = verify(summed, summed, Verification(X), CONVERSION)
    assert "batch_invariance" not in result.numbers
    assert result.numbers["not_probed"] == "batch invariance: no output has a batch axis"
