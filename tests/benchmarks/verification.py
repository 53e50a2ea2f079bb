"""Cost of a verification: against the bare inference of the passes it must make, and its memory by number of samples.

Run it with ``python tests/benchmarks/verification.py``; ``--samples 10000`` measures the memory of a long one too.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import numpy as np
import torch
from torch import nn

from mlflow_aifsm.backends.exporters import to_onnx
from mlflow_aifsm.samples import Data
from mlflow_aifsm.verification.criterion import CONVERSION, Verification
from mlflow_aifsm.verification.run import verify
from mlflow_aifsm.verification.session import OnnxSession

BATCH, TARGET = 32, 1.2


class Residual(nn.Module):
    """Basic block of ResNet: He et al. 2015, arXiv 1512.03385."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        short = [nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)] if stride != 1 else []
        self.short = nn.Sequential(*short)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.two(self.one(x)) + self.short(x))


def resnet18() -> nn.Module:
    """ResNet-18 with random weights, in evaluation mode."""
    torch.manual_seed(0)
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)]
    return nn.Sequential(*stem, *(Residual(*width) for width in widths), *head).eval()


def images(count: int) -> Iterator[np.ndarray]:
    """Batches ``[32, 3, 64, 64]`` of noise, made as they are read."""
    rng = np.random.default_rng(0)
    for start in range(0, count, BATCH):
        yield rng.standard_normal((min(BATCH, count - start), 3, 64, 64), dtype=np.float32)


def reference(model: nn.Module, batch: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs of the PyTorch model."""
    with torch.no_grad():
        return [model(torch.from_numpy(next(iter(batch.values())))).numpy()]


def bare(model: nn.Module, path: Path, count: int) -> float:
    """Seconds of the two passes alone: the file with the optimizer off, and the model."""
    session = OnnxSession(path)
    name, start = session.inputs[0].name, time.perf_counter()
    for batch in images(count):
        session.run({name: batch})
        reference(model, {name: batch})
    return time.perf_counter() - start


def verified(model: nn.Module, path: Path, count: int) -> float:
    """Seconds of a whole verification."""
    verification = Verification(Data(lambda: images(count), name="noise"), epsilon=1e-3, reason="benchmark", batch_size=BATCH)
    start = time.perf_counter()
    result, _ = verify(path, lambda batch: reference(model, batch), verification, CONVERSION)
    seconds = time.perf_counter() - start
    if not result.passed or result.samples != count:
        raise SystemExit(f"the verification did not run as it should: {result}")
    return seconds


def peak(count: int) -> int:
    """Peak resident memory in bytes of a new process that verifies ``count`` samples."""
    done = subprocess.run([sys.executable, __file__, "--peak", str(count)], capture_output=True, text=True, check=True)
    return int(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=0, help="also the memory at this number of samples")
    parser.add_argument("--peak", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    model = resnet18()
    path = Path(tempfile.mkdtemp()) / "model.onnx"
    to_onnx(model, (torch.randn(2, 3, 64, 64),), {}, path, dynamic_shapes="batch")
    if options.peak:
        verified(model, path, options.peak)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return
    pairs = [(verified(model, path, 1000), bare(model, path, 1000)) for _ in range(5)]
    ratios = sorted(whole / passes for whole, passes in pairs)
    print(
        f"verification / bare passes, 1,000 samples: {statistics.median(ratios):.2f} "
        f"({ratios[0]:.2f}–{ratios[-1]:.2f}), target {TARGET}"
    )
    counts = [1000, *([options.samples] if options.samples else [])]
    for count in counts:
        print(f"peak memory at {count:,} samples: {peak(count) / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
