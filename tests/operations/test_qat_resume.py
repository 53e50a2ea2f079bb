"""Training that was interrupted goes on in the same log, and ends where it would have ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest
import torch

import mlflow_aifsm as aifsm
from mlflow_aifsm.digests import sha256_file
from mlflow_aifsm.errors import InputError, NotFoundError
from mlflow_aifsm.operations.qat_session import QuantizationAwareTraining
from tests.conftest import REPOSITORY
from tests.operations.qat_training import begun, beside, calibration, codes, entry, epoch, trained

CONFIG = aifsm.Static(subset_size=64)


class Interruption(Exception):
    pass


def train(qat: QuantizationAwareTraining, until: int, stop: int | None = None) -> None:
    """Epochs of 128 samples with Adam and a schedule, as one loop for both halves of a training."""
    optimizer = torch.optim.Adam(qat.model.parameters(), 1e-3)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    qat.optimizer(optimizer, scheduler)
    while qat.epochs < until:
        loss = epoch(qat.model, optimizer, 128)
        scheduler.step()
        qat.epoch(loss=loss)
        if qat.epochs == stop:
            raise Interruption


@contextmanager
def resumed(folder: Path, **settings: object) -> Iterator[QuantizationAwareTraining]:
    asked = {"config": CONFIG, **settings}
    with aifsm.quantization_aware_training(trained(), calibration(), checkpoint=folder, resume=True, **asked) as qat:
        yield qat


def interrupted(folder: Path) -> QuantizationAwareTraining:
    with pytest.raises(Interruption), begun(CONFIG, checkpoint=folder) as qat:
        train(qat, 4, stop=2)
    return qat


def test_it_goes_on_in_the_same_log_and_epochs_add_up(experiment: str, tmp_path: Path) -> None:
    first = interrupted(tmp_path / "state")
    client = mlflow.MlflowClient()
    assert client.get_run(first.run_id).info.status == "FAILED"
    assert client.get_run(first.run_id).data.tags["aifsm.optimization.status"] == "failed"
    with resumed(tmp_path / "state") as second:
        assert second.epochs == 2
        train(second, 4)
    int8 = second.freeze()
    assert (int8.run_id, int8.log_id) == (first.run_id, first.log_id)
    assert client.get_run(first.run_id).info.status == "FINISHED"
    assert [point.step for point in client.get_metric_history(first.run_id, "aifsm.qat.loss")] == [1, 2, 3, 4]
    assert beside(int8, "epochs").value.data == 4
    assert "2 sessions" in beside(int8, "epochs").value.text
    assert entry(int8, "qat").value.data["steps"] == 8
    assert [rate for rate, _ in beside(int8, "optimizer").value.data[0]["rates"]] == [1e-3, 5e-4, 2.5e-4, 1.25e-4]
    assert not codes(int8) & {"no_training_step", "learned_scale_unchanged", "scale_not_as_trained"}
    assert len(mlflow.search_runs([experiment])) == 1


def test_it_ends_where_an_uninterrupted_training_ends(experiment: str, tmp_path: Path) -> None:
    with begun(CONFIG) as whole:
        train(whole, 4)
    interrupted(tmp_path / "state")
    torch.manual_seed(99)
    with resumed(tmp_path / "state") as qat:
        train(qat, 4)
    assert sha256_file(qat.freeze().path) == sha256_file(whole.freeze().path)


def test_the_state_on_disk_is_safetensors_and_json(experiment: str, tmp_path: Path) -> None:
    interrupted(tmp_path / "state")
    files = sorted(path.suffix for path in (tmp_path / "state").iterdir())
    assert files == [".json", ".safetensors"]
    state = json.loads((tmp_path / "state" / "qat.json").read_bytes())
    assert len(state["metrics"]) == 2


def test_a_changed_state_is_refused(experiment: str, tmp_path: Path) -> None:
    interrupted(tmp_path / "state")
    file = next((tmp_path / "state").glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match="missing or were changed"), resumed(tmp_path / "state"):
        pass


def test_another_model_or_another_config_is_refused(experiment: str, tmp_path: Path) -> None:
    interrupted(tmp_path / "state")
    with (
        pytest.raises(InputError, match="asked for otherwise; got other learn_scales"),
        resumed(tmp_path / "state", learn_scales=False),
    ):
        pass
    other = trained()
    with torch.no_grad():
        other.head.bias.add_(1)
    with (
        pytest.raises(InputError, match="belongs to another model"),
        aifsm.quantization_aware_training(other, calibration(), CONFIG, checkpoint=tmp_path / "state", resume=True),
    ):
        pass


def test_without_a_state_or_after_the_end_there_is_nothing_to_resume(experiment: str, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no checkpoint"), resumed(tmp_path / "nothing"):
        pass
    with begun(CONFIG, checkpoint=tmp_path / "state") as qat:
        train(qat, 1)
    qat.freeze()
    with pytest.raises(InputError, match=r"log .* is finished"), resumed(tmp_path / "state"):
        pass


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
import mlflow_aifsm as aifsm
from mlflow_aifsm.digests import sha256_file
from tests.operations.qat_training import run
print("sha256", sha256_file(run(2).freeze().path))
"""


@pytest.mark.slow
def test_two_processes_with_one_seed_and_one_thread_write_the_same_bytes(experiment: str, tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(next(line for line in done.stdout.splitlines() if line.startswith("sha256")))
    assert found[0] == found[1]
