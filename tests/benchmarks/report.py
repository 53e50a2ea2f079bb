"""What a report costs beside ``import mlflow``, in the same run: ``python tests/benchmarks/report.py [RUN_ID]``.

Ratios, not seconds, because seconds depend on the machine and on who else uses it. The bounds are seconds of the machine on
which importing MLflow takes `REFERENCE`. With a RUN_ID, of the tracking server that MLflow's settings name, the command line
is timed too.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from mlflow_aifsm.record import Evidence
from mlflow_aifsm.report import formats
from tests.report import samples
from tests.report.plotted import evidence, names

TURNS = 5
REFERENCE = 3.5
"""Seconds of ``python -c "import mlflow"`` where the bounds were set."""
BOUNDS = {"html": 0.3, "pdf": 1.5, "docx": 0.3, "md": 0.3, "json": 0.3}
"""Seconds there."""


def of_quantizers(count: int) -> Evidence:
    """A log whose file has so many quantizers; nothing else is long in it."""
    row = {"kind": "weight", "dtype": "int8", "bits": 8, "granularity": "channel", "axis": 0, "zero_point_min": 0}
    ends = {
        "scale_min": 0.0021,
        "scale_max": 0.0066,
        "alpha_min": 0.27,
        "alpha_max": 0.84,
        "beta_min": -0.84,
        "beta_max": -0.27,
    }
    rows = tuple({"tensor": name, "layer": name, "op": "Conv", **row, **ends} for name in names(count))
    sample = samples.optimization()
    return replace(sample, tables={**sample.tables, "quantizers": rows})


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def imported() -> None:
    subprocess.run([sys.executable, "-c", "import mlflow"], check=True)


def ratio(what: str, mine: Callable[[], object], bound: float) -> None:
    """Prints the ratio of the medians of turns that alternate; a first turn of each warms caches and is not counted."""
    turns = [(seconds(mine), seconds(imported)) for _ in range(TURNS + 1)][1:]
    ours, theirs = (statistics.median(side) for side in zip(*turns, strict=True))
    word = "holds" if ours / theirs <= bound else "MISSED"
    print(f"{what:48} {ours / theirs:7.3f} {bound:8.3f}  {word:7} {ours:7.2f} s {theirs:7.2f} s")


def main() -> None:
    """All figures, about two minutes."""
    head = f"median of {TURNS}, beside import mlflow"
    print(f"{head:48} {'ratio':>7} {'at most':>8}  {'':7} {'ours':>9} {'import':>9}")
    made = {"1,000 quantizers": of_quantizers(1_000), "1,000 quantizers, all tables and plots": evidence(names(1_000))}
    for about, log in made.items():
        for name, bound in BOUNDS.items():
            ratio(f"{name}, {about}", partial(formats.write, log, name), bound / REFERENCE)
    if len(sys.argv) > 1:
        script = str(Path(sys.executable).with_name("mlflow-aifsm"))
        command = [script, "report", sys.argv[1], "-o", "/tmp/report-benchmark/"]
        asked = f"import mlflow; mlflow.get_run({sys.argv[1]!r})"
        alone = partial(subprocess.run, [sys.executable, "-c", asked], check=True, capture_output=True)
        ratio("mlflow.get_run(RUN_ID) alone in a new process", alone, 1.5)
        ratio("report RUN_ID in a new process", partial(subprocess.run, command, check=True, capture_output=True), 1.5)


if __name__ == "__main__":
    main()
