"""Time and memory of a comparison of 10,000 runs: ``python tests/benchmarks/compare.py [COUNT]``.

One optimization is logged as users log it; the other runs are copies of its rows in MLflow's own tables, with other numbers,
because logging 10,000 takes hours. What is measured runs in a process of its own: paged search, table, comparison, HTML.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="1", NNCF_CI="1", MLFLOW_AIFSM_QUIET="1")
os.environ["MLFLOW_AIFSM_RESPONSIBLE"] = "A. Ito"

import resource
import subprocess
import tempfile
import time

SECONDS, GIGABYTES = 60, 1.0
"""What 10,000 runs may cost."""
EXPERIMENT = "many"


def logged(folder: Path) -> str:
    """The run of one optimization, verified and clocked, beside its conversion."""
    import mlflow

    import mlflow_aifsm as aifsm
    from tests.models import trained

    digits = trained()
    judged = aifsm.Verification(digits.images, digits.labels, latency=True)
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.set_experiment(EXPERIMENT)
    frozen = aifsm.freeze(digits.model, digits.example, aifsm.Onnx(dynamic_shapes="batch"), verified_model="digits_1")
    return aifsm.quantize(frozen, digits.images[:64], aifsm.Static(subset_size=64), verification=judged).run_id


def measured() -> None:
    """The work itself, in a process that has imported nothing else."""
    from mlflow_aifsm.comparison.comparing import side_by_side
    from mlflow_aifsm.comparison.searching import search_logs
    from mlflow_aifsm.comparison.writing import saved

    began = time.perf_counter()
    frame = search_logs([EXPERIMENT])
    searched = time.perf_counter()
    compared = side_by_side([], EXPERIMENT)
    best = int(compared.frame["pareto"].sum())
    done = time.perf_counter()
    files = saved(compared, "html", "many.html")
    ended = time.perf_counter()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"search_logs   {len(frame):7,} rows  {searched - began:6.1f} s")
    print(f"compare       {len(compared.logs):7,} rows  {done - searched:6.1f} s   {best} best")
    print(f"HTML and CSV  {sum(file.stat().st_size for file in files) / 2**20:7.1f} MB    {ended - done:6.1f} s")
    held = "hold" if ended - began <= SECONDS and memory <= GIGABYTES else "MISSED"
    print(f"together {ended - began:.1f} s of {SECONDS} s, peak {memory:.2f} GB of {GIGABYTES} GB: {held}")


def main() -> None:
    """All figures, about two minutes."""
    if sys.argv[1:] == ["--measured"]:
        measured()
        return
    from tests.comparison.copies import copies

    folder = Path(tempfile.mkdtemp(prefix="aifsm-benchmark-"))
    os.chdir(folder)
    began = time.perf_counter()
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    copies(folder / "mlflow.db", logged(folder), count)
    print(f"{count:,} runs made in {time.perf_counter() - began:.1f} s in {folder}")
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    subprocess.run([sys.executable, __file__, "--measured"], check=True, env=environment)


if __name__ == "__main__":
    main()
