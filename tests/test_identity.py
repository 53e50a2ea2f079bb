"""Whether what is converted is what was verified, on a real registry."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pytest

import mlflow_aifsm as aifsm
from mlflow_aifsm import identity, lineage
from mlflow_aifsm.errors import InputError, NotFoundError
from mlflow_aifsm.facts import State
from mlflow_aifsm.review import declare_all
from tests.command import command
from tests.models import Digits, DigitsNet

pytestmark = pytest.mark.usefixtures("experiment")


@pytest.fixture
def registered(digits: Digits, tmp_path: Path) -> str:
    name = f"identity-{tmp_path.name}"
    with mlflow.start_run():
        mlflow.pytorch.log_model(
            digits.model, name="digits", input_example=digits.images[:4], registered_model_name=name, pip_requirements=["torch"]
        )
    return f"models:/{name}/1"


def beside(uri: str) -> tuple[State, str, list[str]]:
    record = aifsm.freeze(uri).record
    entry = record.entries["aifsm.conversion.input_id"]
    fact = next(fact for fact in entry.beside if fact.name == "input.verified")
    return fact.state, fact.value.text or fact.reason, [finding.code for finding in entry.findings]


def test_a_version_that_nobody_declared_verified_says_how_to(registered: str) -> None:
    state, text, findings = beside(registered)
    assert state is State.NOT_RECORDED
    assert registered in text
    assert findings == []


def test_a_declared_version_carries_the_digest_and_a_conversion_compares_it(registered: str) -> None:
    identity.stamp(registered, "doc://verification-17", "A. Ito")
    state, text, findings = beside(registered)
    assert state is State.DECLARED
    assert (
        text == "Verified: doc://verification-17; the digest of the registered files agrees; the conversion loaded these files"
    )
    assert findings == []


def test_changed_bytes_of_a_verified_version_are_a_finding(registered: str) -> None:
    model = identity.stamp(registered, "doc://verification-17", "A. Ito")
    with (Path(model.folder) / "requirements.txt").open("a") as stream:
        stream.write("# changed\n")
    assert beside(registered)[2] == ["input_changed_after_verification"]
    with pytest.raises(InputError, match="was verified with other bytes"):
        identity.stamp(registered, "doc://verification-18", "A. Ito")


def test_only_registered_versions_can_be_declared_verified(registered: str) -> None:
    with pytest.raises(InputError, match="expected models:/<name>/<version>"):
        identity.stamp(f"models:/{lineage.resolve(registered).model_id}", "doc://1", "A. Ito")
    with pytest.raises(NotFoundError, match="does not exist"):
        identity.stamp("models:/nobody/1", "doc://1", "A. Ito")


def test_a_registered_name_may_begin_like_the_id_of_a_logged_model(digits: Digits) -> None:
    with mlflow.start_run():
        mlflow.pytorch.log_model(
            digits.model,
            name="digits",
            input_example=digits.images[:4],
            registered_model_name="m-net",
            pip_requirements=["torch"],
        )
    model = identity.stamp("models:/m-net/1", "doc://1", "A. Ito")
    assert (model.id, identity.is_version(model.uri), identity.is_version("models:/m-net@best")) == ("m-net_1", True, True)
    assert not identity.is_version(f"models:/{model.model_id}")


def test_the_declare_verb_stamps_a_registered_version(registered: str) -> None:
    name, _, version = registered.removeprefix("models:/").rpartition("/")
    declared = declare_all(registered, [("verified", "doc://verification-17")], "A. Ito")
    assert declared.logs == ()
    assert declared.verified is not None
    assert declared.verified.sha256 == lineage.resolve(registered).sha256
    tags = mlflow.MlflowClient().get_model_version(name, version).tags
    assert (tags["aifsm.verified"], tags["aifsm.verified_by"]) == ("doc://verification-17", "A. Ito")
    assert tags["aifsm.verified_sha256"] == lineage.resolve(registered).sha256


def test_a_declaration_on_a_log_reaches_the_registered_version(digits: Digits, tmp_path: Path) -> None:
    frozen = aifsm.freeze(digits.model, digits.example, registered_model_name=f"follow-{tmp_path.name}")
    version = mlflow.MlflowClient().get_model_version(f"follow-{tmp_path.name}", "1")
    assert version.tags["aifsm.conversion.status"] == "findings open"
    aifsm.declare(frozen.run_id, "conversion.input_id", "digits_4\u2028\udc80", by="A. Ito")
    version = mlflow.MlflowClient().get_model_version(f"follow-{tmp_path.name}", "1")
    assert version.tags["aifsm.conversion.status"] == "complete"
    assert "0 findings open" in version.description
    assert aifsm.load_record(frozen.run_id).entries["aifsm.conversion.input_id"].value.text == "digits_4\u2028\udc80"


def test_a_module_is_compared_with_the_registered_model_it_is_said_to_be(digits: Digits, registered: str) -> None:
    identity.stamp(registered, "doc://verification-17", "A. Ito")
    same = aifsm.freeze(digits.model, digits.example, verified_model=registered).record
    assert "the converted module has the same parameters" in verification_of(same)
    assert same.findings == ()
    other = DigitsNet().eval()
    record = aifsm.freeze(other, digits.example, verified_model=registered).record
    assert "the converted module has other parameters" in verification_of(record)
    assert [finding.code for finding in record.findings] == ["input_is_another_model"]


def test_of_a_conversion_elsewhere_it_is_not_known_what_was_converted(digits: Digits, registered: str, tmp_path: Path) -> None:
    identity.stamp(registered, "doc://verification-17", "A. Ito")
    frozen = aifsm.freeze(digits.model, digits.example, verified_model="d_1")
    with aifsm.record_conversion(verified_model=registered, converter="vendor-tool") as log:
        log.output(frozen.path)
    assert "whether they are what was converted was not seen" in verification_of(log.finished.record)
    entry = log.finished.record.entries["aifsm.conversion.framework"]
    assert "vendor-tool was named; it is not installed here" in entry.reason


def verification_of(record: aifsm.Record) -> str:
    beside = record.entries["aifsm.conversion.input_id"].beside
    return next(fact.value.text for fact in beside if fact.name == "input.verified")


def tags_of(uri: str) -> dict[str, str]:
    name, _, version = uri.removeprefix("models:/").rpartition("/")
    return dict(mlflow.MlflowClient().get_model_version(name, version).tags)


def test_the_command_says_what_was_stamped(registered: str) -> None:
    outcome = command("declare", registered, "verified=doc://17", "--by", "A. Ito")
    assert (outcome.code, outcome.err) == (0, "")
    (line,) = outcome.out.splitlines()
    assert all(word in line for word in (registered, "doc://17", "A. Ito", lineage.resolve(registered).sha256))


def test_a_field_that_is_unknown_stamps_nothing(digits: Digits, tmp_path: Path) -> None:
    frozen = aifsm.freeze(digits.model, digits.example, registered_model_name=f"whole-{tmp_path.name}")
    with pytest.raises(InputError, match=r"unknown field 'nothing\.such'"):
        declare_all(frozen.version_uri, [("verified", "doc://17"), ("nothing.such", "1")], "A. Ito")
    assert identity.EVIDENCE not in tags_of(frozen.version_uri)


def test_a_stamp_that_is_replaced_is_kept_within_the_length_of_a_tag(registered: str) -> None:
    identity.stamp(registered, "doc://17", "A. Ito")
    assert identity.HISTORY not in tags_of(registered)
    for evidence in ("doc://18", "x" * 5000, "y" * 5000, "doc://21"):
        identity.stamp(registered, evidence, "B. Sato")
        if evidence == "doc://18":
            (line,) = tags_of(registered)[identity.HISTORY].splitlines()
            older = json.loads(line)
            assert (older["verified"], older["verified_by"]) == ("doc://17", "A. Ito")
            assert older["verified_sha256"] == lineage.resolve(registered).sha256
    assert [json.loads(line)["verified"][0] for line in tags_of(registered)[identity.HISTORY].splitlines()] == ["y"]
    assert tags_of(registered)[identity.EVIDENCE] == "doc://21"
