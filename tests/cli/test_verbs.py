"""``freeze``, ``quantize`` and ``prune`` with files for arguments: what is logged, handed over, said, and refused."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import pytest

import mlflow_aifsm as aifsm
from mlflow_aifsm.digests import sha256_file
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.operations.handing_over import copied
from tests.cli.conftest import Logged
from tests.command import command
from tests.models import Digits
from tests.test_public_api import imported_by

VERBS = ("freeze", "quantize", "prune")
CONFIGS = {
    "frozen.toml": 'kind = "Onnx"\ndynamic_shapes = "batch"',
    "pt2.json": '{"kind": "Pt2"}',
    "int8.toml": 'kind = "Static"\nranges = "entropy"\nsubset_size = 64\nkeep_float = "fc"',
    "dynamic.json": '{"kind": "Dynamic", "weights": "int8"}',
    "sparse.toml": 'kind = "Magnitude"\namount = 0.25\nscope = "local"',
    "gradient.toml": 'kind = "Gradient"',
    "tuned.toml": 'kind = "Magnitude"\nfine_tune = "train"',
    "wrong.toml": 'kind = "Static"\nweigths = "int8"',
}


@pytest.fixture
def files(complete: Logged, experiment: str, digits: Digits, tmp_path: Path) -> Logged:
    """Configs and data in the working folder, registered models in the database, and an experiment without runs."""
    for name, text in CONFIGS.items():
        (tmp_path / name).write_text(text, "utf-8")
    np.savez(tmp_path / "digits.npz", image=digits.images[:64])
    np.savez(tmp_path / "held-out.npz", image=digits.images[100:300], labels=digits.labels[100:300])
    return complete


def outcome(*arguments: str) -> dict[str, Any]:
    """The JSON of a command that succeeds."""
    done = command(*arguments, "--json")
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def runs() -> list[mlflow.entities.Run]:
    return mlflow.search_runs(output_format="list")


def test_a_registered_model_is_frozen_verified_registered_and_copied(
    files: Logged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_AIFSM_QUIET")
    asked = ("--config", "frozen.toml", "--verify", "held-out.npz", "--responsible", "B. Kim", "--register", "verbs-frozen")
    done = command("freeze", "models:/cli-digits/1", *asked, "-o", "out/")
    assert (done.code, done.out.splitlines()[-1]) == (0, "out/model.onnx")
    assert "Model Conversion Log cli-digits_1-MC-" in done.out.splitlines()[0]
    (run,) = runs()
    assert run.data.tags["aifsm.conversion.responsible"] == "B. Kim"
    assert run.data.tags["aifsm.conversion.output_sha256"] == sha256_file(tmp_path / "out" / "model.onnx")
    version = mlflow.MlflowClient().get_model_version("verbs-frozen", "1")
    assert version.tags["aifsm.conversion.log_id"] == run.data.tags["aifsm.conversion.log_id"]
    assert aifsm.load_record(run.info.run_id).verification.data == "held-out.npz"


def test_the_outcome_as_json_is_all_that_stands_on_standard_output(files: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_AIFSM_QUIET")
    asked = ("--data", "digits.npz", "--config", "int8.toml", "--json", "-o", "int8.onnx")
    done = command("quantize", files.frozen.version_uri, *asked)
    found = json.loads(done.out)
    (run,) = runs()
    assert set(found) >= {"run_id", "log_id", "path", "model_uri", "version_uri", "status", "findings", "answered"}
    assert (found["run_id"], found["path"], found["version_uri"]) == (run.info.run_id, "int8.onnx", "")
    assert (found["answered"], found["fields"], found["unanswered"]) == (23, 23, [])
    assert found["sha256"] == sha256_file(Path("int8.onnx"))
    assert found["status"] == run.data.tags["aifsm.optimization.status"] == "complete"
    assert f"Model Optimization Log {found['log_id']}" in done.err
    record = aifsm.load_record(found["run_id"])
    call = record.entry_of("quantization.call").value.data["config"]
    assert call["kind"] == "Static"
    assert (call["settings"]["ranges"], call["settings"]["keep_float"]) == ("entropy", ["fc"])
    assert record.entry_of("calibration.method").value.brief == "entropy"


def test_a_file_is_quantized_without_any_config_and_without_data_where_none_is_read(files: Logged) -> None:
    path = str(files.frozen.path)
    static = outcome("quantize", path, "--data", "digits.npz", "--verified-model", "digits_4", "--log-id", "verbs-1")
    assert static["log_id"] == "verbs-1"
    assert "int8" in aifsm.load_record(static["run_id"]).entry_of("quantizers.precision").value.brief
    dynamic = outcome(
        "quantize", path, "--config", "dynamic.json", "--run-id", static["run_id"], "--verified-model", "digits_4"
    )
    assert dynamic["run_id"] != static["run_id"]
    assert mlflow.get_run(dynamic["run_id"]).data.tags["mlflow.parentRunId"] == static["run_id"]


def test_a_pytorch_model_is_frozen_on_the_way_with_both_logs_in_one_run(files: Logged) -> None:
    for verb, config in (("quantize", "int8.toml"), ("prune", "sparse.toml")):
        data = ("--data", "digits.npz") if verb == "quantize" else ()
        found = outcome(verb, "models:/cli-digits/1", "--config", config, *data, "--example", "digits.npz")
        tags = mlflow.get_run(found["run_id"]).data.tags
        assert found["log_id"] == tags["aifsm.optimization.log_id"]
        assert tags["aifsm.conversion.log_id"].startswith("cli-digits_1-MC-")


def test_a_file_is_pruned_as_its_config_says(files: Logged) -> None:
    found = outcome("prune", files.frozen.version_uri, "--config", "sparse.toml", "--verify", "held-out.npz")
    run = mlflow.get_run(found["run_id"])
    assert run.data.metrics["aifsm.zeros"] == pytest.approx(0.25, abs=0.01)
    assert found["verified"] in {"verified on this host", "verification failed on this host"}


def test_a_limit_that_is_missed_is_said_and_is_no_failure_of_the_command(files: Logged) -> None:
    asked = ("--data", "digits.npz", "--verify", "held-out.npz", "--limit", "sqnr_db=90, max=9", "--limit", "flips=200")
    found = outcome("quantize", files.frozen.version_uri, *asked, "--reason", "kept for the track test")
    assert found["status"] == "verification failed"
    verification = aifsm.load_record(found["run_id"]).verification
    assert verification.criterion == "sqnr_db ≥ 90, max ≤ 9, flips ≤ 200"
    assert verification.reason == "kept for the track test"
    assert command("check", found["run_id"]).code == 4


def test_an_empty_value_is_none_as_a_project_passes_it(files: Logged) -> None:
    empty = (
        "data",
        "verify",
        "limit",
        "reason",
        "verified-model",
        "responsible",
        "log-id",
        "register",
        "run-id",
        "example",
        "output",
    )
    pairs = [part for name in empty for part in (f"--{name}", "")]
    found = outcome("quantize", files.frozen.version_uri, "--config", "dynamic.json", *pairs)
    assert (found["path"], found["version_uri"], found["verified"]) == (None, "", None)
    assert mlflow.get_run(found["run_id"]).data.tags["aifsm.optimization.responsible"] == "A. Ito"
    assert outcome("freeze", "models:/cli-digits/1", "--config", "")["log"] == "conversion"


WRONG = {
    ("quantize", "{onnx}", "--data", "digits.npz", "--config", "wrong.toml"): "unknown setting 'weigths' of Static in wrong",
    ("quantize", "{onnx}", "--config", "frozen.toml"): "is none of quantize; got Onnx; expected Static, Dynamic,",
    ("quantize", "{onnx}", "--config", "int8.toml"): "no calibration data; expected data, which Static reads; add --data FILE",
    ("quantize", "{onnx}", "--config", "dynamic.json", "--data", "digits.npz"): "Dynamic reads no calibration data",
    ("quantize", "no.onnx", "--config", "dynamic.json"): "there is no file no.onnx; expected the path of a model file",
    ("quantize", "{onnx}", "--config", "dynamic.json", "--limit", "max=1"): "need samples to be judged on; add --verify",
    ("freeze", "{onnx}", "--verify", "held-out.npz", "--limit", "acuracy_drop=1"): "expected 'accuracy_drop'",
    ("quantize", "{onnx}", "--config", "dynamic.json", "--log-id", "a b"): "log id 'a b'",
    ("quantize", "{onnx}", "--config", "dynamic.json", "-o", "pt2.json/x"): "cannot write pt2.json/x",
    ("prune", "{onnx}", "--config", "gradient.toml"): "kind Gradient needs a loss function, which no file can hold",
    ("prune", "{onnx}", "--config", "tuned.toml"): "is a function, which no file can hold; call mlflow_aifsm.prune(",
    ("prune", "{onnx}", "--config", "sparse.toml", "--data", "digits.npz"): "a frozen file is not trained; got data",
    ("freeze", "models:/cli-digits/1", "--config", "int8.toml"): "got Static; expected Onnx, Pt2; pass it to quantize",
    ("freeze", "{onnx}", "--config", "frozen.toml"): "config for a frozen file",
}  # fmt: skip


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_what_cannot_be_done_is_one_line_before_any_run_is_started(arguments: tuple[str, ...], files: Logged) -> None:
    done = command(*(part.format(onnx=files.frozen.path) for part in arguments))
    assert (done.code, done.out) == (2, ""), done.err
    (line,) = done.err.splitlines()
    assert line.startswith("mlflow-aifsm: ")
    assert WRONG[arguments] in line
    assert runs() == []


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--data", "no.npz", "File 'no.npz' does not exist."),
        ("--config", ".", "File '.' is a directory."),
        ("--limit", "accuracy_drop", "'accuracy_drop' has no value; write NAME=VALUE"),
        ("--limit", "max=much", "'max' is no number: 'much'; write NAME=VALUE"),
    ],
)
def test_an_option_that_cannot_be_read_is_wrong_usage(option: str, value: str, said: str, files: Logged) -> None:
    done = command("quantize", str(files.frozen.path), option, value)
    assert (done.code, done.out) == (2, "")
    assert said in done.err.splitlines()[-1]


def test_weights_of_another_model_beside_the_copy_are_not_overwritten(files: Logged, tmp_path: Path) -> None:
    model, folder = onnx.load(files.frozen.path), tmp_path / "large"
    folder.mkdir()
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    result = replace(files.frozen, path=folder / "model.onnx")
    for output in ("first/frozen.onnx", "first/again.onnx"):
        (tmp_path / "first").mkdir(exist_ok=True)
        copy = copied(result, output)
        assert (copy, copy.with_name("model.onnx.data").stat().st_size > 0) == (Path(output), True)
        onnx.checker.check_model(onnx.load(copy), full_check=True)
    Path("first/model.onnx.data").write_bytes(b"of another model")
    with pytest.raises(InputError, match=r"first/model\.onnx\.data holds weights of another model; name a folder of its own"):
        copied(result, "first/frozen.onnx")
    assert Path("first/model.onnx.data").read_bytes() == b"of another model"


@pytest.mark.parametrize("verb", [*VERBS, "record"])
def test_help_has_two_examples_and_imports_no_framework(verb: str) -> None:
    code = f"import sys; sys.argv = ['mlflow-aifsm', {verb!r}, '--help']\nfrom mlflow_aifsm.cli.main import main\nmain()"
    assert imported_by(code) == set()
    shown = command(verb, "--help").out.partition("Examples:\n")[2].partition("\n\n")[0]
    assert [line.split()[:2] for line in shown.splitlines()] == [["mlflow-aifsm", verb]] * 2
    assert max(map(len, shown.splitlines())) < 120


@pytest.mark.slow
def test_a_terminal_sees_progress_on_standard_error_and_a_pipe_gets_json_alone(files: Logged, database: str) -> None:
    leader, follower = pty.openpty()
    call = ["quantize", str(files.frozen.path), "--data", "digits.npz", "--verify", "held-out.npz", "--json"]
    script = Path(sys.executable).with_name("mlflow-aifsm")
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen([script, *call], stdout=subprocess.PIPE, stderr=follower, env=environment) as process:
        os.close(follower)
        seen = b""
        try:
            while part := os.read(leader, 65536):
                seen += part
        except OSError:  # the terminal is gone with the process
            pass
        printed = process.stdout.read()
    os.close(leader)
    assert process.returncode == 0, seen
    assert json.loads(printed)["answered"] == 23
    assert b"verifying" in seen
