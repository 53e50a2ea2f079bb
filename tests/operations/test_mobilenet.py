"""A real network with real weights: frozen both ways, and quantized as its example does."""

from __future__ import annotations

from collections.abc import Iterator

import mlflow
import numpy as np
import pytest
import torch

import mlflow_aifsm as aifsm
from examples import mobilenet as example
from mlflow_aifsm.facts import State
from mlflow_aifsm.record import Status
from mlflow_aifsm.verification.latency import speedup
from tests.mobilenet import MobileNetV2, pretrained

pytestmark = pytest.mark.slow

PRUNING = {"framework", "packages", "criteria", "additional", "patterns"}
RECOVERY = {"qat", "learned"}


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> MobileNetV2:
    return pretrained(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return example.stacked(24, seed=2)


@pytest.fixture(scope="module")
def converted(
    mobilenet: MobileNetV2, database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[aifsm.Result, aifsm.Result]]:
    """What the example makes, by its own code: the frozen and the integer model."""
    folder = tmp_path_factory.mktemp("example")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", database)
        mlflow.set_tracking_uri(database)
        made = mlflow.create_experiment("mobilenet", artifact_location=(folder / "artifacts").as_uri())
        with mlflow.start_run(experiment_id=made):
            results = example.converted(mobilenet, "A. Ito")
        yield results


@pytest.mark.usefixtures("experiment")
@pytest.mark.parametrize("config", [aifsm.Onnx(dynamic_shapes="batch"), aifsm.Pt2(dynamic_shapes="batch")], ids=["onnx", "pt2"])
def test_mobilenet_v2_is_frozen_and_its_rows_are_right(
    mobilenet: MobileNetV2, crops: np.ndarray, config: aifsm.Onnx | aifsm.Pt2
) -> None:
    judged = aifsm.Verification(aifsm.Data(crops, name="24 crops"), epsilon=1e-3, reason="a hundredth of the smallest margin")
    frozen = aifsm.freeze(mobilenet, torch.from_numpy(crops[:2]), config, verified_model="mobilenet_2", verification=judged)
    entries = frozen.record.entries
    assert frozen.verification is not None
    assert frozen.verification.passed, frozen.verification
    assert frozen.verification.numbers["flips"] == 0
    assert entries["aifsm.model.parameters"].value.data == 3_504_872
    rows = {key.rpartition(".")[2]: entry for key, entry in entries.items() if key.startswith("aifsm.elimination.")}
    assert {entry.state for entry in rows.values()} == {State.MEASURED}
    folded = isinstance(config, aifsm.Onnx)
    assert rows["batch_normalization"].value.brief == ("folded" if folded else "frozen")
    assert max(map(len, rows["batch_normalization"].value.data.values())) == 52
    assert rows["dropout"].value.brief == ("eliminated" if folded else "inert")
    assert frozen.record.gaps == ()
    assert frozen.findings == ()


def test_the_quantized_mobilenet_decides_as_the_float_one_on_both_sets(
    converted: tuple[aifsm.Result, aifsm.Result],
) -> None:
    _, int8 = converted
    agreements = example.agreements(int8)
    assert set(agreements) == {"seed 2", "seed 7"}
    assert min(agreements.values()) >= 0.90
    assert int8.verification.passed
    assert int8.verification.samples == 720


def test_the_same_file_runs_much_faster_than_the_float_one(converted: tuple[aifsm.Result, aifsm.Result]) -> None:
    """The benchmark prints the ratio on a quiet machine, which is above 2; here another process may take a core at any time."""
    frozen, int8 = converted
    one = aifsm.Verification(example.stacked(1, seed=2))
    best = 0.0
    for _ in range(6):  # both files are clocked side by side, and the least disturbed timing says most
        best = max(best, speedup(int8.path, frozen.path, one).numbers["speedup"])
        if best >= 2:
            break
    # a file computed in float, or converted to and fro at each layer, is at 1.0 or below
    assert best >= 1.5


def test_the_layers_in_float_were_found_by_the_call_and_are_few(converted: tuple[aifsm.Result, aifsm.Result]) -> None:
    entry = converted[1].record.entries["aifsm.recovery.partial"]
    assert example.CONFIG.keep_float == ()
    assert 1 <= len(entry.value.data) <= 4
    assert entry.value.text.count("dB where it alone is quantized") == len(entry.value.data)


def test_the_optimization_log_answers_every_row_and_says_why_pruning_and_training_do_not_apply(
    converted: tuple[aifsm.Result, aifsm.Result],
) -> None:
    record = converted[1].record
    absent = {key.removeprefix("aifsm.") for key, entry in record.entries.items() if entry.state is State.NOT_APPLICABLE}
    assert absent == {f"pruning.{name}" for name in PRUNING} | {f"recovery.{name}" for name in RECOVERY}
    assert all(record.entries[f"aifsm.{name}"].reason for name in absent)
    assert record.gaps == ()
    assert record.findings == ()
    assert record.status is Status.COMPLETE


def test_what_the_example_prints_is_what_the_log_holds(
    converted: tuple[aifsm.Result, aifsm.Result], capsys: pytest.CaptureFixture[str]
) -> None:
    frozen, int8 = converted
    example.conclude(int8.run_id, frozen, int8)
    lines = capsys.readouterr().out.splitlines()
    assert f"SQNR                {int8.verification.numbers['sqnr_db']:.1f} dB" in lines
    assert f"size                {int8.path.stat().st_size:,} of {frozen.path.stat().st_size:,} bytes" in lines
    assert len([line for line in lines if line.startswith("written  aifsm-reports/")]) == 2
