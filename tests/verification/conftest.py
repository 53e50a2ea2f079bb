"""Small ONNX classifiers, sound and broken, and their data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

W = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


@pytest.fixture
def product() -> Callable[[dict[str, np.ndarray]], list[np.ndarray]]:
    """The source model of ``model``: 4 class scores, ``x @ W``."""
    return lambda batch: [batch["x"] @ W]


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., Path]:
    """Writes ``y = x @ W``, its weights changed by ``change``, followed by ``nodes`` that turn ``p`` into ``y``."""

    def build(
        name: str = "model",
        change: Callable[[np.ndarray], np.ndarray] = np.copy,
        nodes: Sequence[onnx.NodeProto] = (),
        batch: str | int = "n",
    ) -> Path:
        head = helper.make_node("MatMul", ["x", "W"], ["p"])
        tail = nodes or [helper.make_node("Identity", ["p"], ["y"])]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 6])]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
        graph = helper.make_graph([head, *tail], name, inputs, outputs, [numpy_helper.from_array(change(W), "W")])
        path = tmp_path / f"{name}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
        return path

    return build
