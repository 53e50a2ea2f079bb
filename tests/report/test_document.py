"""The block tree: the template's words and order, honest gaps, findings, and strings that cannot hide."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlflow_aifsm.facts import Value
from mlflow_aifsm.fill import RESIDUE
from mlflow_aifsm.record import Check, Declaration, Evidence
from mlflow_aifsm.report.acronyms import used
from mlflow_aifsm.report.blocks import Heading, Role, Table, Text
from mlflow_aifsm.report.characters import visible
from mlflow_aifsm.report.document import document
from mlflow_aifsm.report.reading import spans
from mlflow_aifsm.report.words import date, filled, number, readable
from tests.report import sample_facts, samples
from tests.report.reading import text


def table(evidence: Evidence) -> Table:
    """Table 1 of the document."""
    return next(block for block in document(evidence).blocks if isinstance(block, Table) and block.caption)


def cell(evidence: Evidence, key: str) -> str:
    """The words of the cell of the field ``key``."""
    template = evidence.record.template
    rows = [row for row in table(evidence).rows if row.role is not Role.GROUP]
    place = template.fields.index(template.field(key))
    return "\n".join(span.text for block in rows[place].cells[1].blocks for span in spans(block))


def test_the_sections_are_those_of_the_template_then_the_annexes(evidence: Evidence) -> None:
    headings = [block for block in document(evidence).blocks if isinstance(block, Heading) and block.level == 1]
    titles = [f"{heading.number} {heading.title.text}" for heading in headings]
    assert titles == [
        "1 Review / Modification History",
        "2 Objective",
        "3 Scope",
        f"4 {evidence.record.template.table_title}",
        "5 Acronyms and Abbreviations",
        "Annex A Verification",
        "Annex B Quantizers and sparsity by layer",
        "Annex C Environment, packages and tool validation",
        "Annex D Manifest and chain",
        "Annex E Gaps, findings and notes",
        "Annex F Review and signatures",
    ]


def test_the_table_has_every_group_and_label_in_the_order_of_the_template(evidence: Evidence) -> None:
    expected = []
    for section in evidence.record.template.sections:
        expected += [section.title] if section.title else []
        expected += [row.label for row in section.fields]
    assert [
        "\n".join(span.text for block in row.cells[0].blocks for span in spans(block)) for row in table(evidence).rows
    ] == expected


def test_every_known_value_stands_in_its_cell_with_state_and_source(evidence: Evidence) -> None:
    for row in evidence.record.template.fields:
        entry = evidence.record.entries[row.key]
        if entry.state.strength and row.fact != "log.date":
            words = cell(evidence, row.key)
            assert entry.value.text in words
            assert str(entry.state) in words
            assert str(entry.source).removeprefix("declared ") in words


def test_a_gap_says_why_and_how_to_fill_it_with_the_target_put_in() -> None:
    words = cell(samples.conversion_with_gaps(), "aifsm.conversion.packages")
    assert "Not recorded: nothing in this log tells it." in words
    assert f"mlflow-aifsm declare runs:/{samples.RUN} aifsm.conversion.packages='…' --by 'NAME'" in words


def test_a_value_known_too_weakly_is_a_gap_that_says_so() -> None:
    sample = samples.conversion_with_gaps()
    key = "aifsm.elimination.lr_scheduling"
    said = replace(sample.record.entries[key], state=sample.record.entries["aifsm.conversion.log_id"].state.DECLARED)
    said = replace(said, value=replace(said.value, text="none used"), reason="")
    weak = replace(sample, record=replace(sample.record, entries={**sample.record.entries, key: said}))
    assert "this field must be measured, and the value is only declared" in cell(weak, key)


def test_a_finding_that_a_declaration_settles_shows_the_line_in_its_cell_and_in_annex_e() -> None:
    sample = samples.conversion_with_gaps()
    settle = f"Settle it:\nmlflow-aifsm declare runs:/{samples.RUN} aifsm.conversion.responsible='…' --by 'NAME'"
    assert settle in cell(sample, "aifsm.conversion.responsible")
    assert settle in text(*document(sample).blocks).split("\nGaps, findings and notes\n")[1]
    assert "Settle it:" not in cell(sample, "aifsm.elimination.dropout")


def test_the_objective_names_the_model_where_it_lies_and_what_it_became() -> None:
    assert document_sentence(samples.conversion(), "Objective") == (
        "It records the conversion of digits, version 3 (DigitsCNN) (models:/digits/3) into digits.onnx "
        "under the identifier digits_3-MC-3f9a1c5e ."
    )
    named = replace(samples.optimization(), record=replace(samples.optimization().record, subject="my_net_12"))
    assert "the optimization of my_net version 12 (log digits_3-MC-3f9a1c5e) into" in document_sentence(named, "Objective")


def document_sentence(evidence: Evidence, title: str) -> str:
    """The last paragraph under the heading ``title``."""
    blocks = document(evidence).blocks
    place = next(place for place, block in enumerate(blocks) if isinstance(block, Heading) and block.title.text == title)
    return " ".join(span.text for span in spans(blocks[place + 2]))


def test_a_finding_stands_in_its_cell_and_in_annex_e_with_code_and_effect() -> None:
    sample = samples.conversion_with_gaps()
    words = cell(sample, "aifsm.elimination.dropout")
    annexes = text(*document(sample).blocks).split("\nGaps, findings and notes\n")[1]
    for part in ("training_operation_left", "finding open", "outputs change from run to run on a runtime that honours it"):
        assert part in words
        assert part in annexes


def test_an_accepted_finding_stays_visible_as_accepted() -> None:
    assert "finding accepted" in cell(samples.optimization_with_findings(), "aifsm.calibration.method")


def test_what_was_asked_shows_only_where_it_differs_from_what_was_found() -> None:
    assert "Asked:\nint4 weights, int8 activations" in cell(samples.optimization_with_findings(), "aifsm.ptq.precision")
    assert "Asked:" not in cell(samples.optimization(), "aifsm.ptq.precision")


def test_what_does_not_apply_shows_reason_and_the_measurement_behind_it() -> None:
    words = cell(samples.optimization(), "aifsm.pruning.patterns")
    assert "the model was not pruned: 0 of 5,530 weights are zero." in words
    assert "Behind it: weights 5,530 · zeros 0" in words
    assert "Behind it" not in cell(samples.optimization(), "aifsm.recovery.qat")


@pytest.mark.parametrize(
    ("data", "said"), [([], ""), ({}, ""), (None, ""), (0, "Behind it: 0 found"), ([1, 2], "Behind it: 1, 2")]
)
def test_an_empty_measurement_is_not_said_to_stand_behind_a_reason(data: object, said: str) -> None:
    sample = samples.optimization()
    entry = sample.record.entries["aifsm.recovery.qat"]
    entries = {**sample.record.entries, "aifsm.recovery.qat": replace(entry, value=Value("Not applicable", data))}
    words = cell(replace(sample, record=replace(sample.record, entries=entries)), "aifsm.recovery.qat")
    assert said in words
    assert said or "Behind it" not in words


def test_facts_beside_a_value_keep_their_own_state_and_source() -> None:
    words = cell(samples.conversion(), "aifsm.elimination.dropout").split("\n")
    assert words[:4] == ["In the file:", "no Dropout node among 9 nodes", "measured", sample_facts.FLOAT]
    assert words[4:] == ["In training:", "Dropout(p=0.25) ×2", "captured", sample_facts.TRAINING]


def test_the_date_of_the_operation_prints_as_the_template_writes_it() -> None:
    assert cell(samples.conversion(), "aifsm.conversion.date").startswith("2026/11/20\n")


def test_the_history_is_newest_first_and_names_declarations_and_the_superseded_log() -> None:
    history = next(block for block in document(samples.conversion()).blocks if isinstance(block, Table))
    lines = [
        " ".join(span.text for part in row.cells for block in part.blocks for span in spans(block)) for row in history.rows
    ]
    assert [line.split()[:2] for line in lines] == [["V0.3", "21/11/2026"], ["V0.2", "20/11/2026"], ["V0.1", "20/11/2026"]]
    assert "aifsm.model.data_sets declared by M. Lindqvist" in lines[0]
    assert f"Supersedes log of run {samples.OLDER_RUN} with sha256 {sample_facts.digest('older record')}" in lines[2]


def test_a_complete_log_holds_no_residue_of_the_template() -> None:
    for sample in (samples.conversion(), samples.optimization()):
        made = document(sample)
        every = text(*made.blocks).split("\n") + [value.text for _, value in made.cover.pairs]
        assert [part for part in every if RESIDUE.search(part)] == []


def test_an_unjustified_epsilon_and_an_absent_verification_are_said() -> None:
    assert "tool default, not justified" in text(*document(samples.optimization_with_findings()).blocks)
    assert "No verification was run." in text(*document(samples.conversion_with_gaps()).blocks)


def test_a_check_that_could_not_be_made_is_neither_held_nor_broken() -> None:
    sample = replace(samples.conversion(), checks=(Check("registry", None, "unreachable"),))
    assert "registry\nundecided\nunreachable" in text(*document(sample).blocks)


def test_a_long_series_is_cut_and_the_cut_is_said() -> None:
    rows = tuple({"tensor": f"t{number}", "kind": "weight", "bits": 4 if number == 999 else 8} for number in range(1234))
    words = text(*document(replace(samples.optimization(), tables={"quantizers": rows})).blocks)
    assert "200 of 1,234 rows are shown: those of the rarest kinds first." in words
    assert "1,234 rows of 2 kinds, the rarest first:" in words
    assert {"t999", "t198", "1,233"} <= set(words.split("\n"))
    assert "t199" not in words.split("\n")


def test_of_a_long_series_of_one_kind_the_rows_that_lose_most_are_shown() -> None:
    rows = tuple({"tensor": f"t{number}", "method": "mse", "sqnr_db": 1000.0 - number} for number in range(300))
    words = text(*document(replace(samples.optimization(), tables={"calibration": rows})).blocks).split("\n")
    assert words.index("t299") < words.index("t298") < words.index("t100")
    assert "t99" not in words


def test_acronyms_are_the_template_s_and_those_that_are_used() -> None:
    assert used([("DL", "Deep Learning")], "a QDQ file, ONNXish") == (
        ("DL", "Deep Learning"),
        ("QDQ", "Quantize-Dequantize pairs"),
    )


def test_a_declaration_at_no_readable_time_is_printed_as_it_stands() -> None:
    said = Declaration("aifsm.conversion.responsible", "A. Ito", "A. Ito", "last Tuesday")
    assert "last Tuesday" in text(*document(replace(samples.conversion(), declarations=(said,))).blocks)


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [("\x1b[31m", "\\x1b[31m"), ("\ud800", "\\ud800"), ("\u202eexe", "\\u202eexe"), ("a\r\nb\tc", "a\nb\tc"), ("é·²→", "é·²→")],
)
def test_characters_that_show_nothing_are_spelled_out_and_others_stay(hidden: str, shown: str) -> None:
    assert visible(hidden) == shown
    assert Text(hidden).text == shown


def test_values_read_as_a_person_writes_them() -> None:
    assert [number(value) for value in (5530, 0.0, 2.4e-06, 0.99999999)] == ["5,530", "0", "2.4e-06", "0.99999999"]
    assert readable([0.5] * 8 + [1]) == "9 values, 0.5 to 1"
    assert readable({"a": None, "b": True}) == "a not known · b yes"
    assert date("2026-11-20T23:30:00+01:00", "%d/%m/%Y") == "20/11/2026"


def test_a_target_goes_into_a_command_as_one_word() -> None:
    assert filled("mlflow-aifsm check {target}", "my run; rm x") == "mlflow-aifsm check 'my run; rm x'"
