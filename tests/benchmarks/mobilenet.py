"""The same MobileNetV2 quantized in six ways, judged alike: ``python tests/benchmarks/mobilenet.py --weights FILE``.

ImageNet weights, the example's crops: 144 to calibrate with, two sets of 360 to judge by agreement with the float model.
Speed is a ratio to the float file, both timed in turn in one process: median and range of several timings. It prints Markdown,
and below it the speed that the example's call is claimed to have on a machine without other load.
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
import statistics
import tempfile

import mlflow
import torch

import mlflow_aifsm as aifsm
from examples import mobilenet as example
from mlflow_aifsm.operations.judgement import Judge
from mlflow_aifsm.operations.quantization import Quantization
from mlflow_aifsm.samples import Samples
from mlflow_aifsm.verification.integer_execution import facts
from mlflow_aifsm.verification.latency import speedup

WAYS: dict[str, Quantization] = {
    "ORT min-max": aifsm.ORT(per_channel=True, activation_type="QUInt8"),
    "NNCF default": aifsm.NNCF(subset_size=144),
    "`Static()`": aifsm.Static(subset_size=144),
    "`Static(bias_correction=True)`": aifsm.Static(bias_correction=True, subset_size=144),
    "the example's call": example.CONFIG,
}
TIMINGS = 5
CLAIMED = 2.0
"""Speed of the example's call on two processors, the median of quiet timings. Tests ask for less, as they share the machine."""


def integers(path: Path) -> str:
    """Layers that ONNX Runtime runs in integers, of all."""
    return next(fact.value.brief for fact in facts(path) if fact.name == "runtime.integer_operators")


def row(name: str, path: Path, judges: list[Judge], reference: Path, shown: aifsm.Verification) -> str:
    """One line of the table."""
    found = [judge.judge(path) for judge in judges]
    agreements = " | ".join(f"{1 - (one.drop or 0):.3f}" for one in found)
    sqnr = " / ".join(f"{one.sqnr_db:.1f}" for one in found)
    speeds = sorted(speedup(path, reference, shown).numbers["speedup"] for _ in range(TIMINGS))
    speed = f"{statistics.median(speeds):.2f} ({speeds[0]:.2f}–{speeds[-1]:.2f})"
    return f"| {name} | {agreements} | {sqnr} | {integers(path)} | {speed} | {path.stat().st_size:,} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, help=f"torchvision's {example.WEIGHTS}; downloaded if left out")
    options = parser.parse_args()
    for name in ("mlflow", "alembic", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    folder = Path(tempfile.mkdtemp(prefix="aifsm-benchmark-"))
    model = example.pretrained(options.weights.resolve() if options.weights else example.downloaded(folder))
    os.chdir(folder)
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    calibration = aifsm.Data(example.stacked(*example.CALIBRATION), name="144 crops of 18 pictures, seed 1")
    shown = aifsm.Verification(calibration.source[:1])
    frozen = aifsm.freeze(model, torch.zeros(2, 3, 224, 224), aifsm.Onnx(dynamic_shapes="batch"), verified_model="mobilenet_2")
    judges = [Judge(frozen.path, Samples.of(example.stacked(*one))) for one in example.JUDGED]
    print(f"load average at the start {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors\n")
    print(
        "| | agreement, seed 2 | seed 7 | SQNR, dB | layers in integers | speed | bytes |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    print(f"| FP32 | 1 | 1 | | {integers(frozen.path)} | 1 | {frozen.path.stat().st_size:,} |", flush=True)
    for name, config in WAYS.items():
        with mlflow.start_run():
            int8 = aifsm.quantize(frozen.path, calibration, config, verified_model="mobilenet_2")
        print(row(name, int8.path, judges, frozen.path, shown), flush=True)
    print(f"\nclaimed speed of the example's call: {CLAIMED:g}; load average at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
