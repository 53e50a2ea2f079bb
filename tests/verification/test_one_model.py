"""Verification where the delivered file is all there is, and the default epsilon of coarse element types."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from mlflow_aifsm.verification.criterion import CONVERSION, Criterion, Verification
from mlflow_aifsm.verification.run import verify

Model = Callable[..., Path]
X = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)


def test_a_file_alone_is_judged_by_its_own_outputs_and_compared_with_nothing(
    model: Model, product: Callable[..., list[np.ndarray]]
) -> None:
    labels = product({"x": X})[0].argmax(axis=1)
    result, facts = verify(model(), None, Verification(X, labels=labels), CONVERSION)
    assert (result.passed, result.samples, result.epsilon) == (True, 50, None)
    assert "no reference model" in result.criterion
    assert result.numbers["accuracy_after"] == 1.0
    assert result.numbers["repeat_diff"] == 0.0
    assert result.numbers.keys().isdisjoint({"max_diff", "flips", "agreement", "accuracy_before", "accuracy_drop", "sqnr_db"})
    texts = {fact.name: fact.value.text for fact in facts}
    assert texts["verification.accuracy"] == "1.0000"
    assert set(texts) == {"verification.result", "verification.accuracy"}


def test_a_limit_that_compares_cannot_be_held_without_a_reference(model: Model) -> None:
    result, facts = verify(model(), None, Verification(X, epsilon=1e-4), CONVERSION)
    assert not result.passed
    assert "max could not be measured" in facts[0].findings[0].measured


@pytest.mark.parametrize(
    ("operator", "said"),
    [("Sqrt", "output values are NaN or infinite"), ("RandomNormalLike", "two runs of the same batch differ")],
)
def test_a_file_alone_that_gives_nan_or_another_output_each_time_fails(model: Model, operator: str, said: str) -> None:
    path = model(nodes=[helper.make_node(operator, ["p"], ["y"])])
    result, _ = verify(path, None, Verification(X), CONVERSION)
    assert not result.passed
    assert said in result.failure


def test_outputs_of_the_target_device_are_compared_with_the_file_on_this_host(
    model: Model, product: Callable[..., list[np.ndarray]]
) -> None:
    outputs = product({"x": X})[0]
    same, _ = verify(model(), None, Verification(X, outputs=outputs), CONVERSION)
    other, _ = verify(model(), None, Verification(X, outputs=outputs + 1), CONVERSION)
    assert (same.passed, same.epsilon, same.target) == (True, 1e-4, "target device")
    assert (other.passed, round(float(other.numbers["max_diff"]), 4)) == (False, 1.0)


@pytest.mark.parametrize(
    ("types", "epsilon"),
    [
        (("float32",), 1e-4),
        (("float64", "int64"), 1e-4),
        (("float32", "float16"), 10 / 1024),
        (("bfloat16", "float16"), 10 / 128),
    ],
)
def test_the_default_epsilon_is_ten_units_of_rounding_of_the_coarsest_output(types: tuple[str, ...], epsilon: float) -> None:
    widened = CONVERSION.for_outputs(types)
    assert widened.epsilon == pytest.approx(epsilon)
    assert widened.justification.endswith("not justified")
    assert not widened.declared


def test_an_epsilon_that_a_person_set_is_never_widened() -> None:
    assert Criterion(epsilon=1e-6).for_outputs(("float16",)).epsilon == 1e-6
