"""What ``autolog`` costs: around ``nncf.quantize``, with the log, the model and the report written; and where no run is active.

Run it with ``python tests/benchmarks/autolog.py``. Both calls run in turn in one process on the same graph and samples; a first
turn of each warms caches and is not counted. Processor time stands beside the clock's: where others use the machine, it says
more.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="1", NNCF_CI="1", MLFLOW_AIFSM_QUIET="1")
os.environ["MLFLOW_AIFSM_RESPONSIBLE"] = "A. Ito"

import argparse
import logging
import tempfile
import time
from collections.abc import Callable

import mlflow
import nncf
import numpy as np
import onnx
import torch

import mlflow_aifsm as aifsm
from mlflow_aifsm.autologging import wrapping
from mlflow_aifsm.autologging.table import BUILT_IN
from mlflow_aifsm.backends.exporters import to_onnx
from tests.benchmarks.pairs import show
from tests.benchmarks.verification import resnet18

SAMPLES, SIDE, TARGET = 300, 64, 1.15
CALLS, MOST_MS = 20_000, 0.1


def quantize(model: onnx.ModelProto, images: np.ndarray) -> onnx.ModelProto:
    """The user's call."""
    name = model.graph.input[0].name
    data = nncf.Dataset(list(images), lambda image: {name: image[None]})
    made: onnx.ModelProto = nncf.quantize(model, data, subset_size=SAMPLES)
    return made


def recorded(model: onnx.ModelProto, images: np.ndarray) -> None:
    """The call with its log: run, measurements, tables, plots, report, logged model."""
    aifsm.autolog(strict=True)
    with mlflow.start_run():
        quantize(model, images)
    aifsm.autolog(disable=True)


def bare(model: onnx.ModelProto, images: np.ndarray) -> None:
    """The call in a run, without a log."""
    with mlflow.start_run():
        quantize(model, images)


def timed(
    work: Callable[[onnx.ModelProto, np.ndarray], None], model: onnx.ModelProto, images: np.ndarray
) -> tuple[float, float]:
    """Seconds of the clock, and of all processors together."""
    start, used = time.perf_counter(), time.process_time()
    work(model, images)
    return time.perf_counter() - start, time.process_time() - used


def added_ms() -> float:
    """Milliseconds that a wrapper adds to a call outside any run."""

    def nothing(value: int) -> int:
        return value

    wrapper = wrapping.wrapped(BUILT_IN[1], nothing)
    aifsm.autolog()
    took = []
    for function in (wrapper, nothing):
        start = time.perf_counter()
        for number in range(CALLS):
            function(number)
        took.append((time.perf_counter() - start) / CALLS * 1000)
    aifsm.autolog(disable=True)
    return took[0] - took[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="interleaved pairs")
    options = parser.parse_args()
    for name in ("mlflow", "alembic", "nncf"):
        logging.getLogger(name).setLevel(logging.ERROR)
    folder = Path(tempfile.mkdtemp(prefix="aifsm-benchmark-"))
    os.chdir(folder)
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    print(f"load average at the start {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    print(f"added to a call outside any run {added_ms():.5f} ms, target {MOST_MS}")
    path = folder / "model.onnx"
    to_onnx(resnet18(), (torch.randn(2, 3, SIDE, SIDE),), {}, path, dynamic_shapes="batch")
    model = onnx.load(path)
    images = np.random.default_rng(0).standard_normal((SAMPLES, 3, SIDE, SIDE), dtype=np.float32)
    turns = [(timed(recorded, model, images), timed(bare, model, images)) for _ in range(options.repeats + 1)][1:]
    print(f"autolog() around nncf.quantize / nncf.quantize, ResNet-18 at {SIDE}x{SIDE}, {SAMPLES} samples, target {TARGET}")
    show(turns)


if __name__ == "__main__":
    main()
