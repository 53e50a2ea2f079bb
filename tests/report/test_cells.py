"""What a cell leaves out, and where people stand in the document."""

from __future__ import annotations

from dataclasses import replace

from mlflow_aifsm.facts import State, captured, measured
from mlflow_aifsm.record import Declaration
from mlflow_aifsm.report.document import document
from tests.report import samples
from tests.report.reading import text
from tests.report.test_document import cell


def test_what_does_not_apply_or_is_not_known_has_nothing_beside_it_but_what_was_declared() -> None:
    sample, key = samples.optimization(), "aifsm.pruning.additional"
    entry = sample.record.entries[key]
    work = measured("workload.parameters", "10,016 weights, 9,945 of them not zero", 10_016, source="model.onnx")
    said = replace(captured("pruning.call", "pruned by hand", source="call"), state=State.DECLARED)

    def shown(state: State) -> str:
        changed = replace(entry, state=state, reason="no pruning step ran", beside=(work, said))
        return cell(replace(sample, record=replace(sample.record, entries={**sample.record.entries, key: changed})), key)

    assert "10,016 weights" not in shown(State.NOT_APPLICABLE)
    assert "Declared:\npruned by hand" in shown(State.NOT_APPLICABLE)
    assert "Recovery:" not in shown(State.NOT_RECORDED)
    assert "Recovery:\nnot recorded\nnothing in this log tells it." in shown(State.CAPTURED)


def test_people_s_lines_and_places_to_sign_end_the_document() -> None:
    silent = replace(samples.conversion(), declarations=())
    said = replace(silent, declarations=(Declaration("aifsm.model.data_sets", "digits 1.0", "B. Roe", "2026-11-21T08:00:00Z"),))
    last, spoken = (text(*document(one).blocks).split("\nReview and signatures\n")[1] for one in (silent, said))
    assert "Nobody has declared anything." in last
    assert "2026/11/21\nB. Roe\nData sets: digits 1.0" in spoken
    responsible = silent.record.entries["aifsm.conversion.responsible"].value.text
    assert f"Made by\n{responsible}\n" in last
    assert "this log is not approved" in last
