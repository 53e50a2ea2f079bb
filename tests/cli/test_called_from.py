"""A log that a command made says which command: the line as it was typed, with no path of the machine in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from mlflow_aifsm.audit import load_record
from mlflow_aifsm.capture.source_code import Kind, source_code
from tests.operations.quantized_models import small


@pytest.mark.usefixtures("experiment")
def test_the_command_line_stands_where_else_a_script_would(tmp_path: Path) -> None:
    script = Path(sysconfig.get_path("scripts")) / "mlflow-aifsm"
    command = [str(script), "prune", str(small().path), "--responsible", "A. Ito", "--verified-model", "digits_1", "--json"]
    variables = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = load_record(json.loads(done.stdout)["run_id"], "optimization")
    text = record.entries["aifsm.pruning.additional"].value.text
    line = "mlflow-aifsm prune small.onnx --responsible 'A. Ito' --verified-model digits_1 --json"
    assert f"Called from {line} (installed command, " in text
    assert str(small().path.parent) not in text


def test_addresses_are_told_without_passwords_and_paths_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Path(sysconfig.get_path("scripts")) / "mlflow-aifsm"
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(script), raising=False)
    monkeypatch.setattr(sys, "argv", [str(script), "freeze", "https://a:b@host/m.onnx", "--output=/secret/place/out.onnx"])
    found = source_code()
    assert (found.kind, found.name) == (Kind.COMMAND, "mlflow-aifsm freeze https://host/m.onnx --output=out.onnx")
