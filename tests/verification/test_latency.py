"""The clock: a ratio of two files that ran in turn, and why there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlflow_aifsm.facts import State
from mlflow_aifsm.verification import latency
from mlflow_aifsm.verification.criterion import OPTIMIZATION, Verification
from mlflow_aifsm.verification.run import verify

Model = Callable[..., Path]
X = np.random.default_rng(1).normal(size=(20, 6)).astype(np.float32)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "BUDGET", 0.1)


def chain(path: Path, length: int, batch: str | int = "n") -> Path:
    """``length`` products of a vector of 256 numbers with a matrix, one behind the other."""
    weight = numpy_helper.from_array(np.eye(256, dtype=np.float32) / 2, "w")
    nodes = [helper.make_node("MatMul", [f"t{index}", "w"], [f"t{index + 1}"]) for index in range(length)]
    inputs = [helper.make_tensor_value_info("t0", TensorProto.FLOAT, [batch, 256])]
    outputs = [helper.make_tensor_value_info(f"t{length}", TensorProto.FLOAT, [batch, 256])]
    graph = helper.make_graph(nodes, "chain", inputs, outputs, [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def test_a_file_of_a_tenth_of_the_work_is_faster_and_the_ratio_is_a_metric(tmp_path: Path) -> None:
    data = np.ones((4, 256), np.float32)
    clock = latency.speedup(chain(tmp_path / "new.onnx", 4), chain(tmp_path / "old.onnx", 40), Verification(data))
    numbers = clock.numbers
    assert clock.fact.state is State.CAPTURED
    assert numbers["speedup"] == pytest.approx(numbers["float_ms"] / numbers["delivered_ms"])
    assert numbers["speedup"] > 2
    assert clock.fact.metrics == {"aifsm.speedup": numbers["speedup"]}
    assert numbers["latency_runs"] >= latency.FEWEST
    assert numbers["latency_threads"] >= 1
    low, high = numbers["float_quartiles_ms"]
    assert low <= numbers["float_ms"] <= high
    assert f"{numbers['speedup']:.2f} times as fast as the float model" in clock.fact.value.text
    assert "one sample" in clock.fact.value.text


def test_a_fixed_batch_is_timed_as_a_whole(tmp_path: Path) -> None:
    new, old = (chain(tmp_path / f"{length}.onnx", length, batch=8) for length in (2, 4))
    timed = latency.speedup(new, old, Verification(np.ones((20, 256), np.float32)))
    assert timed.numbers["latency_batch"] == 8
    assert "8 samples" in timed.fact.value.text
    short = latency.speedup(new, old, Verification(np.ones((5, 256), np.float32)))
    assert "the data do not fill one batch of the delivered file; got 5 samples" in short.fact.reason


def test_the_number_stands_in_the_result_and_is_off_unless_asked_for(model: Model) -> None:
    result, facts = verify(model(), model("float"), Verification(X, latency=True), OPTIMIZATION)
    assert result.passed
    assert {fact.name: fact for fact in facts}["runtime.speedup"].value.data == result.numbers["speedup"]
    quiet, facts = verify(model(), model("float"), Verification(X), OPTIMIZATION)
    assert "runtime.speedup" not in {fact.name for fact in facts}
    assert "speedup" not in quiet.numbers


def test_what_cannot_be_timed_is_not_recorded_and_says_why(model: Model, product: Callable[..., list[np.ndarray]]) -> None:
    outputs = product({"x": X})[0]
    for reference, verification, why in (
        (product, Verification(X, latency=True), "no float file"),
        (None, Verification(X, latency=True), "no float file"),
        (model("float"), Verification(X, latency=True, outputs=outputs), "target device"),
    ):
        result, facts = verify(model(), reference, verification, OPTIMIZATION)
        fact = {fact.name: fact for fact in facts}["runtime.speedup"]
        assert result.passed, result.failure
        assert fact.state is State.NOT_RECORDED
        assert why in fact.reason
        assert "speedup" not in result.numbers
