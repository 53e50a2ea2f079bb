"""What is known of calibration samples after they were read."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import pytest

from mlflow_aifsm.calibration.observer import observe
from mlflow_aifsm.calibration.reading import Reading, Seen, Witness
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.samples import Data, Samples
from mlflow_aifsm.verification.session import OnnxSession

VALUES = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 3])


@pytest.fixture
def file(graph: Callable[..., Path]) -> Callable[..., Path]:
    return lambda batch="n": graph([onnx.helper.make_node("Neg", ["x"], ["y"])], batch=batch)


def reading(path: Path, values: np.ndarray = VALUES, labels: np.ndarray | None = LABELS) -> Reading:
    return Reading(Samples.of(Data(values, labels=labels)), OnnxSession(path))


def test_samples_come_one_at_a_time_again_and_again(file: Callable[..., Path]) -> None:
    read = reading(file())
    for _ in range(2):
        assert np.array_equal(np.concatenate([batch["x"] for batch in read]), VALUES)
    assert {batch["x"].shape for batch in read} == {(1, 3)}
    assert read.seen == Seen(10, 4, ())


def test_a_fixed_batch_gets_full_batches_only(file: Callable[..., Path]) -> None:
    read = reading(file(4))
    assert [batch["x"].shape for batch in read] == [(4, 3), (4, 3)]
    assert read.seen == Seen(8, 3, ())


def test_the_longest_pass_counts_and_not_all_together(file: Callable[..., Path]) -> None:
    read = reading(file())
    for stop in (2, 7, 3):
        list(islice(iter(read), stop))
    assert read.seen == Seen(7, 3, ())


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (None, None),
        (np.zeros(10, int), 1),
        (np.array(["cat", "dog"] * 5), 2),
        (LABELS[:, None], 4),
        (LABELS.astype(float), 4),
        (LABELS[:, None].astype(np.float32), 4),
        (np.linspace(0, 1, 10), None),
        (np.where(np.arange(10) == 9, np.nan, 1.0), None),
        (np.eye(4)[LABELS], None),
        (np.ones((10, 4), int), None),
    ],
    ids=["none", "one class", "words", "a column", "whole floats", "a column of them", "targets", "a gap", "one-hot", "masks"],
)
def test_classes_are_counted_where_labels_are_classes(
    file: Callable[..., Path], labels: np.ndarray | None, classes: int | None
) -> None:
    read = reading(file(), labels=labels)
    assert len(list(read)) == 10
    assert read.seen.classes == classes
    assert read.seen.other_labels == (labels is not None and classes is None)
    assert observe(file(), ["y"], Samples.of(Data(VALUES, labels=labels))).seen == read.seen


def test_an_input_of_one_value_is_named(file: Callable[..., Path]) -> None:
    read = reading(file(), np.full((10, 3), 0.5, np.float32))
    list(read)
    assert (read.seen.constant, read.seen.alike) == (("x",), True)


def test_an_input_of_one_value_beside_another_does_not_make_the_samples_alike() -> None:
    for mask, constant in ((np.ones((10, 2), bool), ("mask",)), (np.eye(10), ())):
        witness = Witness()
        witness.see({"x": VALUES, "mask": mask}, None)
        assert (witness.seen.constant, witness.seen.alike) == (constant, False)


def test_too_few_samples_for_the_fixed_batch_are_refused(file: Callable[..., Path]) -> None:
    with pytest.raises(
        InputError, match="fewer samples than the model's fixed batch of 64; got 10 samples; expected at least 64"
    ):
        list(reading(file(64)))
    with pytest.raises(InputError, match="there is no calibration sample"):
        list(Reading(Samples.of(Data(lambda: iter(()))), OnnxSession(file())))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_refused_by_number(file: Callable[..., Path], value: float) -> None:
    values = VALUES.copy()
    values[7, 2] = value
    with pytest.raises(InputError, match="'x' is not finite at calibration sample 7"):
        list(reading(file(), values))
