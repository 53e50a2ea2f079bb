"""``mlflow-aifsm templates`` prints every field of both documents, for people and for machines."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from mlflow_aifsm.cli.main import group
from mlflow_aifsm.codec import structure
from mlflow_aifsm.report.schema import schema
from mlflow_aifsm.template import LOGS, Template, load


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(group, ["templates", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("│")[1:-1]]


def column(text: str, number: int) -> str:
    """All that stands in one column, folded lines joined."""
    return " ".join(" ".join(cells(line)[number] for line in text.splitlines() if line.count("│") > number).split())


def test_each_key_and_label_of_both_documents_stands_on_one_line_in_order() -> None:
    listed = [cells(line) for line in printed().splitlines() if "│" in line]
    found = [tuple(line[:3]) for line in listed if line[0].startswith("aifsm.")]
    rows = [row for log in LOGS for row in load(log).fields]
    assert found == [(row.key, f"… {row.label}" if row.open_row else row.label, row.log_as) for row in rows]


def test_the_heading_counts_the_fields_that_the_template_asks_for() -> None:
    text = printed()
    assert "Model Conversion Log (PhIMT0002 v1.0): 14 fields" in text
    assert "Model Optimization Log (Model Optimization Log v1.0): 23 fields" in text
    for log in LOGS:
        assert all(section.title in column(text, 1) for section in load(log).sections)


def test_what_fills_each_field_is_printed() -> None:
    text = column(printed(), 3)
    assert all(row.filled_by in text for log in LOGS for row in load(log).fields)


@pytest.mark.parametrize("log", LOGS)
def test_one_document_can_be_listed_alone(log: str) -> None:
    text = printed("--log", log)
    other = next(name for name in LOGS if name != log)
    assert load(log).fields[0].key in text
    assert load(other).fields[0].key not in text


def test_as_json_both_documents_are_read_back_whole() -> None:
    content = json.loads(printed("--json"))
    assert [structure(document, Template, "template") for document in content] == [load(log) for log in LOGS]
    assert [document["log"] for document in json.loads(printed("--log", "optimization", "--json"))] == ["optimization"]


def test_the_schema_is_printed_as_it_is_published() -> None:
    assert json.loads(printed("--schema")) == schema()


def test_a_file_without_an_export_is_a_usage_error() -> None:
    assert CliRunner().invoke(group, ["templates", "-o", "company.docx"]).exit_code == 2
