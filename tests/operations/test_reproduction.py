"""A conversion done again in a new process."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version

import mlflow
import pytest

import mlflow_aifsm as aifsm
from mlflow_aifsm import audit
from mlflow_aifsm.operations import reproduction
from mlflow_aifsm.operations.reproduction import with_reproduction
from mlflow_aifsm.record import Check, Entry, Record, Status
from mlflow_aifsm.report.checklist import checklist
from tests.models import Digits

pytestmark = pytest.mark.usefixtures("experiment")


@pytest.fixture
def uri(digits: Digits) -> str:
    with mlflow.start_run():
        example = digits.images[:4]
        logged = mlflow.pytorch.log_model(
            digits.model, name="digits", input_example=example, registered_model_name="digits-again", pip_requirements=["torch"]
        )
    return f"models:/digits-again/{logged.registered_model_version}"


@pytest.mark.parametrize("config", [aifsm.Onnx(), aifsm.Pt2()], ids=["onnx", "pt2"])
def test_bytes_and_canonical_digest_agree(uri: str, config: aifsm.Onnx | aifsm.Pt2) -> None:
    again = reproduction.reproduced(aifsm.freeze(uri, config=config).record)
    assert [check.holds for check in again.checks] == [True, True]
    assert not again.findings


def test_another_model_is_a_finding_that_names_the_versions_and_breaks_nothing(uri: str) -> None:
    (evidence,) = audit.read(aifsm.freeze(uri).run_id)
    record = with_packages(evidence.record, torch="1.0.0", absent="2.0")
    entries = {key: forged_canonical(entry) for key, entry in record.entries.items()}
    checked = with_reproduction(replace(evidence, record=replace(record, output_sha256="0" * 64, entries=entries)))
    assert [check.holds for check in checked.checks[-2:]] == [None, None]
    (finding,) = [found for found in checked.record.open_findings if found.code == "not_reproduced"]
    assert (finding.field, finding.asked) == ("aifsm.conversion.converter", "sha256 " + "f" * 64)
    assert finding.measured.startswith("sha256 ")
    assert f"torch 1.0.0, now {version('torch')}" in finding.effect
    assert "absent 2.0, now not installed" in finding.effect
    assert (checked.status, checked.status.exit_code) == (Status.FINDINGS_OPEN, 4)
    assert "finding       not_reproduced in aifsm.conversion.converter" in checklist(checked)


def test_other_bytes_with_the_same_canonical_digest_are_said_and_are_no_finding(uri: str) -> None:
    (evidence,) = audit.read(aifsm.freeze(uri).run_id)
    checked = with_reproduction(replace(evidence, record=replace(evidence.record, output_sha256="0" * 64)))
    assert [check.holds for check in checked.checks[-2:]] == [None, True]
    assert f"recorded {'0' * 64}; the canonical digest, which leaves metadata out, is the same" in checked.checks[-2].detail
    assert checked.record.findings == evidence.record.findings
    assert checked.status is evidence.status


def test_what_was_not_in_mlflow_cannot_be_done_again_and_that_is_said(digits: Digits) -> None:
    (check,) = reproduced(aifsm.freeze(digits.model, digits.example, verified_model="d_1").record)
    assert check.holds is None
    assert "was not in MLflow" in check.detail


def test_a_conversion_that_cannot_run_decides_nothing_and_says_why(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record = aifsm.freeze(uri).record
    name, _, number = uri.removeprefix("models:/").rpartition("/")
    mlflow.MlflowClient().delete_model_version(name, number)
    (check,) = reproduced(record)
    assert check.holds is None
    assert "does not exist" in check.detail
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    (check,) = reproduced(record)
    assert check.holds is None
    assert "no server answers" in check.detail
    monkeypatch.setattr(reproduction, "TIMEOUT", 0.01)
    (check,) = reproduced(record)
    assert (check.holds, check.detail) == (None, "given up after 0.01 s")


def reproduced(record: Record) -> tuple[Check, ...]:
    again = reproduction.reproduced(record)
    assert not again.findings
    return again.checks


def with_packages(record: Record, **versions: str) -> Record:
    entry = record.entries["aifsm.conversion.packages"]
    then = {**entry.value.data, **versions}
    changed = replace(entry, value=replace(entry.value, data=then))
    return replace(record, entries={**record.entries, "aifsm.conversion.packages": changed})


def forged_canonical(entry: Entry) -> Entry:
    named = (fact.name == "graph.canonical_digest" for fact in entry.beside)
    return replace(
        entry,
        beside=tuple(
            replace(fact, value=replace(fact.value, data="f" * 64)) if found else fact
            for fact, found in zip(entry.beside, named, strict=True)
        ),
    )
