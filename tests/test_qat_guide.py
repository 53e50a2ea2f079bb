"""The guide of quantization-aware training runs as it stands, names findings that the package makes, and its example gains."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
import torch

import mlflow_aifsm as aifsm
from tests.conftest import REPOSITORY
from tests.models import digits
from tests.operations.qat_training import calibration, held_out, trained

GUIDE = REPOSITORY / "docs" / "qat.md"

pytestmark = pytest.mark.slow


def test_each_example_of_the_guide_runs(experiment: str) -> None:
    images, labels = digits()
    rows = torch.utils.data.TensorDataset(torch.from_numpy(images[:128]), torch.from_numpy(labels[:128]))
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        names = {"aifsm": aifsm, "torch": torch, "model": trained(), "loss": torch.nn.CrossEntropyLoss()}
        names |= {"loader": torch.utils.data.DataLoader(rows, 64), "calibration": calibration(), "held_out": held_out()}
        exec(compile(block, str(GUIDE), "exec"), names)
        if "int8" in names:
            assert names["int8"].record.failure == ""
            assert names["int8"].record.entries["aifsm.recovery.qat"].value.data["weights_changed"], block


def test_each_finding_that_the_guide_names_is_one_that_the_package_makes() -> None:
    named = re.findall(r"^\| `(\w+)` \|", GUIDE.read_text("utf-8").partition("## Findings")[2], re.MULTILINE)
    source = "\n".join(path.read_text("utf-8") for path in (REPOSITORY / "mlflow_aifsm").rglob("*.py"))
    assert len(named) == 6
    assert [code for code in named if f'"{code}"' not in source] == []


def test_the_example_wins_back_what_quantization_after_training_lost(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(REPOSITORY / "examples" / "qat.py"), "--responsible", "A. Ito"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    runs = dict(re.findall(r"^(quantized after training|trained on) .*run (\w{32})", done.stdout, re.MULTILINE))
    client = mlflow.MlflowClient(environment["MLFLOW_TRACKING_URI"])
    ptq, qat = (client.get_run(runs[name]) for name in ("quantized after training", "trained on"))
    assert qat.data.metrics["aifsm.accuracy"] >= ptq.data.metrics["aifsm.accuracy"] + 0.01
    assert qat.info.experiment_id == ptq.info.experiment_id
    same = ("aifsm.ptq.precision", "aifsm.ptq.granularity", "aifsm.calibration.method")
    assert {key: qat.data.params[key] for key in same} == {key: ptq.data.params[key] for key in same}
    assert qat.data.params["aifsm.recovery.qat"] == "trained"
    assert qat.data.metrics["aifsm.integer_ops_ratio"] == 1.0
