"""The state of a whole log in one word, one line and one exit code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from mlflow_aifsm.facts import Facts, Finding, State, Value, captured, measured
from mlflow_aifsm.fill import fill
from mlflow_aifsm.record import Check, Declaration, Evidence, Record, Status, VerificationResult
from mlflow_aifsm.template import load

TEMPLATE = load("optimization")
PASSED = VerificationResult(True, "exact")


def record(leave_out: Iterable[str] = (), **more: object) -> Record:
    """An optimization log that answers every field but those whose facts are left out."""
    facts = [measured(row.fact, "value", source="model.onnx") for row in TEMPLATE.fields if row.fact not in leave_out]
    made = Record(
        TEMPLATE, "digits_3-MO-1", "run", "2026-11-21T10:00:00+01:00", "tool", fill(TEMPLATE, Facts().with_facts(facts))
    )
    return replace(made, **{"verification": PASSED, **more})  # type: ignore[arg-type]


def with_finding(made: Record, key: str = "aifsm.ptq.precision", *, is_open: bool = True) -> Record:
    entry = replace(made.entries[key], findings=(Finding("asked_not_found", key, open=is_open),))
    return replace(made, entries={**made.entries, key: entry})


BROKEN = VerificationResult(False, "exact")
GAP = ["quantizers.precision"]


@pytest.mark.parametrize(
    ("made", "status", "code"),
    [
        (record(), Status.COMPLETE, 0),
        (record(verification=None), Status.COMPLETE, 0),
        (with_finding(record(), is_open=False), Status.COMPLETE, 0),
        (record(GAP), Status.INCOMPLETE, 3),
        (with_finding(record(GAP)), Status.FINDINGS_OPEN, 4),
        (with_finding(record(GAP, verification=BROKEN)), Status.VERIFICATION_FAILED, 4),
        (with_finding(record(GAP, verification=BROKEN, failure="ValueError: x")), Status.FAILED, 4),
    ],
)
def test_the_gravest_state_names_the_log(made: Record, status: Status, code: int) -> None:
    assert (made.status, made.status.exit_code) == (status, code)
    evidence = Evidence(made, "0", "run", (Check("a", holds=True), Check("b", holds=None)))
    assert evidence.status is status


@pytest.mark.parametrize("made", [record(), with_finding(record(GAP, verification=BROKEN, failure="x"))])
def test_broken_integrity_stands_before_all_else(made: Record) -> None:
    evidence = Evidence(made, "0", "run", (Check("a", holds=True), Check("b", holds=False)))
    assert (evidence.status, evidence.status.exit_code) == (Status.INTEGRITY_BROKEN, 5)


def test_every_status_has_its_exit_code() -> None:
    codes = {status.value: status.exit_code for status in Status}
    assert codes == {
        "complete": 0,
        "incomplete": 3,
        "findings open": 4,
        "verification failed": 4,
        "failed": 4,
        "approval void": 5,
        "integrity broken": 5,
    }


def test_the_state_line_counts_what_is_answered_how_it_is_known_and_what_is_open() -> None:
    assert (
        record().state_line == "23 of 23 answered · 23 measured · 0 findings open · verified on this host only · not approved"
    )
    one = with_finding(record(GAP, verification=None), "aifsm.ptq.scheme")
    assert one.state_line == "22 of 23 answered · 22 measured, 1 not recorded · 1 finding open · not verified · not approved"
    device = replace(PASSED, target="Jetson Orin")
    assert "· verified on Jetson Orin ·" in record(verification=device).state_line
    assert "· verification failed on this host only ·" in record(verification=BROKEN).state_line


@pytest.mark.parametrize("criterion", ["no limit was set", "no limit was set: there is no reference model"])
def test_a_run_that_nothing_limited_is_not_called_verified(criterion: str) -> None:
    unjudged = VerificationResult(True, criterion)
    assert "· run on this host, no criterion set ·" in record(verification=unjudged).state_line
    device = replace(unjudged, target="target device")
    assert "· run on target device, no criterion set ·" in record(verification=device).state_line
    broken = replace(unjudged, passed=False)
    assert "· verification failed on this host only ·" in record(verification=broken).state_line


def test_the_states_stand_in_the_order_of_how_well_a_value_is_known() -> None:
    facts = Facts().with_facts([measured("quantizers.scheme", "x", source="f"), captured("log.date", "x", source="clock")])
    said = [Declaration("aifsm.ptq.precision", "int8", "A. Ito", "now")]
    made = replace(record(), entries=fill(TEMPLATE, facts, said))
    assert made.state_line.startswith(
        "2 of 23 answered · 1 measured, 1 captured, 1 declared, 20 not recorded · 0 findings open"
    )


def test_gaps_are_the_fields_below_their_basis_and_never_open_rows() -> None:
    assert [row.key for row in record(GAP).gaps] == ["aifsm.ptq.precision"]
    entry = replace(record().entries["aifsm.ptq.precision"], state=State.DECLARED, value=Value("int8"))
    weak = replace(record(), entries={**record().entries, "aifsm.ptq.precision": entry})
    assert [row.key for row in weak.gaps] == ["aifsm.ptq.precision"]
    empty = load("conversion")
    blank = Record(empty, "", "", "", "", fill(empty, Facts()))
    assert blank.gaps == empty.counted


def test_findings_stand_in_the_order_of_the_table() -> None:
    made = with_finding(with_finding(record(), "aifsm.recovery.qat"), "aifsm.ptq.precision", is_open=False)
    assert [finding.field for finding in made.findings] == ["aifsm.ptq.precision", "aifsm.recovery.qat"]
    assert [finding.field for finding in made.open_findings] == ["aifsm.recovery.qat"]
