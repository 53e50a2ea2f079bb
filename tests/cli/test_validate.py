"""``validate-tool`` as its users run it: everything once, and with a detection taken away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlflow_aifsm.capture import tool_validation
from mlflow_aifsm.digests import sha256_file
from mlflow_aifsm.validation import good_models, runner, weights
from mlflow_aifsm.verification.criterion import Criterion
from tests.cli.conftest import Logged
from tests.command import command

REQUIRED = {
    "exported in training mode",
    "functional dropout",
    "batch normalization on batch statistics",
    "batch normalization statistics moved",
    "weights of another training",
    "one flipped mantissa bit",
    "silent half precision round trip",
    "wrong normalization",
    "transposed input",
    "branch traced away",
    "outputs swapped",
    "classes permuted",
    "nan weight",
    "external data altered",
    "record edited",
    "verified model replaced",
    "verification data reused for calibration",
    "calibration on one sample",
    "calibration on one class",
    "channels asked and single weights pruned",
    "half asked and less pruned",
    "largest weights pruned",
    "masks frozen with the module",
    "zeros lost by a later quantization",
    "pruned after its verification and frozen",
    "fine tuned on verification data",
    "rare class lost while accuracy holds",
}
ARCHITECTURES = {"convolution", "residual", "recurrent", "attention", "multilayer perceptron"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of the test's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.mark.slow
def test_every_fault_is_caught_and_no_good_model_accused(tmp_path: Path, home: Path) -> None:
    outcome = command("validate-tool", "-o", "made")
    assert outcome.code == 0, outcome.out
    record = json.loads((tmp_path / "made/validation.json").read_bytes())
    assert record["verdict"] == "passed"
    assert outcome.out.splitlines()[-1] == record["summary"]
    assert {one["name"] for one in record["faults"] if one["passed"]} >= REQUIRED
    assert {one["name"] for one in record["good_models"] if one["passed"]} >= ARCHITECTURES
    assert all(one["found"] and one["expected"] and one["at"] for one in record["faults"])
    assert record["packages"]["torch"]
    assert record["host"]["python"]
    assert b"Passed" in (tmp_path / "made/validation.html").read_bytes().replace(b"passed", b"Passed")
    (kept,) = home.rglob("*.json")
    assert kept == tool_validation.record_path(record["environment_sha256"])
    assert sha256_file(kept) == sha256_file(tmp_path / "made/validation.json")


@pytest.mark.slow
def test_a_missed_fault_is_named_and_is_four(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runner, "FAULTS", {"weights": weights})
    monkeypatch.setattr(runner, "GOOD", {"good models": good_models})
    monkeypatch.setattr(runner, "trials", lambda groups: [one for one in TRIALS if one[0] in groups])
    monkeypatch.setattr(Criterion, "misses", lambda *_: ())
    outcome = command("validate-tool", "-o", "made")
    assert outcome.code == 4, outcome.out
    assert outcome.out.splitlines()[-1] == "1 of 2 faults caught · 1 of 1 good models not accused"
    assert any("one flipped mantissa bit" in line and "MISSED" in line for line in outcome.out.splitlines())
    assert json.loads((tmp_path / "made/validation.json").read_bytes())["verdict"] == "failed"


TRIALS = [
    ("weights", weights.one_flipped_mantissa_bit),
    ("weights", weights.nan_weight),
    ("good models", good_models.convolution),
]


def test_both_logs_of_a_run_name_the_tool_and_say_whether_it_was_validated_here(logged: Logged) -> None:
    named = f"Tool {tool_validation.tool()}, files sha256 {tool_validation.tool_digest()}: "
    for result in (logged.frozen, logged.int8):
        assert result.record.tool == tool_validation.tool()
        (note,) = (note for note in result.record.notes if note.startswith(named))
        assert "validation record" in note
    assert "validation record" in command("report", logged.run_id, "--format", "md", "-o", "-").out


def test_the_list_names_every_fault_and_runs_nothing(home: Path) -> None:
    outcome = command("validate-tool", "--list")
    assert outcome.code == 0
    words = " ".join(outcome.out.split())
    assert {name for name in REQUIRED | ARCHITECTURES if name not in words} == set()
    assert not home.exists()


def test_a_place_that_cannot_be_written_is_said_after_the_outcome(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "file"))
    monkeypatch.setattr(runner, "trials", lambda groups: [])
    outcome = command("validate-tool", "-o", "made")
    assert outcome.code == 2
    assert "cannot write" in outcome.err
    assert "set XDG_DATA_HOME" in outcome.err
    assert (tmp_path / "made/validation.html").exists()
