"""What the tests of quantization share: a small CNN with a convolution of each kind and a linear layer, trained on digits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mlflow_aifsm.capture import quantizer_facts
from mlflow_aifsm.facts import Fact
from mlflow_aifsm.operations import support
from mlflow_aifsm.operations.outcome import Outcome, Task
from mlflow_aifsm.operations.quantization import Quantization
from mlflow_aifsm.samples import Samples
from mlflow_aifsm.sources import Source
from tests.models import digits, fitted

OPSETS = [helper.make_opsetid("", 21)]


class SmallNet(nn.Module):
    """A convolution, a depthwise convolution, a convolution with a stride, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Linear(256, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Class scores."""
        scores: torch.Tensor = self.head(self.features(image).flatten(1))
        return scores


@dataclass(frozen=True)
class Trained:
    """A float file with the images and labels it has not seen."""

    path: Path
    images: np.ndarray
    labels: np.ndarray


@cache
def small() -> Trained:
    """``SmallNet`` after two epochs, frozen with a dynamic batch axis; weights carry the names of its modules."""
    images, labels = digits()
    path = Path(mkdtemp(prefix="quantized-")) / "small.onnx"
    shapes = {"image": {0: torch.export.Dim("batch")}}
    torch.onnx.export(
        fitted(SmallNet, 2), (torch.from_numpy(images[:4]),), path, dynamo=True, dynamic_shapes=shapes, external_data=False
    )
    return Trained(path, images[1200:], labels[1200:])


def done(config: Quantization, path: Path | None = None, data: Source = None, count: int = 32) -> Outcome:
    """What the operation makes of ``path``, the small net if None, without MLflow."""
    support.check(config)
    given = small().images[:count] if data is None else data
    samples = None if type(config).__name__ in ("Dynamic", "WeightOnly") else Samples.of(given)
    return support.method(config)(Task(path or small().path, samples, count), config)


def found(outcome: Outcome, against: Path | None = None) -> dict[str, Fact]:
    """Facts of the delivered file, by name."""
    return {fact.name: fact for fact in quantizer_facts.facts(outcome.quantized.path, against)}


def asked(outcome: Outcome) -> dict[str, Fact]:
    """Facts that the operation told, by name."""
    return {fact.name: fact for fact in outcome.facts}


def saved(folder: Path, nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], **more: object) -> Path:
    """A graph from ``x`` to ``y`` with the given shapes (``x_shape``, ``y_shape``), written to ``folder``."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, more[f"{name}_shape"]) for name in ("x", "y")]
    stored = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], stored), opset_imports=OPSETS, ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"
