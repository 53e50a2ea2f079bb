"""``check`` after somebody changed a log, a file or the database behind its back: 5, and what was touched is named."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
import pytest
from mlflow import MlflowClient

import mlflow_aifsm as aifsm
from mlflow_aifsm.digests import sha256_file
from tests.cli.conftest import Logged
from tests.command import command


@dataclass(frozen=True)
class Place:
    """A small log of one conversion: its run, its artifacts, its logged model, the database."""

    run_id: str
    log: Path
    model: Path
    database: Path


@pytest.fixture
def place(complete: Logged, experiment: str, database: str) -> Place:
    with aifsm.record_conversion(verified_model="detector_4", responsible="A. Ito") as log:
        log.output(complete.frozen.path)
    result = log.finished
    artifacts = stored(mlflow.get_run(result.run_id).info.artifact_uri) / "aifsm" / "conversion"
    model = stored(mlflow.get_logged_model(result.model_uri.removeprefix("models:/")).artifact_location)
    assert command("check", result.run_id).code == 3
    return Place(result.run_id, artifacts, model, Path(database.removeprefix("sqlite:///")))


def stored(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path))


def edited(file: Path, old: bytes, new: bytes) -> None:
    content = file.read_bytes()
    assert old in content
    file.write_bytes(content.replace(old, new, 1))


def changed(place: Place, statement: str) -> None:
    with sqlite3.connect(place.database) as connection:
        assert connection.execute(statement, (place.run_id,)).rowcount == 1
    connection.close()


def record(place: Place) -> None:
    edited(place.log / "record.json", b"A. Ito", b"B. Ito")


def delivered_file(place: Place) -> None:
    (place.model / "model.onnx").write_bytes((place.model / "model.onnx").read_bytes() + b"\x82\x06\x01x")


def deleted_file(place: Place) -> None:
    (place.model / "model.onnx").unlink()


def packages(place: Place) -> None:
    MlflowClient().log_text(place.run_id, "torch==0.0.0\n", "aifsm/conversion/packages.txt")


def table(place: Place) -> None:
    edited(place.log / "sparsity.json", b"weight", b"wEight")


def new_artifact(place: Place) -> None:
    MlflowClient().log_text(place.run_id, "all is well", "aifsm/conversion/approval.txt")


def tag(place: Place) -> None:
    MlflowClient().set_tag(place.run_id, "aifsm.conversion.responsible", "B. Ito")


def status(place: Place) -> None:
    MlflowClient().set_tag(place.run_id, "aifsm.conversion.status", "complete")


def deleted_tag(place: Place) -> None:
    MlflowClient().delete_tag(place.run_id, "aifsm.conversion.record_sha256")


def param(place: Place) -> None:
    changed(place, "UPDATE params SET value = 'kept' WHERE key = 'aifsm.elimination.dropout' AND run_uuid = ?")


def added_param(place: Place) -> None:
    MlflowClient().log_param(place.run_id, "aifsm.model.data_sets", "digits 1.0")


def manifest(place: Place) -> None:
    (place.log / "manifest.json").unlink()


def record_and_tag(place: Place) -> None:
    """Who can write the store can write the tag as well: the manifest, the model's copy and the params are still there."""
    record(place)
    digest = sha256_file(place.log / "record.json")
    MlflowClient().set_tag(place.run_id, "aifsm.conversion.record_sha256", digest)


TAMPERINGS: dict[Callable[[Place], None], str] = {
    record: "record.json",
    delivered_file: "model.onnx: sha256",
    deleted_file: "model.onnx: missing",
    packages: "packages.txt: sha256",
    table: "sparsity.json",
    new_artifact: "approval.txt: not in the record",
    tag: "aifsm.conversion.responsible",
    status: "aifsm.conversion.status",
    deleted_tag: "aifsm.conversion.record_sha256",
    param: "aifsm.elimination.dropout",
    added_param: "aifsm.model.data_sets",
    manifest: "manifest.json is missing",
    record_and_tag: "record.json: sha256",
}


@pytest.mark.parametrize(("tamper", "named"), TAMPERINGS.items(), ids=[tamper.__name__ for tamper in TAMPERINGS])
def test_every_tampering_is_five_and_is_named(place: Place, tamper: Callable[[Place], None], named: str) -> None:
    tamper(place)
    outcome = command("check", place.run_id)
    assert outcome.code == 5, outcome.out
    broken = " ".join(outcome.out.split()).partition("BROKEN")[2]
    assert named in broken
    assert command("report", place.run_id, "--strict").code == 5
    assert command("report", place.run_id).code == 0


def test_records_that_are_no_longer_json_are_one_line(place: Place) -> None:
    edited(place.log / "record.json", b"{", b"")
    outcome = command("check", place.run_id)
    assert (outcome.code, len(outcome.err.splitlines())) == (1, 1)


@pytest.mark.parametrize("name", ["manifest.json", "declarations.jsonl", "sparsity.json"])
def test_what_lies_beside_the_record_and_is_no_longer_json_is_one_line(place: Place, name: str) -> None:
    (place.log / name).write_text("{not json\n", "utf-8")
    outcome = command("check", place.run_id)
    assert outcome.code in (1, 5)
    assert "Traceback" not in outcome.err
    assert len(outcome.err.splitlines()) <= 1
    assert name.split(".")[0].rstrip("s") in outcome.out + outcome.err


@pytest.fixture
def copy(place: Place, tmp_path: Path) -> Path:
    """The model as somebody downloaded it, all bytes as they were."""
    folder = shutil.copytree(place.model, tmp_path / "downloaded")
    assert command("check", str(folder)).code == 3
    return folder


def broken(target: Path | str) -> str:
    outcome = command("check", str(target))
    assert outcome.code == 5, outcome.out
    return " ".join(outcome.out.split()).partition("BROKEN")[2]


def test_a_flipped_byte_in_a_downloaded_model_is_found_there(place: Place, copy: Path) -> None:
    content = bytearray((copy / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "model.onnx").write_bytes(content)
    for target in (copy, copy / "aifsm"):
        assert "model.onnx: sha256" in broken(target)
    assert command("check", place.run_id).code == 3


def test_a_flipped_byte_in_a_logged_model_is_found_by_its_uri(place: Place) -> None:
    delivered_file(place)
    assert "model.onnx: sha256" in broken(mlflow.get_run(place.run_id).data.tags["aifsm.conversion.model_uri"])


def test_a_model_whose_own_record_was_edited_is_not_that_of_the_run(place: Place, copy: Path) -> None:
    edited(copy / "aifsm" / "record.json", b"A. Ito", b"B. Ito")
    assert "record.json of the target against the run's" in broken(copy)
    assert command("check", place.run_id).code == 3


def test_a_copy_is_looked_at_even_where_the_run_keeps_no_model(place: Place, copy: Path) -> None:
    deleted_file(place)
    assert command("check", str(copy)).code == 3
    assert command("check", str(copy / "model.onnx")).code == 3


def test_a_folder_whose_run_is_gone_is_read_alone_and_that_is_said(place: Place, copy: Path, tmp_path: Path) -> None:
    elsewhere = f"sqlite:///{tmp_path / 'other.db'}"
    MlflowClient(elsewhere).search_experiments()
    mlflow.set_tracking_uri(elsewhere)
    outcome = command("check", str(copy))
    assert outcome.code == 3, outcome.out
    words = " ".join(outcome.out.split())
    assert f"only the folder was looked at: run {place.run_id} does not exist" in words
    (copy / "model.onnx").unlink()
    assert "model.onnx: missing" in broken(copy)


def test_a_server_that_does_not_answer_is_an_error_and_not_a_folder_alone(copy: Path) -> None:
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    outcome = command("check", str(copy))
    assert (outcome.code, outcome.out) == (1, "")
    assert "no server answers" in outcome.err


def test_a_model_that_the_run_no_longer_names_is_broken(place: Place) -> None:
    MlflowClient().delete_tag(place.run_id, "aifsm.conversion.model_uri")
    assert "no model is named" in broken(place.run_id)
