"""``record``: a delivered file is logged afterwards into a run, and what only its making knew is shown as a gap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

import mlflow_aifsm as aifsm
from mlflow_aifsm.facts import State
from tests.cli.conftest import Logged
from tests.command import command
from tests.models import Digits

NAMED = ("--verified-model", "detector_4", "--responsible", "B. Kim")


@pytest.fixture
def run_id(experiment: str, complete: Logged) -> str:
    """A finished run with something of its own."""
    with mlflow.start_run() as run:
        mlflow.log_param("learning rate", 0.1)
        mlflow.log_metric("accuracy", 0.9)
    return run.info.run_id


def recorded(*arguments: str | Path) -> dict[str, Any]:
    done = command("record", *map(str, arguments), "--json")
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def states(run_id: str, log: str) -> dict[str, State]:
    record = aifsm.load_record(run_id, log)
    return {row.fact: record.entries[row.key].state for row in record.template.fields}


def test_a_converted_file_is_logged_into_a_finished_run(run_id: str, complete: Logged) -> None:
    found = recorded(run_id, complete.frozen.path, *NAMED, "--register", "recorded")
    assert (found["run_id"], found["log"], found["version_uri"]) == (run_id, "conversion", "models:/recorded/1")
    run = mlflow.get_run(run_id)
    assert (run.info.status, run.data.params["learning rate"], run.data.metrics["accuracy"]) == ("FINISHED", "0.1", 0.9)
    assert run.data.tags["aifsm.conversion.responsible"] == "B. Kim"
    assert found["sha256"] == complete.frozen.record.output_sha256
    known = states(run_id, "conversion")
    assert {known[name] for name in ("converter.call", "converter.packages", "environment.host")} == {State.NOT_RECORDED}
    assert known["converter.framework"] is State.MEASURED


def test_a_gap_that_only_the_making_knew_has_the_line_that_fills_it(run_id: str, complete: Logged) -> None:
    recorded(run_id, complete.int8.path, "--against", complete.frozen.path, *NAMED)
    record = aifsm.load_record(run_id, "optimization")
    unseen = [row for row in record.gaps if row.fact in {"quantization.framework", "quantization.call", "calibration.method"}]
    assert len(unseen) == 3
    for row in unseen:
        entry = record.entries[row.key]
        assert "made elsewhere, by an optimization that nobody recorded" in entry.reason
        assert entry.remedy
    key = "aifsm.ptq.framework"
    assert command("declare", run_id, f"{key}=ONNX Runtime 1.22", "--by", "B. Kim").code == 0
    assert aifsm.load_record(run_id, "optimization").entries[key].state is State.DECLARED


def test_an_optimized_file_is_compared_with_the_float_one_it_was_made_from(
    run_id: str, complete: Logged, digits: Digits
) -> None:
    np.savez("held-out.npz", image=digits.images[100:200], labels=digits.labels[100:200])
    found = recorded(run_id, complete.int8.path, "--against", complete.frozen.version_uri, "--verify", "held-out.npz")
    assert (found["run_id"], found["log"], found["verified"]) == (run_id, "optimization", "verified on this host")
    record = aifsm.load_record(run_id, "optimization")
    assert record.entry_of("input.id").value.text == complete.frozen.log_id
    assert record.input_sha256 == complete.frozen.record.output_sha256
    assert record.verification.samples == 100
    assert states(run_id, "optimization")["quantizers.precision"] is State.MEASURED
    host = next(fact for entry in record.entries.values() for fact in entry.beside if fact.name == "environment.host")
    assert host.state is State.NOT_RECORDED


@pytest.mark.parametrize(
    ("which", "asked", "log"),
    [
        ("frozen", (), "conversion"),
        ("int8", (), "optimization"),
        ("int8", ("--kind", "conversion"), "conversion"),
        ("frozen", ("--kind", "optimization"), "optimization"),
        ("frozen", ("--against", "{float}"), "optimization"),
    ],
)
def test_what_kind_of_log_it_is_can_be_seen_or_said(
    which: str, asked: tuple[str, ...], log: str, run_id: str, complete: Logged
) -> None:
    given = [part.format(float=complete.frozen.path) for part in asked]
    assert recorded(run_id, getattr(complete, which).path, *given, *NAMED)["log"] == log


def test_a_running_run_is_joined_and_goes_on(experiment: str, complete: Logged) -> None:
    with mlflow.start_run() as run:
        recorded(run.info.run_id, complete.frozen.path, *NAMED)
        assert mlflow.get_run(run.info.run_id).info.status == "RUNNING"
        again = recorded(run.info.run_id, complete.frozen.path, *NAMED)
    assert mlflow.get_run(again["run_id"]).data.tags["mlflow.parentRunId"] == run.info.run_id


def test_a_copy_of_the_file_is_the_file(run_id: str, complete: Logged, tmp_path: Path) -> None:
    found = recorded(run_id, complete.int8.path, *NAMED, "-o", tmp_path / "delivered.onnx")
    assert Path(found["path"]).read_bytes() == complete.int8.path.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("0" * 32, "{int8}"), 1, "run 00000000000000000000000000000000 does not exist"),
        (("{run}", "{int8}", "--verify", "held-out.npz"), 2, "verified beside the float one; add --against FLOAT"),
        (("{run}", "{float}", "--kind", "conversion", "--against", "x.onnx"), 2, "a conversion has no float"),
        (("{run}", "{int8}", "--against", "no.onnx"), 2, "there is no file no.onnx; expected the path of"),
        (("{run}", "text.onnx"), 2, "text.onnx"),
    ],
)  # fmt: skip
def test_what_cannot_be_recorded_is_one_line_and_leaves_the_run_alone(
    arguments: tuple[str, ...], code: int, said: str, run_id: str, complete: Logged, digits: Digits
) -> None:
    Path("text.onnx").write_text("no model", "utf-8")
    np.savez("held-out.npz", image=digits.images[:9])
    places = {"run": run_id, "int8": complete.int8.path, "float": complete.frozen.path}
    done = command("record", *(part.format(**places) for part in arguments))
    assert (done.code, done.out) == (code, ""), done.err
    (line,) = done.err.splitlines()
    assert said in line
    assert not [key for key in mlflow.get_run(run_id).data.tags if key.startswith("aifsm.")]
