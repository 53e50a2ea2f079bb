"""``declare``: a person fills what only a person knows; nothing that was measured is replaced, and the log stays intact."""

from __future__ import annotations

import json

import mlflow
import pytest

import mlflow_aifsm as aifsm
from mlflow_aifsm import audit, review
from mlflow_aifsm.errors import TrackingError
from mlflow_aifsm.facts import State
from mlflow_aifsm.tracking import write
from tests.cli.conftest import Logged
from tests.command import Outcome, command

pytestmark = pytest.mark.usefixtures("experiment")


@pytest.fixture
def run_id(complete: Logged, experiment: str) -> str:
    with aifsm.record_conversion(verified_model="detector_4") as log:
        log.output(complete.frozen.path)
    return log.finished.run_id


def declared(run_id: str, *values: str, by: str = "B. Sato") -> Outcome:
    return command("declare", run_id, *values, "--by", by)


def checks(run_id: str) -> list[bool | None]:
    (log,) = json.loads(command("check", run_id, "--json").out)
    return [check["holds"] for check in log["checks"]]


def test_a_declaration_fills_the_gap_and_the_log_is_still_intact(run_id: str) -> None:
    key = "aifsm.model.data_sets"
    outcome = declared(run_id, "data_sets=digits 1.0, training half")
    assert (outcome.code, outcome.err) == (0, "")
    entry = aifsm.load_record(run_id).entries[key]
    assert (entry.state, entry.value.text, entry.source.by) == (State.DECLARED, "digits 1.0, training half", "B. Sato")
    assert mlflow.get_run(run_id).data.params[key] == "digits 1.0, training half"
    assert checks(run_id) == [True] * 4


def test_all_gaps_filled_and_filled_again_is_still_intact(run_id: str) -> None:
    gaps = aifsm.load_record(run_id).gaps
    values = [f"{gap.key}=known to B. Sato" for gap in gaps]
    assert declared(run_id, *values).code == 0
    assert declared(run_id, *(value + " better" for value in values)).code == 0
    record = aifsm.load_record(run_id)
    assert all(record.entries[gap.key].value.text == "known to B. Sato better" for gap in gaps)
    assert checks(run_id) == [True] * 4


def test_the_report_in_the_run_shows_what_was_declared(run_id: str) -> None:
    declared(run_id, "data_sets=digits 1.0, training half")
    page = mlflow.artifacts.load_text(f"runs:/{run_id}/aifsm/conversion/report.html")
    assert "digits 1.0, training half" in page
    assert "B. Sato" in page


@pytest.mark.parametrize(
    ("values", "by", "words"),
    [
        (["data_sets="], "B. Sato", "empty value for data_sets"),
        (["data_sets=   "], "B. Sato", "empty value for data_sets"),
        (["data_sets=digits"], "root", "the name of a person"),
        (["data_sets=digits"], " Jenkins ", "the name of a person"),
        (["data_sets=digits"], "", "the name of a person"),
        (["data_set=digits"], "B. Sato", "aifsm.model.data_sets"),
        (["data_sets"], "B. Sato", "has no value"),
        ([], "B. Sato", "KEY=VALUE"),
        (["data_sets=digits", "nothing.such=1"], "B. Sato", "nothing.such"),
    ],
)
def test_what_cannot_be_declared_is_refused_and_nothing_is_written(run_id: str, values: list[str], by: str, words: str) -> None:
    outcome = declared(run_id, *values, by=by)
    assert outcome.code == 2
    assert words in outcome.err
    assert aifsm.load_record(run_id).entries["aifsm.model.data_sets"].state is State.NOT_RECORDED
    assert checks(run_id) == [True] * 4


def test_a_contradiction_of_what_was_measured_becomes_a_finding_and_the_measurement_stays(run_id: str) -> None:
    key = "aifsm.elimination.dropout"
    measured = aifsm.load_record(run_id).entries[key].value
    assert declared(run_id, f"{key}=still there").code == 0
    entry = aifsm.load_record(run_id).entries[key]
    assert (entry.state, entry.value) == (State.MEASURED, measured)
    assert [(finding.code, finding.asked) for finding in entry.findings] == [("declared_not_found", "still there")]
    outcome = command("check", run_id)
    assert outcome.code == 4
    assert "declared_not_found" in outcome.out


def test_what_agrees_with_the_measurement_is_no_finding(run_id: str) -> None:
    assert declared(run_id, "elimination.dropout=eliminated").code == 0
    assert not aifsm.load_record(run_id).entries["aifsm.elimination.dropout"].findings


def test_a_responsible_that_is_an_account_is_settled_by_a_name(complete: Logged, experiment: str) -> None:
    with aifsm.record_conversion(verified_model="detector_4", responsible="root") as log:
        log.output(complete.frozen.path)
    run_id = log.finished.run_id
    assert command("check", run_id).code == 4
    assert declared(run_id, "responsible=B. Sato").code == 0
    assert command("check", run_id).code == 3
    assert mlflow.get_run(run_id).data.tags["aifsm.conversion.responsible"] == "B. Sato"


def test_a_key_that_both_logs_have_needs_the_log_named(logged: Logged) -> None:
    outcome = declared(logged.run_id, "responsible=B. Sato")
    assert outcome.code == 2
    assert "--log" in outcome.err
    assert "aifsm.conversion.responsible" in outcome.err
    assert "aifsm.optimization.responsible" in outcome.err


def test_two_people_who_declare_at_once_lose_nothing(run_id: str) -> None:
    plans = [
        review._planned(run_id, [(key, "known")], by, None)
        for key, by in (("model.data_sets", "B. Sato"), ("conversion.responsible", "C. Mori"))
    ]
    for plan in plans:
        review._declared(plan)
    (log,) = audit.read(run_id)
    assert [said.by for said in log.declarations] == ["B. Sato", "C. Mori"]
    assert checks(run_id) == [True] * 4


def test_a_declaration_that_was_cut_off_is_caught_up_by_the_next(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(write, "tags", refused)
        with pytest.raises(TrackingError, match="what was declared is kept; declare it again"):
            aifsm.declare(run_id, "model.data_sets", "digits 1.0", by="B. Sato")
    assert aifsm.load_record(run_id).entries["aifsm.model.data_sets"].value.text == "digits 1.0"
    assert declared(run_id, "model.data_sets=digits 1.1").code == 0
    assert checks(run_id) == [True] * 4


def refused(*_: object) -> None:
    """MLflow cannot be made to refuse one chosen request."""
    raise TrackingError("no tags")


def test_declarations_that_are_no_json_are_one_line(run_id: str) -> None:
    mlflow.MlflowClient().log_text(run_id, "{not json", "aifsm/conversion/declarations/0.json")
    outcome = command("check", run_id)
    assert outcome.code == 1
    assert "declarations" in outcome.err
    assert len(outcome.err.splitlines()) == 1
