"""A dozen ways to make MobileNetV2 small, each in a run of its own, one table, one plot, and a registered winner.

Run it with ``python examples/compare_optimizations.py``, in an environment with ``pip install -e '.[test]'``; weights and
pictures are those of ``examples/mobilenet.py``. It takes some minutes on two cores. Everything stays on this machine, in
``mlflow.db`` and ``mlartifacts``.
"""

from __future__ import annotations

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("NNCF_CI", "1")  # NNCF's own switch for its telemetry
os.environ.setdefault("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # it writes between the lines

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib.pyplot as plt
import mlflow
import pandas as pd

import mlflow_aifsm as aifsm
from examples import mobilenet, pruning

EXPERIMENT = "mobilenet-compared"
CALIBRATION = (72, 1)
"""Crops to calibrate with, and their seed."""
JUDGED = (120, 2)
"""Crops to judge with, and their seed."""
LEAST = 0.9
"""Share of decisions that must be the float model's for a configuration to be chosen."""
FIRST_AND_LAST = ("features.0*", "classifier*")
SAMPLES = {"subset_size": CALIBRATION[0]}

CONFIGS: dict[str, aifsm.Static | aifsm.WeightOnly | aifsm.NNCF] = {
    "int8": aifsm.Static(**SAMPLES),
    "int8, one scale a tensor": aifsm.Static(granularity="layer", **SAMPLES),
    "int8, symmetric": aifsm.Static(activations="int8", scheme="symmetric", **SAMPLES),
    "int8, min-max": aifsm.Static(ranges="min_max", **SAMPLES),
    "int8, percentile": aifsm.Static(ranges="percentile", **SAMPLES),
    "int8, entropy": aifsm.Static(ranges="entropy", **SAMPLES),
    "int8, mean squared error": aifsm.Static(ranges="mse", **SAMPLES),
    "int8, bias corrected": aifsm.Static(bias_correction=True, **SAMPLES),
    "int8, first and last in float": aifsm.Static(bias_correction=True, keep_float=FIRST_AND_LAST, **SAMPLES),
    "int8 by NNCF": aifsm.NNCF(**SAMPLES),
    "weights of 8 bits": aifsm.WeightOnly(bits=8),
    "weights of 4 bits": aifsm.WeightOnly(bits=4),
}


def optimized(model: mobilenet.MobileNetV2, names: list[str], responsible: str | None) -> dict[str, aifsm.Result]:
    """The float model, and each configuration of it, in a run of its own; one that misses the limit is a result as well."""
    calibration = aifsm.Data(mobilenet.stacked(*CALIBRATION), name=f"{CALIBRATION[0]} crops, seed {CALIBRATION[1]}")
    judged = aifsm.Verification(
        aifsm.Data(mobilenet.stacked(*JUDGED), name=f"{JUDGED[0]} crops, seed {JUDGED[1]}"),
        limits={"agreement": LEAST},
        reason="what one accepts of 8 bits on a network that is known to be hard to quantize",
        latency=True,
    )
    with mlflow.start_run(run_name="float"):
        frozen = aifsm.freeze(
            model,
            mobilenet.stacked(2, CALIBRATION[1]),
            aifsm.Onnx(dynamic_shapes="batch"),
            verification=judged,
            verified_model="mobilenet_v2_b0353104",
            responsible=responsible,
            registered_model_name="mobilenet-frozen",
        )
    results = {"float": frozen}
    for name in names:
        config = CONFIGS[name]
        data = None if isinstance(config, aifsm.WeightOnly) else calibration
        with mlflow.start_run(run_name=name):
            results[name] = aifsm.quantize(frozen, data, config, verification=judged, responsible=responsible)
    return results


def winner(frame: pd.DataFrame) -> str:
    """The fastest of the configurations that met the limit, and of equally fast ones the best: its run's name, or nothing."""
    met = frame[(frame["log"] == "optimization") & (frame["group"] > 0)].dropna(subset="speedup")
    return str(met.sort_values(["speedup", "pareto"]).index[-1]) if len(met) else ""


def plotted(frame: pd.DataFrame, path: Path) -> Path:
    """Agreement against speed, one point a run; those that nothing beats are filled and joined."""
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    shown = frame.dropna(subset="speedup").sort_values("speedup")
    best = shown[shown["pareto"]]
    axes.scatter(shown["speedup"], shown["agreement"], facecolors="white", edgecolors="tab:blue")
    axes.plot(best["speedup"], best["agreement"], "o-", color="tab:blue")
    axes.axhline(LEAST, color="grey", linestyle=":", label=f"least that is accepted: {LEAST}")
    for name, row in shown.iterrows():
        axes.annotate(str(name), (row["speedup"], row["agreement"]), (6, 4), textcoords="offset points", fontsize=8)
    axes.set(xlabel="times as fast as the float model", ylabel="decisions that are the float model's", title="MobileNetV2")
    axes.legend(loc="lower right")
    figure.savefig(path)
    plt.close(figure)
    return path


def registered(result: aifsm.Result) -> tuple[str, Path]:
    """The winner as a version of its own, and the dossier of its two logs."""
    version = mlflow.register_model(result.model_uri, "mobilenet-int8").version
    uri = f"models:/mobilenet-int8/{version}"
    (dossier, *_) = aifsm.render_report(uri, chain=True, output="aifsm-reports/")
    return uri, dossier


def main() -> None:
    """Makes them all, compares them, and registers the best."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="torchvision's file; downloaded if left out")
    parser.add_argument("--only", nargs="+", choices=CONFIGS, metavar="NAME", help=f"of {', '.join(CONFIGS)}")
    parser.add_argument("--responsible", help="the person who optimizes; your account name if left out")
    options = parser.parse_args()
    model = mobilenet.pretrained(options.weights or mobilenet.downloaded(Path()))
    pruning.experiment(EXPERIMENT)
    results = optimized(model, options.only or list(CONFIGS), options.responsible)
    conclude(results)


def conclude(results: dict[str, aifsm.Result]) -> None:
    """The table, the plot, and the winner."""
    frame = aifsm.compare(*(result.run_id for result in results.values()))
    print()
    print(frame[["agreement", "sqnr_db", "speedup", "size_ratio", "pareto"]].to_string(float_format="{:.3f}".format, na_rep=""))
    print()
    for sentence in frame.attrs["warnings"]:
        print(f"note     {sentence}")
    print(f"plot     {plotted(frame, Path('pareto.svg'))}")
    name = winner(frame)
    if not name:
        print(f"winner   none: no configuration has an agreement of {LEAST}")
        return
    uri, dossier = registered(results[name])
    print(f"winner   {name}: {uri}")
    print(f"dossier  {dossier}")
    print(f"compare  mlflow-aifsm compare --experiment {EXPERIMENT} -o compared.html")


if __name__ == "__main__":
    main()
