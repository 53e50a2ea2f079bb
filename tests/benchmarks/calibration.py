"""Cost of entropy calibration: against the bare inference of the same samples, and its memory by number of samples.

A ResNet-18 at 224×224, the tensors that ONNX Runtime would quantize in it. Run it with
``python tests/benchmarks/calibration.py``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import numpy as np
import onnx
import onnxruntime
import psutil

from mlflow_aifsm.calibration.estimators import estimate
from mlflow_aifsm.calibration.observer import BATCH, observe
from mlflow_aifsm.calibration.statistics import Grid
from mlflow_aifsm.samples import Data, Samples

SAMPLES, TARGET, MEMORY = 300, 1.75, 350


def resnet18(path: Path) -> list[str]:
    """Writes a ResNet-18 with random weights and returns the tensors that ONNX Runtime would quantize.

    He et al. 2015, arXiv 1512.03385; a tensor that a ReLU reads is left out, since its range is that of the ReLU.
    """
    rng, nodes, weights = np.random.default_rng(0), [], []

    def conv(source: str, inputs: int, outputs: int, size: int, stride: int) -> str:
        name = f"conv_{len(nodes)}"
        kernel = rng.standard_normal((outputs, inputs, size, size), dtype=np.float32) * (2 / (inputs * size**2)) ** 0.5
        held = [onnx.numpy_helper.from_array(part, f"{name}.{key}") for key, part in (("w", kernel), ("b", kernel[:, 0, 0, 0]))]
        weights.extend(held)
        reads, pads = [source, *(part.name for part in held)], [size // 2] * 4
        nodes.append(onnx.helper.make_node("Conv", reads, [name], kernel_shape=[size] * 2, strides=[stride] * 2, pads=pads))
        return name

    def operator(kind: str, *reads: str, **attributes: object) -> str:
        name = f"{kind.lower()}_{len(nodes)}"
        nodes.append(onnx.helper.make_node(kind, reads, [name], **attributes))
        return name

    stem = operator("Relu", conv("x", 3, 64, 7, 2))
    last, width = operator("MaxPool", stem, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), 64
    for outputs, stride in [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]:
        inner = conv(operator("Relu", conv(last, width, outputs, 3, stride)), outputs, outputs, 3, 1)
        short = last if stride == 1 else conv(last, width, outputs, 1, stride)
        last, width = operator("Relu", operator("Add", inner, short)), outputs
    weights.append(onnx.numpy_helper.from_array(rng.standard_normal((512, 10), dtype=np.float32) / 23, "fc"))
    operator("MatMul", operator("Flatten", operator("GlobalAveragePool", last)), "fc")
    rectified = {node.input[0] for node in nodes if node.op_type == "Relu"}
    value = onnx.helper.make_tensor_value_info
    outputs = [value(nodes[-1].output[0], onnx.TensorProto.FLOAT, ["n", 10])]
    graph = onnx.helper.make_graph(
        nodes, "resnet18", [value("x", onnx.TensorProto.FLOAT, ["n", 3, 224, 224])], outputs, initializer=weights
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), path)
    return ["x", *(node.output[0] for node in nodes if node.output[0] not in rectified)]


def images(count: int) -> Iterator[np.ndarray]:
    """Batches ``[4, 3, 224, 224]`` of noise, cheap to make and none like another."""
    noise = np.random.default_rng(0).standard_normal((BATCH, 3, 224, 224), dtype=np.float32)
    for start in range(0, count, BATCH):
        yield noise[: count - start] * np.float32(1 + start / count)


def bare(path: Path, count: int) -> float:
    """Seconds of the inference alone, with the runtime's default optimizations."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    start = time.perf_counter()
    for batch in images(count):
        session.run(None, {"x": batch})
    return time.perf_counter() - start


def calibrated(path: Path, tensors: list[str], count: int) -> tuple[float, float]:
    """Seconds of the pass over the samples, and of the search for the ranges."""
    start = time.perf_counter()
    observation = observe(path, tensors, Samples.of(Data(lambda: images(count), name="noise")))
    middle = time.perf_counter()
    ranges = estimate(observation, "entropy", Grid())
    if observation.samples != count or len(ranges) != len(tensors):
        raise SystemExit(f"the calibration did not run as it should: {observation.samples} samples, {len(ranges)} ranges")
    return middle - start, time.perf_counter() - middle


def memory(path: Path, tensors: list[str], count: int) -> float:
    """Peak resident memory in MiB of a calibration above what the process had before it, sampled every 2 ms."""
    process, done = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    calibrated(path, tensors, count)
    done.set()
    watcher.join()
    return (peak - before) / 2**20


def in_new_process(count: int) -> float:
    """``memory`` in a process that did nothing before."""
    done = subprocess.run([sys.executable, __file__, "--memory", str(count)], capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="interleaved pairs of calibration and bare inference")
    parser.add_argument("--memory", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        tensors = resnet18(path)
        if options.memory:
            print(memory(path, tensors, options.memory))
            return
        rounds = [(*calibrated(path, tensors, SAMPLES), bare(path, SAMPLES)) for _ in range(options.repeats)]
    ratios = sorted((seen + search) / alone for seen, search, alone in rounds)
    print(
        f"entropy calibration of {len(tensors)} tensors / bare inference, {SAMPLES} samples: {statistics.median(ratios):.2f} "
        f"({ratios[0]:.2f}–{ratios[-1]:.2f}), target {TARGET}"
    )
    names = ("observation", "search", "bare inference")
    print(
        ", ".join(
            f"{name} {statistics.median(part):.2f} s" for name, part in zip(names, zip(*rounds, strict=True), strict=True)
        )
    )
    for count in (60, SAMPLES):
        print(f"peak memory above the process before, {count} samples: {in_new_process(count):.0f} MiB, target {MEMORY}")


if __name__ == "__main__":
    main()
