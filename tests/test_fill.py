"""Asked meets found, a person's word meets the file's, and what the template said is no answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlflow_aifsm.errors import TemplateError
from mlflow_aifsm.facts import Fact, Facts, Finding, State, Value, captured, measured, not_applicable, not_recorded
from mlflow_aifsm.fill import ACCOUNTS, agrees, declared_record, fill
from mlflow_aifsm.record import Declaration, Entry
from mlflow_aifsm.template import LOGS, Field, load
from tests.golden import golden_record

CONVERSION, OPTIMIZATION = load("conversion"), load("optimization")
FILE = "model.onnx"


def entry(key: str, *facts: Fact, said: str | None = None) -> Entry:
    """The entry of one field, filled from these facts and what was declared for it."""
    template = OPTIMIZATION if row(key) in OPTIMIZATION.fields else CONVERSION
    said_by = [] if said is None else [Declaration(key, said, "A. Ito", "2026-11-21T10:00:00+01:00")]
    return fill(template, Facts().with_facts(facts), said_by)[key]


def row(key: str) -> Field:
    return next(row for template in (CONVERSION, OPTIMIZATION) for row in template.fields if row.key == key)


def codes(found: Entry) -> list[str]:
    return [finding.code for finding in found.findings]


def test_a_field_that_nothing_tells_is_not_recorded_with_reason_and_remedy() -> None:
    for log in LOGS:
        template = load(log)
        entries = fill(template, Facts())
        assert list(entries) == [row.key for row in template.fields]
        for row_ in template.fields:
            found = entries[row_.key]
            assert (found.state, found.value, found.remedy) == (State.NOT_RECORDED, Value(""), row_.remedy)
            assert found.reason
            assert not found.answers(row_)


@pytest.mark.parametrize("state", State)
def test_an_entry_has_the_state_value_source_and_reason_of_its_fact(state: State) -> None:
    finding = Finding("training_operation_left", measured="1 node")
    fact = replace(
        measured("graph.dropout", "1 Dropout node", 1, source=FILE, findings=[finding]),
        state=state,
        reason="why",
        remedy="do it",
    )
    found = entry("aifsm.elimination.dropout", fact)
    assert (found.state, found.value, found.source, found.reason) == (state, fact.value, fact.source, "why")
    assert found.findings == (replace(finding, field="aifsm.elimination.dropout"),)
    assert found.remedy == ("do it" if state is State.NOT_RECORDED else "")


@pytest.mark.parametrize(
    ("state", "answered"),
    [
        (State.MEASURED, True),
        (State.CAPTURED, False),
        (State.DECLARED, False),
        (State.NOT_APPLICABLE, True),
        (State.NOT_RECORDED, False),
    ],
)
def test_a_field_that_the_file_can_tell_is_answered_by_the_file(state: State, answered: bool) -> None:
    fact = replace(measured("quantizers.precision", "int8", source=FILE), state=state, reason="why")
    assert entry("aifsm.ptq.precision", fact).answers(row("aifsm.ptq.precision")) is answered
    assert not entry("aifsm.ptq.precision", replace(fact, value=Value(""), reason="")).answers(row("aifsm.ptq.precision"))


def test_what_stands_beside_keeps_its_state_and_its_findings_go_to_the_field() -> None:
    beside = captured("training.dropout", "2 layers", 2, source="module", findings=[Finding("in_training_mode")])
    found = entry("aifsm.elimination.dropout", measured("graph.dropout", "none", 0, source=FILE), beside)
    assert found.beside == (replace(beside, findings=()),)
    assert found.findings == (Finding("in_training_mode", field="aifsm.elimination.dropout"),)
    alone = entry("aifsm.elimination.dropout", beside)
    assert (alone.state, alone.beside) == (State.NOT_RECORDED, (beside,))


def test_a_higher_opset_than_asked_is_no_finding_and_what_was_asked_is_kept() -> None:
    asked = captured("asked.opset", "13", 13, source="call")
    higher = entry("aifsm.conversion.opset", measured("graph.opset", "18", 18, source=FILE), asked)
    assert (higher.asked, higher.findings) == (asked.value, ())
    lower = entry("aifsm.conversion.opset", measured("graph.opset", "11", 11, source=FILE), asked)
    assert [(finding.code, finding.asked, finding.measured) for finding in lower.findings] == [("asked_not_found", "13", "11")]
    assert lower.state is State.MEASURED


def test_int8_where_int4_was_asked_is_a_finding() -> None:
    asked = captured("asked.precision", "int4 weights", {"weights": "int4"}, source="call")
    found = entry(
        "aifsm.ptq.precision", measured("quantizers.precision", "int8 weights", {"weights": "int8"}, source=FILE), asked
    )
    assert codes(found) == ["asked_not_found"]
    assert found.findings[0].field == "aifsm.ptq.precision"
    same = entry("aifsm.ptq.precision", measured("quantizers.precision", "int4", {"weights": "int4"}, source=FILE), asked)
    assert (codes(same), same.asked) == ([], asked.value)


def test_only_what_was_looked_at_contradicts_what_was_asked() -> None:
    asked = captured("asked.precision", "int4", "int4", source="call")
    found = entry("aifsm.ptq.precision", not_recorded("quantizers.precision", "no file"), asked)
    assert (codes(found), found.asked) == ([], asked.value)
    unsaid = captured("asked.precision", "the quantizer's default", source="call")
    assert codes(entry("aifsm.ptq.precision", measured("quantizers.precision", "int8", "int8", source=FILE), unsaid)) == []


def test_a_file_with_nothing_quantized_contradicts_what_was_asked() -> None:
    asked = captured("asked.precision", "int4", "int4", source="call")
    found = entry(
        "aifsm.ptq.precision", not_applicable("quantizers.precision", "no quantizer among 3 nodes", source=FILE), asked
    )
    assert codes(found) == ["asked_not_found"]
    assert found.findings[0].measured == "no quantizer among 3 nodes"


def test_of_a_mapping_only_the_asked_parts_are_compared() -> None:
    assert agrees("subset", {"weights": ["int8"]}, {"weights": ["int8"], "bias": ["int32"]})
    assert not agrees("subset", {"weights": ["int8"]}, {"weights": ["int4", "int8"]})
    assert not agrees("subset", {"weights": ["int8"]}, {"activations": ["int8"]})
    assert agrees("subset", {"activations": "asymmetric"}, {"activations": "symmetric", "either": ["activations"]})
    assert not agrees("subset", "int4", {"weights": ["int4"]})


@pytest.mark.parametrize(
    ("compare", "asked", "found", "holds"),
    [
        ("equal", "int8", "int8", True),
        ("equal", {"a": 1}, {"a": 2}, False),
        ("at_least", 13, 13, True),
        ("at_least", 13, 12, False),
        ("subset", ["a"], ["b", "a"], True),
        ("subset", ["a", "c"], ["a"], False),
        ("subset", [], [], True),
    ],
)
def test_the_three_comparisons(compare: str, asked: object, found: object, holds: bool) -> None:
    assert agrees(compare, asked, found) is holds


@pytest.mark.parametrize("name", [*sorted(ACCOUNTS), " Root ", "CI"])
def test_an_account_that_is_no_person_is_a_finding(name: str) -> None:
    found = entry("aifsm.conversion.responsible", captured("log.responsible", name, source="account"))
    assert codes(found) == ["responsible_is_account"]
    assert codes(entry("aifsm.conversion.responsible", said=name)) == ["responsible_is_account"]
    cured = entry("aifsm.conversion.responsible", captured("log.responsible", name, source="account"), said="A. Ito")
    assert (cured.value.text, cured.findings) == ("A. Ito", ())
    assert codes(entry("aifsm.conversion.responsible", said=f"{name}, Florence")) == []


GUIDED = [row for log in LOGS for row in load(log).fields if row.guidance]


@pytest.mark.parametrize("guided", GUIDED, ids=[row.key for row in GUIDED])
def test_the_guidance_of_every_field_is_residue_in_that_field(guided: Field) -> None:
    for pasted in (guided.guidance, f" {guided.guidance.upper()}\n", guided.guidance.replace(" ", "  ")):
        assert codes(entry(guided.key, said=pasted)) == ["template_residue"], pasted
        assert codes(entry(guided.key, captured(guided.fact, pasted, source="call"))) == ["template_residue"]


@pytest.mark.parametrize(
    "left",
    [
        "<Model_ID>_<Model_ID_version>",
        "digits_<Model_ID_version>",
        "…",
        " ... ",
        "For instance: f(x)=s·x",
        "specify the framework: torch",
        "Date of design: Format YYYY/MM/DD (year, moth, day)",
        "Tensorflow (keras, tensorflow), onnx-tf (onnx), torch (pythorch)…",
        "In the case of using tools or separate scrips, it should be\nstored the configuration and its parameters.",
        "Operation system or any additional information relevant to the conversion process",
    ],
)
def test_words_of_the_template_are_residue_in_any_field(left: str) -> None:
    assert codes(entry("aifsm.conversion.framework", said=left)) == ["template_residue"]


@pytest.mark.parametrize("value", ["", "PyTorch 2.9", "f(x) = s·x", "digits_3", "a … b", "2026-11-21", "<not a template>"])
def test_an_answer_is_no_residue(value: str) -> None:
    assert codes(entry("aifsm.conversion.framework", captured("converter.framework", value, source="call"))) == []
    assert codes(entry("aifsm.conversion.phase", captured("log.phase", value, source="template"))) == []


def test_a_declaration_fills_a_gap_with_name_and_time() -> None:
    found = entry("aifsm.conversion.framework", said="tf2onnx 1.16")
    assert (found.state, found.value.text) == (State.DECLARED, "tf2onnx 1.16")
    assert (found.source.by, found.source.at) == ("A. Ito", "2026-11-21T10:00:00+01:00")
    assert (found.reason, found.remedy) == ("", "")
    assert found.answers(row("aifsm.conversion.framework"))


def test_a_declaration_replaces_a_captured_value_where_a_person_may_answer_and_the_last_one_holds() -> None:
    found = entry(
        "aifsm.conversion.framework", captured("converter.framework", "torch 2.9", source="call"), said="torch 2.9 patched"
    )
    assert (found.state, found.value.text) == (State.DECLARED, "torch 2.9 patched")
    said = [Declaration("aifsm.conversion.framework", text, "A. Ito", "now") for text in ("first", "second")]
    assert fill(CONVERSION, Facts(), said)["aifsm.conversion.framework"].value.text == "second"


def test_a_declaration_does_not_replace_what_was_captured_where_no_person_may_answer() -> None:
    found = entry("aifsm.conversion.date", captured("log.date", "2026-11-21", source="clock"), said="2026-01-01")
    assert (found.state, found.value.text, codes(found)) == (State.CAPTURED, "2026-11-21", ["declared_not_found"])


@pytest.mark.parametrize("key", ["aifsm.ptq.precision", "aifsm.pruning.criteria"])
def test_a_measured_value_stays_and_a_contradiction_is_a_finding(key: str) -> None:
    fact = measured(row(key).fact, "int8 weights", "int8", source=FILE, short="int8")
    found = entry(key, fact, said="int4")
    assert (found.state, found.value) == (State.MEASURED, fact.value)
    (finding,) = found.findings
    assert (finding.code, finding.field, finding.asked, finding.measured) == ("declared_not_found", key, "int4", "int8 weights")
    assert [(said.state, said.value.text, said.source.by) for said in found.beside] == [(State.DECLARED, "int4", "A. Ito")]


@pytest.mark.parametrize("said", ["int8 weights", " INT8 ", "Int8 Weights"])
def test_a_declaration_that_agrees_with_the_file_is_no_finding(said: str) -> None:
    found = entry("aifsm.ptq.precision", measured("quantizers.precision", "int8 weights", source=FILE, short="int8"), said=said)
    assert (found.state, found.findings, len(found.beside)) == (State.MEASURED, (), 1)


def test_what_was_measured_not_to_apply_is_not_declared_away() -> None:
    fact = not_applicable("pruning.patterns", "0 of 5,530 weights are zero", 0, source=FILE)
    found = entry("aifsm.pruning.patterns", fact, said="block-wise 4x4")
    assert (found.state, found.reason, codes(found)) == (State.NOT_APPLICABLE, fact.reason, ["declared_not_found"])
    assert found.answers(row("aifsm.pruning.patterns"))
    free = entry(
        "aifsm.pruning.criteria",
        not_applicable("pruning.criteria", "no pruning ran", source="call"),
        said="Weight magnitude, global",
    )
    assert (free.state, free.reason, free.findings) == (State.DECLARED, "", ())


def test_a_declaration_for_what_only_the_file_can_tell_is_shown_and_stays_a_gap() -> None:
    found = entry("aifsm.ptq.precision", said="int8")
    assert (found.state, found.value.text) == (State.DECLARED, "int8")
    assert not found.answers(row("aifsm.ptq.precision"))


def test_a_declaration_may_name_the_last_parts_of_a_key_and_an_unknown_key_is_refused() -> None:
    said = Declaration("input_id", "digits_3", "A. Ito", "now")
    assert fill(CONVERSION, Facts(), [said])["aifsm.conversion.input_id"].value.text == "digits_3"
    with pytest.raises(TemplateError, match="no single field 'colour'"):
        fill(CONVERSION, Facts(), [replace(said, key="colour")])


def test_a_record_with_declarations_laid_over_it_is_another_record() -> None:
    made = golden_record()
    before = made.to_json()
    read = declared_record(made, [Declaration("aifsm.conversion.converter", "keras2onnx", "M. Lindqvist", "now")])
    assert read.entries["aifsm.conversion.converter"].value.text == "keras2onnx"
    assert made.to_json() == before
