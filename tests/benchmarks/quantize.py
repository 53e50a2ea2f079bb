"""What the log of a quantization costs: ``quantize(NNCF(...))`` beside bare ``nncf.quantize`` on the same model and data.

Run it with ``python tests/benchmarks/quantize.py``. Both run in turn in one process, without verification; a first turn of each
warms caches and is not counted. Processor time stands beside the clock's: where others use the machine, it says more.
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
from mlflow_aifsm.backends.exporters import to_onnx
from tests.benchmarks.pairs import show
from tests.benchmarks.verification import resnet18

SAMPLES, SIDE, TARGET = 300, 64, 1.10


def with_log(path: Path, images: np.ndarray) -> None:
    """Our call: read, calibrated, quantized, measured, logged with tables and report."""
    with mlflow.start_run():
        aifsm.quantize(path, aifsm.Data(images, name="noise"), aifsm.NNCF(subset_size=SAMPLES), verified_model="resnet18_1")


def without_log(path: Path, images: np.ndarray) -> None:
    """NNCF alone, from a file to a file."""
    model = onnx.load(path)
    data = nncf.Dataset(list(images), lambda image: {model.graph.input[0].name: image[None]})
    onnx.save(nncf.quantize(model, data, subset_size=SAMPLES), path.with_name("bare.onnx"))


def timed(work: Callable[[Path, np.ndarray], None], path: Path, images: np.ndarray) -> tuple[float, float]:
    """Seconds of the clock, and of all processors together."""
    start, used = time.perf_counter(), time.process_time()
    work(path, images)
    return time.perf_counter() - start, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="interleaved pairs")
    options = parser.parse_args()
    for name in ("mlflow", "alembic", "nncf"):
        logging.getLogger(name).setLevel(logging.ERROR)
    folder = Path(tempfile.mkdtemp(prefix="aifsm-benchmark-"))
    os.chdir(folder)
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    path = folder / "model.onnx"
    to_onnx(resnet18(), (torch.randn(2, 3, SIDE, SIDE),), {}, path, dynamic_shapes="batch")
    images = np.random.default_rng(0).standard_normal((SAMPLES, 3, SIDE, SIDE), dtype=np.float32)
    print(f"load average at the start {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    turns = [(timed(with_log, path, images), timed(without_log, path, images)) for _ in range(options.repeats + 1)][1:]
    print(f"quantize(NNCF()) with its log / nncf.quantize, ResNet-18 at {SIDE}x{SIDE}, {SAMPLES} samples, target {TARGET}")
    show(turns)


if __name__ == "__main__":
    main()
