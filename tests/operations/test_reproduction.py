"""A conversion done again in a new process."""

from __future__ import annotations

from dataclasses import replace

import mlflow
import pytest

import mlflow_aifsm as aifsm
from mlflow_aifsm import audit
from mlflow_aifsm.operations.reproduction import reproduced, with_reproduction
from mlflow_aifsm.record import Status
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
    checks = reproduced(aifsm.freeze(uri, config=config).record)
    assert [check.holds for check in checks] == [True, True]


def test_other_bytes_are_seen_and_break_the_log(uri: str) -> None:
    frozen = aifsm.freeze(uri)
    (evidence,) = audit.read(frozen.run_id)
    forged = replace(evidence, record=replace(evidence.record, output_sha256="0" * 64))
    checked = with_reproduction(forged)
    assert [check.holds for check in checked.checks[-2:]] == [False, True]
    assert checked.status is Status.INTEGRITY_BROKEN


def test_what_was_not_in_mlflow_cannot_be_done_again_and_that_is_said(digits: Digits) -> None:
    (check,) = reproduced(aifsm.freeze(digits.model, digits.example, verified_model="d_1").record)
    assert check.holds is None
    assert "was not in MLflow" in check.detail


def test_a_model_that_is_gone_is_a_failed_reproduction(uri: str) -> None:
    record = aifsm.freeze(uri).record
    name, _, version = uri.removeprefix("models:/").rpartition("/")
    mlflow.MlflowClient().delete_model_version(name, version)
    (check,) = reproduced(record)
    assert check.holds is False
    assert "does not exist" in check.detail
