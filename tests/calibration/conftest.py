"""The digits network and a small inverted residual one as frozen files, observed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import mlflow_aifsm as aifsm
from mlflow_aifsm.calibration.observer import Observation, observe
from mlflow_aifsm.calibration.reading import Seen
from mlflow_aifsm.calibration.statistics import BUCKETS, TensorStatistics
from mlflow_aifsm.samples import Data, Samples
from tests.mobilenet import Block
from tests.models import Digits


def tensors_of(path: Path) -> list[str]:
    """The graph's inputs and every tensor that a node computes."""
    graph = onnx.load(path, load_external_data=False).graph
    return [value.name for value in graph.input] + [name for node in graph.node for name in node.output]


def statistics_of(values: np.ndarray, name: str = "x") -> TensorStatistics:
    """Statistics of ``values`` (one row a sample), each number taken the plain way."""
    values = values.astype(np.float32).reshape(len(values), -1)
    counts = np.bincount((values.ravel().view(np.uint32) >> 16).astype(np.int64), minlength=BUCKETS)
    ends = (values.min(), values.max(), values.min(1).mean(dtype=float), values.max(1).mean(dtype=float))
    return TensorStatistics(name, counts, *map(float, ends), len(values))


def observed(**tensors: np.ndarray) -> Observation:
    """An observation of arrays, one row a sample, none of them an input."""
    samples = len(next(iter(tensors.values())))
    return Observation({name: statistics_of(part, name) for name, part in tensors.items()}, (), Seen(samples, None, ()))


@pytest.fixture(scope="session")
def small_mobilenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three inverted residual blocks with random weights, as an ONNX file with external data."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(Block(3, 8, 2, 1), Block(8, 8, 1, 4), Block(8, 16, 2, 4)).eval()
    path = tmp_path_factory.mktemp("mobilenet") / "model.onnx"
    sizes = {"x": {0: torch.export.Dim("n")}}
    wrapped = _Named(model).eval()
    torch.onnx.export(wrapped, (torch.zeros(2, 3, 32, 32),), path, dynamo=True, dynamic_shapes=sizes, external_data=True)
    return path


class _Named(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


@pytest.fixture(scope="session")
def digits_file(digits: Digits, database: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits network as ``freeze`` delivers it."""
    import mlflow

    mlflow.set_tracking_uri(database)
    folder = tmp_path_factory.mktemp("frozen")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(str(folder), artifact_location=folder.as_uri()))
    frozen = aifsm.freeze(digits.model, digits.example, responsible="A. Ito")
    assert frozen.path is not None
    return frozen.path


@pytest.fixture(scope="session")
def digits_observation(digits_file: Path, digits: Digits) -> Observation:
    """All tensors of the digits network over 200 images."""
    return observe(digits_file, tensors_of(digits_file), Samples.of(Data(digits.images[:200], labels=digits.labels[:200])))


@pytest.fixture
def graph(tmp_path: Path) -> Callable[..., Path]:
    """Writes a graph from ``x`` (``[batch, 3]``) to ``y`` of the given nodes."""

    def build(nodes: Sequence[onnx.NodeProto], batch: str | int = "n", kind: int = onnx.TensorProto.FLOAT) -> Path:
        ends = [onnx.helper.make_tensor_value_info("x", kind, [batch, 3]), onnx.helper.make_empty_tensor_value_info("y")]
        ends[1].type.tensor_type.elem_type = kind
        made = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:])
        model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
        onnx.save(model, tmp_path / "graph.onnx")
        return tmp_path / "graph.onnx"

    return build
