"""What pruning by blocks costs beside PyTorch's own pruning of single weights, on the same ResNet-18.

Run it with ``python tests/benchmarks/prune.py``. Both score by magnitude under one threshold for all layers, mask, and make the
zeros permanent; they run in turn in one process, and a first turn of each warms caches and is not counted. Processor time is
printed beside the clock's: where others use the machine, it says more.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="1", NNCF_CI="1", MLFLOW_AIFSM_QUIET="1")

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import prune

from mlflow_aifsm.backends import torch_prune, torch_scores
from mlflow_aifsm.capture.patterns import Pattern
from tests.benchmarks.verification import resnet18

PATTERN, AMOUNT, TARGET = "block:4x4", 0.5, 1.2


def ours(model: nn.Module) -> None:
    """Blocks of 4 output channels by 4 inputs."""
    layers = torch_prune.prunable(model)
    scores = torch_scores.magnitude(model, layers)
    applied = torch_prune.apply(model, layers, scores, Pattern.of(PATTERN), AMOUNT, "global")
    torch_prune.finalize(model)
    if abs(applied.amount - AMOUNT) > 1e-3:
        raise SystemExit(f"{applied.amount:.4f} of the weights were pruned, not {AMOUNT}")


def bare(model: nn.Module) -> None:
    """PyTorch alone, each weight by itself."""
    layers = [(part, "weight") for part in model.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    prune.global_unstructured(layers, prune.L1Unstructured, amount=AMOUNT)
    for part, name in layers:
        prune.remove(part, name)


def timed(work: Callable[[nn.Module], None], model: nn.Module) -> tuple[float, float]:
    """Seconds of the clock, and of all processors together, on a copy that is made before."""
    fresh = copy.deepcopy(model)
    start, used = time.perf_counter(), time.process_time()
    work(fresh)
    return time.perf_counter() - start, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9, help="interleaved pairs")
    options = parser.parse_args()
    model = resnet18()
    print(f"load average at the start {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, PyTorch {torch.__version__}")
    turns = [(timed(ours, model), timed(bare, model)) for _ in range(options.repeats + 1)][1:]
    print(f"{PATTERN} / torch.nn.utils.prune.global_unstructured, {AMOUNT:.0%} of a ResNet-18, target {TARGET}")
    for at, what in enumerate(("clock", "processors")):
        ratios = sorted(one[at] / other[at] for one, other in turns)
        sides = (statistics.median(side[at] for side in pair) for pair in zip(*turns, strict=True))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
        print(f"{what:10} {spread}   {' / '.join(f'{seconds:.2f} s' for seconds in sides)}")


if __name__ == "__main__":
    main()
