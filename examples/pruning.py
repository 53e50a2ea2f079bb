"""Pruning, and what wins back what it costs: the same network made sparse in several ways, one run each, side by side.

``python examples/pruning.py`` prunes a small CNN on scikit-learn's digits in a minute or less. ``python examples/pruning.py
--mobilenet`` prunes MobileNetV2 with its ImageNet weights, lets it learn from its own dense self, and quantizes it, in some
minutes and in an environment with ``pip install -e '.[test]'``; a path behind ``--mobilenet`` names torchvision's weights,
else they are downloaded once. Everything stays on this machine, in ``mlflow.db`` and ``mlartifacts``.
"""

from __future__ import annotations

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("NNCF_CI", "1")  # NNCF's own switch for its telemetry
os.environ.setdefault("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # it writes into the table

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import mlflow
import numpy as np
import torch
from torch import nn

import mlflow_aifsm as aifsm
from examples import quickstart

SEED = 0
EPOCHS = 3
"""Passes over the training images that each way has, shared by its steps, so that the ways differ in nothing else."""
AMOUNT = 0.8
"""Share of all weights that is pruned."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to a sparse model: the name of its run, what is asked of the pruning, and whether int8 follows."""

    name: str
    config: aifsm.Magnitude
    quantized: bool = False


WAYS = (
    Way("one shot", aifsm.Magnitude(AMOUNT)),
    Way("three steps", aifsm.Magnitude(AMOUNT, steps=3)),
    Way("three steps, blocks of 2 by 2", aifsm.Magnitude(AMOUNT, pattern="block:2x2", steps=3)),
    Way("three steps, then int8", aifsm.Magnitude(AMOUNT, steps=3), quantized=True),
)

SPARSE = aifsm.Magnitude(0.3, keep_dense=("features.0", "features.1.conv.0", "features.*.conv.1.0"), batch_norm_adaptation=144)
"""What MobileNetV2 is pruned to: all but its first and its depthwise convolutions, which are small and matter."""
JUDGED = 90
"""Crops of each of the two sets that MobileNetV2 is judged by."""
BATCH = 16

Split = dict[str, tuple[np.ndarray, np.ndarray]]


def tuning(data: Split, epochs: int) -> aifsm.FineTuning:
    """Some more epochs of the training, with what the log cannot see of them."""
    images, labels = data["training"]
    inputs, targets = torch.from_numpy(images), torch.from_numpy(labels)

    def train(model: nn.Module) -> None:
        torch.manual_seed(SEED)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
        model.train()
        for _ in range(epochs):
            for batch in torch.randperm(len(inputs)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()
                optimizer.step()

    return aifsm.FineTuning(train, epochs=epochs, data=aifsm.Data(images, name="digits, training"))


def sparse(model: str, data: Split, way: Way, responsible: str | None) -> aifsm.Result:
    """The model behind the URI made sparse in a run of its own, which holds both logs."""
    images, labels = data["verification"]
    held_out = aifsm.Verification(
        aifsm.Data(images, name="digits, verification"), labels, limits={"accuracy_drop": 0.1}, reason="an example"
    )
    with (
        mlflow.start_run(run_name=way.name),
        aifsm.optimization(model, verification=held_out, responsible=responsible) as optimization,
    ):
        optimization.prune(way.config, fine_tune=tuning(data, EPOCHS // len(way.config.shares)))
        if way.quantized:
            optimization.quantize(aifsm.Data(data["calibration"][0], name="digits, calibration"))
    return optimization.result


def taught(teacher: nn.Module, images: np.ndarray, epochs: int) -> aifsm.FineTuning:
    """A training on what the dense network says of the images, which needs no labels."""
    inputs = torch.from_numpy(images)
    with torch.no_grad():
        targets = torch.cat([teacher(part).softmax(1) for part in inputs.split(BATCH)])

    def distil(model: nn.Module) -> None:
        torch.manual_seed(SEED)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
        model.eval()  # a few crops are no statistics
        for _ in range(epochs):
            for batch in torch.randperm(len(inputs)).split(BATCH):
                optimizer.zero_grad()
                nn.functional.kl_div(model(inputs[batch]).log_softmax(1), targets[batch], reduction="batchmean").backward()
                optimizer.step()

    return aifsm.FineTuning(distil, epochs=epochs, data=aifsm.Data(images, name="144 crops of 18 pictures, seed 1"))


def sparse_mobilenet(model: nn.Module, responsible: str | None) -> aifsm.Result:
    """MobileNetV2 pruned, adapted, taught by its dense self and quantized, in one log."""
    from examples import mobilenet

    images = mobilenet.stacked(*mobilenet.CALIBRATION)
    calibration = aifsm.Data(images, name="144 crops of 18 pictures, seed 1")
    seeds = [seed for _, seed in mobilenet.JUDGED]
    judged = aifsm.Verification(
        aifsm.Data(
            np.concatenate([mobilenet.stacked(JUDGED, seed) for seed in seeds]),
            name=f"{len(seeds) * JUDGED} crops of 18 pictures",
        ),
        slices=[f"seed {seed}" for seed in seeds for _ in range(JUDGED)],
        limits={"agreement": 0.5},
        reason="an example: a short training on few crops wins back a part",
    )
    with (
        mlflow.start_run(run_name="MobileNetV2"),
        aifsm.optimization(
            model, verified_model="mobilenet_v2_b0353104", verification=judged, responsible=responsible
        ) as optimization,
    ):
        optimization.prune(SPARSE, data=calibration)
        optimization.fine_tune(taught(model, images, EPOCHS))
        optimization.quantize(calibration, aifsm.Static(bias_correction=True, subset_size=len(images)))
    return optimization.result


def steps(result: aifsm.Result) -> list[tuple[str, float, float]]:
    """The steps of a log on the float model: operation, share of zeros, and what the model was worth after it; ratios."""
    table = mlflow.load_table("aifsm/optimization/steps.json", run_ids=[result.run_id]).dropna(subset="value")
    return list(zip(table["operation"], table["pruned"], table["value"], strict=True))


def delivered(result: aifsm.Result) -> float:
    """Accuracy of the delivered file, or its agreement with the dense model where there are no labels; ratio."""
    numbers = result.verification.numbers
    return float(numbers["accuracy_after"] if "accuracy_after" in numbers else numbers["agreement"])


def conclude(results: dict[str, aifsm.Result]) -> None:
    """The table, and the lines to copy."""
    print()
    print(f"{'':30}{'before':>10}{'pruned':>10}{'recovered':>11}{'delivered':>11}{'zeros':>8}{'size':>12}{'compressed':>12}")
    for name, result in results.items():
        rows = steps(result)
        pruned = [worth for operation, _, worth in rows if operation == "prune"][-1]
        worths = f"{rows[0][2]:>10.4f}{pruned:>10.4f}{rows[-1][2]:>11.4f}{delivered(result):>11.4f}"
        size = sum(file.size for file in result.record.output_files)
        ratio = mlflow.get_run(result.run_id).data.metrics["aifsm.compressed_ratio"]
        print(f"{name:30}{worths}{rows[-1][1]:>8.1%}{size:>12,}{ratio:>12.2f}")
    print()
    for name, result in results.items():
        print(f"report   mlflow-aifsm report {result.run_id}   # {name}")
    print("compare  mlflow server --backend-store-uri sqlite:///mlflow.db --port 5000")


def experiment(name: str) -> None:
    """The example's experiment, whose artifacts lie beside the database, as the active one."""
    if mlflow.get_experiment_by_name(name) is None:
        mlflow.create_experiment(name, artifact_location=Path("mlartifacts").resolve().as_uri())
    mlflow.set_experiment(name)


def digits(responsible: str | None) -> dict[str, aifsm.Result]:
    """The digits' network trained and registered in a run of its own, and made sparse in each way."""
    data = quickstart.digits()
    with mlflow.start_run(run_name="dense"):
        model = quickstart.train(*data["training"], epochs=8)
        # as pickle, which loads as a module with layers; pt2, MLflow's default with an input example, does not
        logged = mlflow.pytorch.log_model(
            model, name="digits", registered_model_name="digits", serialization_format="pickle", pip_requirements=["torch"]
        )
    uri = f"models:/digits/{logged.registered_model_version}"
    return {way.name: sparse(uri, data, way, responsible) for way in WAYS}


def main() -> None:
    """Prunes, and prints what it cost and what was won back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--mobilenet",
        nargs="?",
        const="",
        metavar="WEIGHTS",
        help="prune MobileNetV2; torchvision's weights, downloaded if left out",
    )
    parser.add_argument("--responsible", help="the person who optimizes; your account name if left out")
    options = parser.parse_args()
    if options.mobilenet is None:
        experiment("pruning")
        conclude(digits(options.responsible))
        return
    from examples import mobilenet

    experiment("pruning-mobilenet")
    model = mobilenet.pretrained(Path(options.mobilenet) if options.mobilenet else mobilenet.downloaded(Path()))
    result = sparse_mobilenet(model, options.responsible)
    conclude({"MobileNetV2": result})
    for name, share in mobilenet.agreements(result).items():
        print(f"int8, agreement with the dense model, {name}: {share:.3f}")


if __name__ == "__main__":
    main()
