"""The guide's code runs as it stands, in its order, and leaves the logs that it speaks of."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import nncf
import onnx
import pytest
import torch

import mlflow_aifsm as aifsm
from mlflow_aifsm.audit import load_record
from mlflow_aifsm.autologging.table import BUILT_IN
from mlflow_aifsm.facts import State
from mlflow_aifsm.record import Status
from mlflow_aifsm.template import LOGS
from tests.autolog.recorded import children, images, the_log
from tests.conftest import REPOSITORY
from tests.models import fitted
from tests.operations.quantized_models import SmallNet

pytestmark = pytest.mark.usefixtures("experiment")

GUIDE = REPOSITORY / "docs" / "autolog.md"
TEXT = GUIDE.read_text("utf-8")


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the guide's blocks presuppose, in a module, as those of a script or a notebook are."""
    module = ModuleType("guide")
    monkeypatch.setitem(sys.modules, "guide", module)
    Path("convert.py").write_text("import shutil, sys\nshutil.copy(sys.argv[1], sys.argv[2])\n")
    known = {one.__name__: one for one in (mlflow, nncf, onnx, torch, shutil, subprocess, sys)}
    example = torch.from_numpy(images(1)[0])
    vars(module).update(known, aifsm=aifsm, model=fitted(SmallNet, 1), example=example, images=images(8))
    yield vars(module)
    aifsm.autolog(disable=True)


@pytest.mark.filterwarnings("ignore")
def test_each_block_runs_and_leaves_its_logs(names: dict[str, Any], experiment: str) -> None:
    for block in blocks():
        exec(compile(block, str(GUIDE), "exec"), names)
    runs = mlflow.MlflowClient().search_runs([experiment], order_by=["attributes.start_time"])
    own = [run.info.run_id for run in runs if "mlflow.parentRunId" not in run.data.tags]
    first, joined, elsewhere, decorated = own
    nested = [load_record(run, log) for run in children(joined) for log in LOGS if has(run, log)]
    (shrunk,) = [record for record in nested if record.template.log == "optimization"]
    assert shrunk.entries["aifsm.ptq.precision"].state is State.MEASURED
    assert shrunk.supersedes is not None
    assert shrunk.supersedes.run_id == joined
    conversion, optimization = the_log(first, "conversion"), the_log(first)
    assert optimization.entries["aifsm.optimization.input_id"].value.text == conversion.log_id
    assert optimization.entries["aifsm.ptq.precision"].state is State.MEASURED
    assert optimization.entries["aifsm.ptq.precision"].value.brief == "int8 weights, uint8 activations"
    assert the_log(elsewhere, "conversion").entries["aifsm.model.training_framework"].state is State.DECLARED
    made = [{file.sha256 for file in the_log(one, "conversion").output_files} for one in (first, elsewhere, decorated)]
    assert made[0] == made[1] == made[2]
    assert mlflow.get_run(decorated).data.tags["aifsm.conversion.status"] != Status.FAILED


def has(run_id: str, log: str) -> bool:
    return f"aifsm.{log}.log_id" in mlflow.get_run(run_id).data.tags


def test_the_table_lists_what_is_recorded() -> None:
    listed = TEXT.partition("## What is recorded")[2].partition("Of each call")[0]
    assert all(row.attribute in listed for row in BUILT_IN)
