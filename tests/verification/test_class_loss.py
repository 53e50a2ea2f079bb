"""Classes that lost more than chance explains: exact for few samples, honest about many classes, silent under a limit."""

from __future__ import annotations

from collections.abc import Callable
from math import comb
from pathlib import Path

import numpy as np
import pytest

from mlflow_aifsm.facts import Facts, captured, not_applicable
from mlflow_aifsm.verification.criterion import OPTIMIZATION, Verification
from mlflow_aifsm.verification.decisions import Decisions, Recall, lost_classes
from mlflow_aifsm.verification.outcome import WORST_CLASS
from mlflow_aifsm.verification.run import verify
from mlflow_aifsm.verifying import lost_classes as placed

Model = Callable[..., Path]
Product = Callable[[dict[str, np.ndarray]], list[np.ndarray]]
X = np.random.default_rng(1).normal(size=(400, 6)).astype(np.float32)


def recall(samples: int, lost: int, won: int = 0, label: str = "it") -> Recall:
    return Recall(label, samples, 1 - won / samples, 1 - lost / samples, lost, won)


def others(count: int) -> list[Recall]:
    return [recall(40, 0, label=str(number)) for number in range(count)]


@pytest.mark.parametrize(("samples", "fewest"), [(2, 2), (3, 3), (40, 7), (150, 16)])
def test_as_many_samples_must_be_lost_as_the_binomial_distribution_rules_out(samples: int, fewest: int) -> None:
    def tail(count: int) -> float:
        return sum(comb(samples, k) * 0.05**k * 0.95 ** (samples - k) for k in range(count, samples + 1))

    assert tail(fewest) < 0.05 / 10 <= tail(fewest - 1)
    assert [one.label for one in lost_classes([recall(samples, fewest), *others(9)], 0.05)] == ["it"]
    assert lost_classes([recall(samples, fewest - 1), *others(9)], 0.05) == ()


def test_one_sample_of_a_class_shows_nothing() -> None:
    assert lost_classes([recall(1, 1)], 0.05) == ()
    assert lost_classes([recall(1, 1), *others(9)], 0.05) == ()


def test_the_more_classes_there_are_the_more_the_worst_of_them_must_have_lost() -> None:
    assert lost_classes([recall(40, 7), *others(9)], 0.05)
    assert not lost_classes([recall(40, 7), *others(999)], 0.05)


def test_samples_that_were_won_are_set_against_those_that_were_lost() -> None:
    assert lost_classes([recall(40, 8), *others(9)], 0.05)
    assert not lost_classes([recall(40, 8, won=6), *others(9)], 0.05)
    assert not lost_classes([recall(40, 0, won=40)], 0.05)


def test_the_class_that_lost_most_comes_first() -> None:
    found = lost_classes([recall(40, 20, label="half"), recall(10, 10, label="all"), *others(3)], 0.05)
    assert [one.label for one in found] == ["all", "half"]


def test_lost_and_won_samples_are_counted_by_class() -> None:
    decisions = Decisions()
    decisions.add(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 0, 0, 1]), np.array([0, 0, 0, 1, 1]), 5)
    assert [(one.label, one.lost, one.won) for one in decisions.recalls] == [("0", 1, 1), ("1", 1, 0)]


@pytest.fixture
def without_a_class(model: Model) -> Path:
    """The model whose last class scores nothing any more."""

    def cut(weights: np.ndarray) -> np.ndarray:
        return np.where(np.arange(weights.shape[1]) == weights.shape[1] - 1, 0, weights).astype(weights.dtype)

    return model("cut", cut)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"limits": {"accuracy_drop": 0.9}}, True),
        ({}, True),
        ({"limits": {"worst_class_drop": 1.0}}, False),
        ({"limits": {"worst_class_recall": 0.0}}, False),
        ({"epsilon": 100.0}, False),
    ],
)
def test_it_is_found_unless_the_caller_says_what_a_class_may_lose(
    asked: dict[str, object], found: bool, without_a_class: Path, model: Model, product: Product
) -> None:
    labels = product({"x": X})[0].argmax(axis=1)
    _, facts = verify(without_a_class, model(), Verification(X, labels, **asked), OPTIMIZATION)  # type: ignore[arg-type]
    (fact,) = (fact for fact in facts if fact.name == WORST_CLASS)
    assert [one.code for one in fact.findings] == ["worst_class_lost"] * found
    if found:
        assert fact.findings[0].measured.startswith("class 3: 1.0000 before, ")


@pytest.mark.parametrize(
    ("known", "holder"),
    [
        (("pruning.call", "input.id"), "pruning.call"),
        (("quantization.call", "pruning.call", "input.id"), "quantization.call"),
        (("input.id",), "input.id"),
    ],
)
def test_the_finding_stands_where_the_log_says_what_was_done(
    known: tuple[str, ...], holder: str, without_a_class: Path, model: Model, product: Product
) -> None:
    labels = product({"x": X})[0].argmax(axis=1)
    _, verified = verify(without_a_class, model(), Verification(X, labels), OPTIMIZATION)
    rest = [not_applicable("quantization.call", "not quantized", source="test")] if "quantization.call" not in known else []
    facts = Facts().with_facts([*rest, *(captured(name, name, source="test") for name in known)])
    (fact,) = placed(verified, facts)
    assert (fact.name, [one.code for one in fact.findings]) == (holder, ["worst_class_lost"])
