"""One pass yields all numbers; whatever goes wrong is a failed result, and each fault shows."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from mlflow_aifsm.codec import dumps, loads, structure, unstructure
from mlflow_aifsm.record import VerificationResult
from mlflow_aifsm.samples import Data, Samples
from mlflow_aifsm.verification.criterion import CONVERSION, OPTIMIZATION, Verification
from mlflow_aifsm.verification.run import verify

Model = Callable[..., Path]
Product = Callable[[dict[str, np.ndarray]], list[np.ndarray]]
X = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)


@pytest.fixture
def labels(product: Product) -> np.ndarray:
    """Those that the source model gives, so that its accuracy is 1."""
    return product({"x": X})[0].argmax(axis=1)


def node(kind: str, *inputs: str, output: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], **attributes)


def test_a_faithful_file_passes_and_every_number_is_a_fact_with_its_source(
    model: Model, product: Product, labels: np.ndarray
) -> None:
    result, facts = verify(model(), product, Verification(Data(X, name="set", labels=labels)), CONVERSION)
    assert (result.passed, result.criterion, result.epsilon, result.reason) == (True, "approximate", 1e-4, "")
    assert (result.samples, result.data, result.data_sha256) == (50, "set", Samples.of(X).digest)
    assert result.numbers["accuracy_before"] == result.numbers["accuracy_after"] == result.numbers["agreement"] == 1.0
    assert result.numbers["repeat_diff"] == 0.0
    assert result.numbers["batch_invariance"] < 1e-5
    names = {"result", "max_diff", "p99_diff", "sqnr_db", "agreement", "flips", "accuracy", "accuracy_drop"}
    names |= {"worst_class_recall", "worst_class_drop", "low_margin"}
    assert {fact.name for fact in facts} == {f"verification.{name}" for name in names} - _without_noise(result)
    assert all("ONNX Runtime" in fact.source.origin for fact in facts)
    assert "tool default, not justified" in facts[0].value.text


def _without_noise(result: VerificationResult) -> set[str]:
    return set() if "sqnr_db" in result.numbers else {"verification.sqnr_db"}


@pytest.mark.parametrize("size", [1, 7, 50, 64])
def test_numbers_do_not_depend_on_the_batch_size(model: Model, labels: np.ndarray, size: int) -> None:
    coarse = model("coarse", lambda weights: np.round(weights * 4) / 4)
    result, _ = verify(coarse, model(), Verification(X, labels=labels, batch_size=size), OPTIMIZATION)
    whole, _ = verify(coarse, model(), Verification(X, labels=labels, batch_size=50), OPTIMIZATION)
    for name in ("flips", "worst_sample", "worst_class", "accuracy_after"):
        assert result.numbers[name] == whole.numbers[name]
    assert result.numbers["p99_diff"] == pytest.approx(whole.numbers["p99_diff"], rel=1e-3)


def test_a_result_survives_the_record(model: Model) -> None:
    result, _ = verify(model(), model("same"), Verification(X), CONVERSION)
    assert result.numbers["sqnr_db"] == "inf"
    assert structure(loads(dumps(unstructure(result))), VerificationResult, "verification") == result


def test_outputs_in_another_order_fail_both_criteria(model: Model, labels: np.ndarray) -> None:
    permuted = model("permuted", lambda weights: np.roll(weights, 1, axis=1))
    result, facts = verify(permuted, model(), Verification(X), CONVERSION)
    assert not result.passed
    assert result.numbers["flips"] == 50
    assert facts[0].findings[0].code == "criterion_missed"
    limited, _ = verify(permuted, model(), Verification(X, labels=labels), OPTIMIZATION)
    assert not limited.passed
    assert limited.numbers["accuracy_after"] < 0.5


def test_nan_fails_whatever_the_limits_and_no_distance_is_given(model: Model) -> None:
    broken = model("broken", nodes=[node("Log", "p")])
    result, facts = verify(broken, model(), Verification(X), OPTIMIZATION)
    assert not result.passed
    assert "NaN or infinite" in result.failure
    assert "max_diff" not in result.numbers
    assert "verification.max_diff" not in {fact.name for fact in facts}


def test_randomness_left_in_the_file_fails_the_repeat(model: Model, product: Product) -> None:
    noisy = model("noisy", nodes=[node("RandomNormalLike", "p", output="r", scale=1e-6), node("Add", "p", "r")])
    result, _ = verify(noisy, product, Verification(X), CONVERSION)
    assert not result.passed
    assert result.numbers["repeat_diff"] > 0
    assert "two runs" in result.failure


def test_outputs_that_depend_on_the_batch_fail_though_they_agree_with_the_reference(model: Model, product: Product) -> None:
    mean = node("ReduceMean", "p", output="m", keepdims=1)
    centred = model("centred", nodes=[mean, node("Sub", "p", "m")])
    result, _ = verify(centred, lambda batch: product(batch)[0] - product(batch)[0].mean(), Verification(X), CONVERSION)
    assert result.numbers["max_diff"] < 1e-5
    assert result.numbers["batch_invariance"] > 0.1
    assert not result.passed
    assert verify(centred, centred, Verification(X), OPTIMIZATION)[0].passed


def test_with_a_fixed_batch_both_models_get_the_same_pieces_and_no_sample_runs_alone(model: Model, product: Product) -> None:
    sizes = set()

    def counted(batch: dict[str, np.ndarray]) -> list[np.ndarray]:
        sizes.add(len(batch["x"]))
        return product(batch)

    result, _ = verify(model(batch=8), counted, Verification(X), CONVERSION)
    assert result.passed
    assert sizes == {8}
    assert "batch_invariance" not in result.numbers


def test_an_exact_criterion_wants_no_difference_at_all(model: Model) -> None:
    exact = Verification(X, epsilon=0, reason="same file")
    assert verify(model(), model("same"), exact, CONVERSION)[0].criterion == "exact"
    assert verify(model(), model("same"), exact, CONVERSION)[0].passed
    nudged = model("nudged", lambda weights: np.nextafter(weights, np.float32(9)))
    assert not verify(nudged, model(), exact, CONVERSION)[0].passed


def test_without_labels_an_optimization_is_limited_by_how_many_decisions_agree(model: Model) -> None:
    result, facts = verify(model("coarse", np.round), model(), Verification(X), OPTIMIZATION)
    assert (result.passed, result.criterion) == (False, "agreement ≥ 0.99")
    assert "agreement ≥ 0.99 (tool default, not justified)" in facts[0].value.text
    assert verify(model("same"), model(), Verification(X), OPTIMIZATION)[0].passed


def test_declared_limits_are_judged(model: Model) -> None:
    coarse = model("coarse", np.round)
    for limit, passed in ((5.0, True), (60.0, False)):
        result, _ = verify(coarse, model(), Verification(X, limits={"sqnr_db": limit}), OPTIMIZATION)
        assert (result.passed, result.criterion) == (passed, f"sqnr_db ≥ {limit:g}")


def boom(*_: Any) -> Any:
    raise ZeroDivisionError("boom")


@pytest.mark.parametrize(
    ("reference", "verification", "reason"),
    [
        (boom, Verification(X), "ZeroDivisionError: boom"),
        (None, Verification(X, decision=boom), "ZeroDivisionError: boom"),
        (None, Verification(X, preprocess=boom), "ZeroDivisionError: boom"),
        (None, Verification(X[:, :3]), r"input 'x' do not fit; got shape"),
        (None, Verification(X[:0]), "no sample"),
        (None, Verification(iter(X)), "pass a function that returns it"),
        (None, Verification(X, metrics={"f1": boom}), "metric 'f1' has no labels"),
        (lambda batch: [batch["x"]] * 2, Verification(X), "outputs differ in number"),
        (None, Verification(X, outputs=np.zeros((49, 4))), "got 49 samples"),
        (None, Verification(X, outputs=np.zeros((51, 4))), "got 51 samples"),
    ],
)
def test_whatever_goes_wrong_is_a_failed_result_with_its_reason(
    model: Model, product: Product, reference: Callable[..., Any] | None, verification: Verification, reason: str
) -> None:
    result, facts = verify(model(), reference or product, verification, CONVERSION)
    assert not result.passed
    assert reason in result.failure
    assert [(fact.name, fact.value.short) for fact in facts] == [("verification.result", "failed")]


def test_a_file_the_runtime_cannot_load_is_a_failed_verification(tmp_path: Path, product: Product) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    assert "InvalidProtobuf" in verify(path, product, Verification(X), CONVERSION)[0].failure


def test_an_interrupt_is_no_failed_verification(model: Model) -> None:
    def interrupted(_: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(model(), interrupted, Verification(X), CONVERSION)


def test_outputs_of_the_target_device_take_the_place_of_a_run_here(model: Model, product: Product) -> None:
    brought = Verification(X, outputs={"y": product({"x": X})[0] + 1e-5}, batch_size=7)
    result, _ = verify(model(), product, brought, CONVERSION)
    assert (result.passed, result.target) == (True, "target device")
    assert result.numbers["max_diff"] == pytest.approx(1e-5, rel=0.1)
    assert "repeat_diff" not in result.numbers


def test_metrics_are_called_once_with_all_labels_and_decisions(model: Model, product: Product, labels: np.ndarray) -> None:
    def share_of_class_0(given: np.ndarray, decisions: np.ndarray) -> float:
        assert len(given) == len(decisions) == 50
        return float(np.mean(decisions == 0))

    verification = Verification(X, labels=labels, metrics={"zeros": share_of_class_0}, limits={"zeros_drop": 0.0})
    result, _ = verify(model(), product, verification, OPTIMIZATION)
    assert result.passed
    assert result.numbers["zeros_before"] == result.numbers["zeros_after"] == np.mean(labels == 0)


def test_a_torch_export_is_compared_with_its_module(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(6, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, 4)
    ).eval()
    path = tmp_path / "module.onnx"
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.onnx.export(module, (torch.from_numpy(X),), path, dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    with torch.no_grad():
        result, _ = verify(path, lambda arrays: module(*map(torch.from_numpy, arrays.values())), Verification(X), CONVERSION)
    assert result.passed, result
    assert 0 <= result.numbers["max_diff"] < 1e-5


def test_progress_is_told_after_each_batch(model: Model, product: Product) -> None:
    seen: list[tuple[int, int | None]] = []
    verify(model(), product, Verification(X), CONVERSION, lambda done, total: seen.append((done, total)))
    assert seen == [(32, 50), (50, 50)]


def test_memory_does_not_grow_with_the_number_of_samples(model: Model, product: Product) -> None:
    path = model()

    def peak(count: int) -> int:
        def batches() -> Iterator[np.ndarray]:
            for seed in range(count // 100):
                yield np.random.default_rng(seed).normal(size=(100, 6)).astype(np.float32)

        tracemalloc.start()
        assert verify(path, product, Verification(batches), CONVERSION)[0].samples == count
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(100)
    assert peak(10_000) - peak(1_000) < 9_000 * 100
