"""Every kind of source yields the same samples, in order, counted and digested."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow.data
import nncf
import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.samples import Data, Samples

X = np.random.default_rng(3).normal(size=(11, 4)).astype(np.float32)
Y = np.arange(11) % 3
REFERENCE = Samples.of(X).digest


def loader() -> Any:
    return DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), batch_size=4)


def stored(folder: Path, kind: str) -> Path:
    path = folder / f"data.{kind}"
    if kind == "npy":
        np.save(path, X)
    elif kind == "npz":
        np.savez(path, x=X, labels=Y)
    else:
        pd.DataFrame({"x": list(X), "y": Y}).to_parquet(path)
    return path


SOURCES: dict[str, Callable[[Path], Any]] = {
    "array": lambda _: Data(X, labels=Y),
    "dict": lambda _: {"x": X, "labels": Y},
    "tensor": lambda _: Data(torch.from_numpy(X).requires_grad_(True), labels=torch.from_numpy(Y)),
    "list of samples": lambda _: Data(list(X), labels=list(Y)),
    "list of pairs": lambda _: list(zip(X, Y, strict=True)),
    "list of numbers": lambda _: Data([np.float32(row) for row in X], labels=Y),
    "DataLoader": lambda _: loader(),
    "torch data set": lambda _: TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),
    "nncf.Dataset": lambda _: Data(nncf.Dataset(loader(), lambda item: item[0]), labels=Y),
    "mlflow.data numpy": lambda _: mlflow.data.from_numpy(X, targets=Y, name="set"),
    "mlflow.data pandas": lambda _: mlflow.data.from_pandas(pd.DataFrame(X).assign(target=Y), targets="target"),
    "DataFrame": lambda _: pd.DataFrame(X, columns=["features", "targets", "df", "name"]).assign(y=Y),
    "npy": lambda folder: Data(stored(folder, "npy"), labels=Y),
    "npz": lambda folder: stored(folder, "npz"),
    "parquet": lambda folder: str(stored(folder, "parquet")),
    "function of batches": lambda _: lambda: iter(loader()),
    "function of samples": lambda _: lambda: iter(zip(X, Y, strict=True)),
}


@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")
@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_yields_the_same_batches_labels_and_digest_twice(kind: str, tmp_path: Path) -> None:
    samples = Samples.of(SOURCES[kind](tmp_path))
    for _ in range(2):
        batches = list(samples.batches(5, ["x"], {"x": 2}))
        assert [len(inputs["x"]) for inputs, _ in batches] == [5, 5, 1]
        assert np.array_equal(np.concatenate([inputs["x"] for inputs, _ in batches]), X)
        assert np.array_equal(np.concatenate([labels for _, labels in batches if labels is not None]), Y)
    assert (samples.count, samples.digest) == (11, REFERENCE)


def test_several_inputs_come_by_name_or_in_order() -> None:
    def pairs() -> Iterator[Any]:
        yield (X[:3], X[3:6], Y[:3])
        yield ((X[6:8], X[8:10]), Y[3:5])

    by_order = list(Samples.of(pairs).batches(2, ["a", "b"]))
    assert [labels.tolist() for _, labels in by_order if labels is not None] == [[0, 1], [2, 0], [1]]
    by_name = Samples.of({"b": X, "a": -X, "y": Y})
    inputs, labels = next(by_name.batches(4, ["a", "b"]))
    assert list(inputs) == ["a", "b"]
    assert np.array_equal(inputs["a"], -inputs["b"])
    assert labels is not None


def test_a_bare_generator_is_refused_with_the_remedy() -> None:
    with pytest.raises(InputError, match="pass a function that returns it"):
        Samples.of(row for row in X)


def test_names_that_do_not_fit_are_said_on_both_sides() -> None:
    with pytest.raises(InputError, match=r"\['image'\].*\['x'\]"):
        list(Samples.of({"image": X}).batches(2, ["x"]))


@pytest.mark.parametrize("count", [10, 12])
def test_labels_must_number_the_samples(count: int) -> None:
    with pytest.raises(InputError, match=f"{count} labels"):
        list(Samples.of(Data(X, labels=np.zeros(count))).batches(4, ["x"]))


def test_samples_of_several_shapes_are_refused_but_may_be_preprocessed_to_one() -> None:
    ragged = [np.ones((2, width)) for width in (3, 4, 5)]
    with pytest.raises(InputError, match="differ in shape"):
        list(Samples.of(ragged).batches(3, ["x"]))
    cropped = Samples.of(Data(ragged, preprocess=lambda sample: sample[:, :2] / 2))
    inputs, _ = next(cropped.batches(3, ["x"], {"x": 3}))
    assert inputs["x"].shape == (3, 2, 2)
    assert inputs["x"].max() == 0.5


def test_an_item_that_is_neither_batch_nor_sample_is_refused() -> None:
    with pytest.raises(InputError, match="2 axes for a batch, 1 for a sample"):
        list(Samples.of([X[None]]).batches(2, ["x"], {"x": 2}))


def test_samples_with_a_batch_axis_of_one_are_told_by_rank() -> None:
    inputs, _ = next(Samples.of([{"x": row[None]} for row in X]).batches(11, ["x"], {"x": 2}))
    assert np.array_equal(inputs["x"], X)


def test_digests_show_order_and_overlap_whatever_the_name_of_the_input() -> None:
    turned = Samples.of({"image": X[::-1]})
    assert turned.digest != REFERENCE
    assert turned.sample_digests == Samples.of(X).sample_digests
    assert len(Samples.of(X[:4]).sample_digests & turned.sample_digests) == 4
    assert not Samples.of(X + 1).sample_digests & turned.sample_digests


def test_count_and_digest_come_from_the_pass_that_uses_the_data() -> None:
    opened = []

    def source() -> Iterator[Any]:
        opened.append(1)
        return iter([X])

    samples = Samples.of(source)
    assert samples.expected is None
    list(samples.batches(4, ["x"]))
    assert (samples.count, samples.expected, samples.digest, len(opened)) == (11, 11, REFERENCE, 1)


def test_a_pass_that_broke_off_counts_nothing() -> None:
    samples = Samples.of(lambda: iter([X]))
    next(samples.batches(4, ["x"]))
    assert samples.count == 11


def test_data_describe_themselves(tmp_path: Path) -> None:
    assert Samples.of(Data(X, name="digits", version="2")).describe().startswith("digits version 2, 11 samples, sha256 ")
    assert Samples.of(stored(tmp_path, "npz")).name == "data.npz"
    assert Samples.of(mlflow.data.from_numpy(X, name="set")).name == "set"


@pytest.mark.parametrize("source", [3, "missing.npz", None, np.float32(1)])
def test_what_holds_no_samples_is_refused(source: Any) -> None:
    with pytest.raises(InputError):
        Samples.of(source)


def test_a_table_without_the_inputs_name_is_the_matrix_of_its_features(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "labels": Y}).to_parquet(path)
    inputs, labels = next(Samples.of(path).batches(11, ["x"]))
    assert np.array_equal(inputs["x"], X[:, :2])
    assert labels is not None
    assert labels.tolist() == Y.tolist()
