"""The session runs the file as it is written, and refuses data that do not fit it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.verification.session import OnnxSession

Build = Callable[..., Path]
W = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


@pytest.fixture
def linear(tmp_path: Path) -> Build:
    def build(batch: Any = "n", kind: int = TensorProto.FLOAT, row: bool = False) -> Path:
        """x @ W, or with ``row`` the first row of the product alone, without batch axis."""
        nodes = [helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT), helper.make_node("MatMul", ["f", "W"], ["p"])]
        nodes.append(helper.make_node("Gather", ["p", "0"], ["y"]) if row else helper.make_node("Identity", ["p"], ["y"]))
        weights = [numpy_helper.from_array(W, "W"), numpy_helper.from_array(np.array(0), "0")]
        inputs = [helper.make_tensor_value_info("x", kind, [batch, 4])]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
        graph = helper.make_graph(nodes, "linear", inputs, outputs, weights[: 2 if row else 1])
        path = tmp_path / "model.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
        return path

    return build


def test_it_says_what_ran_where_and_how(linear: Build) -> None:
    session = OnnxSession(linear())
    assert session.description.endswith("CPUExecutionProvider, graph optimizations off")
    assert [(spec.name, spec.dtype, spec.shape) for spec in session.inputs] == [("x", np.float32, (None, 4))]
    assert OnnxSession(linear(), optimize=True, threads=1).description.endswith("graph optimizations on")


@pytest.mark.parametrize("count", [1, 3, 4, 10])
def test_a_fixed_batch_is_padded_and_the_padding_dropped(linear: Build, count: int) -> None:
    x = np.random.default_rng(1).normal(size=(count, 4)).astype(np.float32)
    session = OnnxSession(linear(batch=4))
    assert session.fixed_batch == 4
    assert np.allclose(session.run({"x": x})["y"], x @ W, atol=1e-6)


def test_a_fixed_batch_needs_outputs_with_a_batch_axis(linear: Build) -> None:
    with pytest.raises(InputError, match="no batch axis"):
        OnnxSession(linear(batch=4, row=True)).run({"x": np.zeros((4, 4))})


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64", "uint8", "bool"])
def test_numbers_become_floats_where_the_model_takes_floats(linear: Build, dtype: str) -> None:
    x = np.ones((2, 4), dtype)
    assert OnnxSession(linear()).fit({"x": x})["x"].dtype == np.float32


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 5)), r"input 'x' do not fit; got shape \[2, 5\]; expected \['n', 4\]"),
        (np.zeros(4), r"shape \[4\]"),
        (np.full((2, 4), "a"), "dtype <U1"),
    ],
)
def test_data_that_do_not_fit_are_refused_by_name(linear: Build, array: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said):
        OnnxSession(linear()).run({"x": array})


def test_integers_are_cast_only_where_no_value_changes(linear: Build) -> None:
    session = OnnxSession(linear(kind=TensorProto.UINT8))
    assert session.fit({"x": np.full((1, 4), 255)})["x"].dtype == np.uint8
    for values in (np.full((1, 4), 256), np.full((1, 4), -1), np.full((1, 4), 0.5)):
        with pytest.raises(InputError, match="expected uint8"):
            session.fit({"x": values})


def test_inputs_that_the_model_does_not_know_are_refused(linear: Build) -> None:
    with pytest.raises(InputError, match=r"\['image'\].*\['x'\]"):
        OnnxSession(linear()).run({"image": np.zeros((1, 4))})
