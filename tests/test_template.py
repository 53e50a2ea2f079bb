"""Both templates hold AI-FSM's labels word for word, and a template file that breaks a rule is refused by name."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from mlflow_aifsm.catalogue import CATALOGUE
from mlflow_aifsm.errors import TemplateError
from mlflow_aifsm.facts import State
from mlflow_aifsm.template import LOGS, load, parse

CONVERSION = {
    "": ["Model conversion", "Date", "Responsible", "Phase of the lifecycle"],
    "Verified Learning Model": ["Verified Learning Model ID"],
    "Elimination of Training-Specific Operations": [
        "Dropout",
        "Batch Normalization",
        "Gradient Clipping",
        "Learning Rate Scheduling",
        "Weight Regularization (L1, L2)",
    ],
    "Loading and Converting the Verified Learning Model": [
        "Framework and version",
        "Packages and version",
        "Converter/model conversion script",
        "Environment information",
    ],
}
OPTIMIZATION = {
    "": ["Model optimization", "Date", "Responsible", "Phase of the lifecycle"],
    "Input Model Specifications": ["Verified Learning Model ID or Model Conversion ID"],
    "Calibration fundamentals operations (preprocessing operations before post-quantization)": [
        "Calibration",
        "Transformation function",
        "Scale factor",
    ],
    "Post-training quantization specifications": [
        "Framework and version",
        "Packages and version",
        "Quantization precision",
        "Quantization scheme",
        "Quantization technique",
        "Quantization granularity",
        "Additional configurations",
    ],
    "Pruning specifications": [
        "Framework and version",
        "Packages and version",
        "Pruning criteria",
        "Pruning patterns",
        "Additional configurations",
    ],
    "Techniques to recover accuracy": [
        "Partial quantization configurations",
        "Quantization-aware training configurations",
        "Learning quantization parameters configurations",
    ],
}
OPEN_ROWS = {
    "conversion": [
        ("Verified Learning Model", "Architecture"),
        ("Verified Learning Model", "Parameter count"),
        ("Verified Learning Model", "Inputs"),
        ("Verified Learning Model", "Outputs"),
        ("Verified Learning Model", "Training framework"),
        ("Verified Learning Model", "Training run"),
        ("Verified Learning Model", "Data sets"),
        ("Verified Learning Model", "Baseline metrics"),
        ("Elimination of Training-Specific Operations", "Other training-specific operations"),
        ("Loading and Converting the Verified Learning Model", "ONNX operator set"),
        ("Loading and Converting the Verified Learning Model", "Precision of the stored weights"),
    ],
    "optimization": [],
}


@pytest.mark.parametrize(("log", "table", "count"), [("conversion", CONVERSION, 14), ("optimization", OPTIMIZATION, 23)])
def test_the_counted_rows_are_the_labels_of_ai_fsm_in_their_groups_and_order(
    log: str, table: dict[str, list[str]], count: int
) -> None:
    template = load(log)
    found = {section.title: [row.label for row in section.fields if not row.open_row] for section in template.sections}
    assert found == table
    assert list(found) == list(table)
    assert len(template.counted) == count
    assert all(row.group == section.title for section in template.sections for row in section.fields)


@pytest.mark.parametrize("log", LOGS)
def test_open_rows_stand_apart_and_are_not_counted(log: str) -> None:
    template = load(log)
    assert [(row.group, row.label) for row in template.fields if row.open_row] == OPEN_ROWS[log]
    assert len(template.fields) == len(template.counted) + len(OPEN_ROWS[log])


@pytest.mark.parametrize("log", LOGS)
def test_identity_and_words_of_the_documents(log: str) -> None:
    template = load(log)
    identity = {
        "conversion": ("PhIMT0002", "MC", "1.0", "Model Conversion Log"),
        "optimization": (None, "MO", "1.0", "Model Optimization Log"),
    }
    id_, *rest = identity[log]
    assert template.id == (id_ or template.title)
    assert [template.code, template.version, template.title] == rest
    assert template.scope.startswith("This document applies")
    assert ("AI-FSM", "Artificial Intelligence - Functional Safety Management") in template.acronyms


@pytest.mark.parametrize("log", LOGS)
def test_every_row_is_defined_whole(log: str) -> None:
    for row in load(log).fields:
        assert {row.fact, *row.beside} | ({row.asked} if row.asked else set()) <= CATALOGUE.keys(), row.key
        assert re.fullmatch(r"aifsm\.[a-z]+\.[a-z_]+", row.key)
        assert row.filled_by
        assert row.remedy
        assert row.clause.startswith(load(log).id)
        assert row.remedy.count("{") == row.remedy.count("{target}")


def test_what_the_file_tells_is_not_answered_by_hand() -> None:
    by_hand = {
        row.label
        for log in LOGS
        for row in load(log).counted
        if row.basis is State.DECLARED and row.fact.startswith(("graph.", "quantizers."))
    }
    assert by_hand == set()


def test_the_two_documents_share_no_key() -> None:
    first, second = ({row.key for row in load(log).fields} for log in LOGS)
    assert not first & second


def test_a_row_is_found_by_its_key_and_by_its_last_parts() -> None:
    template = load("optimization")
    whole = template.field("aifsm.ptq.framework")
    assert whole is template.field("ptq.framework")
    assert template.field("precision").key == "aifsm.ptq.precision"
    assert load("conversion").field("framework").key == "aifsm.conversion.framework"


def test_an_ambiguous_key_lists_its_candidates_and_an_unknown_one_all_keys() -> None:
    template = load("optimization")
    with pytest.raises(TemplateError) as caught:
        template.field("framework")
    assert caught.value.expected == "one of aifsm.ptq.framework, aifsm.pruning.framework"
    for wrong in ("ramework", "", "aifsm"):
        with pytest.raises(TemplateError) as caught:
            template.field(wrong)
        assert all(row.key in str(caught.value) for row in template.fields)


def test_a_document_nobody_knows_is_refused() -> None:
    with pytest.raises(TemplateError, match="no template for 'training'; expected conversion or optimization"):
        load("training")


def _text(log: str = "conversion") -> str:
    return (resources.files("mlflow_aifsm") / "templates" / f"{log}.toml").read_text("utf-8")


BROKEN = {
    "unknown fact": ('fact = "graph.dropout"', 'fact = "graph.drop"', "unknown fact 'graph.drop'", "elimination.dropout"),
    "unknown fact beside": ('beside = ["graph.producer"]', 'beside = ["x"]', "unknown fact 'x'", "conversion.framework"),
    "doubled key": ("aifsm.elimination.dropout", "aifsm.conversion.date", "key stands twice", "conversion.date"),
    "unknown name": ('basis = "measured"\nlog_as', 'basi = "measured"\nlog_as', "extra fields found (basi)", "model.inputs"),
    "foreign key": ('key = "aifsm.conversion.date"', 'key = "date"', "key must start with 'aifsm.'", "date"),
    "comparison": ('compare = "at_least"', 'compare = "more"', "unknown comparison 'more'", "conversion.opset"),
    "asked alone": ('compare = "at_least"\n', "", "a comparison needs 'asked'", "conversion.opset"),
    "compare alone": ('asked = "asked.opset"\n', "", "a comparison needs 'asked'", "conversion.opset"),
    "destination": ('log_as = "metric"', 'log_as = "artifact"', "unknown destination 'artifact'", "model.parameters"),
    "basis without value": ('basis = "measured"', 'basis = "not recorded"', "basis must be", "model.inputs"),
    "unknown basis": ('basis = "measured"', 'basis = "guessed"', "expected State", "model.inputs"),
    "text for a flag": ("open_row = true", 'open_row = "false"', "expected bool", "model.architecture"),
    "text for a list": ('beside = ["model.mode"]', 'beside = "model.mode"', "expected tuple", "model.architecture"),
    "missing label": ('label = "Date"\n', "", "required field missing @ $.label", "conversion.date"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_rule_is_refused_with_file_and_field(fault: str) -> None:
    before, after, problem, key = BROKEN[fault]
    text = _text()
    assert before in text
    with pytest.raises(TemplateError) as caught:
        parse(text.replace(before, after, 1), "mine.toml")
    assert "template mine.toml, field '" in str(caught.value)
    assert problem in str(caught.value)
    assert f"{key}'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("id = ", "template mine.toml is not TOML"),
        ('colour = "red"\n' + _text(), r"template mine.toml: extra fields found \(colour\)"),
        (_text().replace("title = ", "title = 3 #", 1), "template mine.toml: .*expected str"),
        ("", "template mine.toml: required field missing @ .*id"),
    ],
)
def test_a_broken_document_is_refused_with_its_file(text: str, problem: str) -> None:
    with pytest.raises(TemplateError, match=problem):
        parse(text, "mine.toml")
