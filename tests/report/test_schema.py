"""The published JSON Schema: it is the code's, real records and reports fit it, and what the reader refuses it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from mlflow_aifsm.codec import dumps
from mlflow_aifsm.errors import RecordError
from mlflow_aifsm.record import Evidence, Record
from mlflow_aifsm.report import formats
from mlflow_aifsm.report.schema import schema
from tests.conftest import REPOSITORY
from tests.golden import golden_record
from tests.report import hostile, samples

PUBLISHED = REPOSITORY / "docs" / "record.schema.json"
GOLDEN = REPOSITORY / "tests" / "data" / "record-v1.json"


def validator(name: str = "Record") -> Draft202012Validator:
    published = json.loads(PUBLISHED.read_text("utf-8"))
    return Draft202012Validator({**published, "$ref": f"#/$defs/{name}"})


def test_the_published_schema_is_that_of_the_code() -> None:
    assert PUBLISHED.read_bytes() == dumps(schema()), "mlflow-aifsm templates --schema > docs/record.schema.json"


def test_it_is_a_schema_and_describes_what_it_names() -> None:
    Draft202012Validator.check_schema(schema())
    record = schema()["$defs"]["Entry"]["properties"]
    assert record["asked"]["description"] == "What was asked for, where that is known."
    assert schema()["$ref"] == "#/$defs/Record"


def test_records_fit_it(evidence: Evidence) -> None:
    validator().validate(json.loads(evidence.record.to_json()))


def test_the_oldest_record_and_a_hostile_one_fit_it() -> None:
    validator().validate(json.loads(GOLDEN.read_text("utf-8")))
    validator().validate(json.loads(golden_record().to_json()))
    validator().validate(json.loads(hostile.evidence("".join(hostile.HOSTILE)).record.to_json()))


def test_json_reports_fit_their_part_of_it(evidence: Evidence) -> None:
    validator("Report").validate(json.loads(formats.write(evidence, "json")))
    for report in json.loads(formats.write_dossier([evidence, evidence], "json")):
        validator("Report").validate(report)


def without(name: str) -> Callable[[Any], object]:
    return lambda content: content.pop(name)


def entry(name: str, value: object) -> Callable[[Any], object]:
    return lambda content: next(iter(content["entries"].values())).__setitem__(name, value)


BROKEN = (
    without("log_id"),
    without("template"),
    entry("state", "guessed"),
    entry("state", None),
    entry("unknown", 1),
    entry("findings", {}),
    entry("value", "text"),
    lambda content: content.__setitem__("input_files", [{"path": "a", "size": "1", "sha256": ""}]),
    lambda content: content["template"].__setitem__("acronyms", [["DL", "Deep Learning", "third"]]),
    lambda content: content.__setitem__("notes", [1]),
)


@pytest.mark.parametrize("breaking", BROKEN, ids=range(len(BROKEN)))
def test_what_the_reader_refuses_it_refuses_too(breaking: Callable[[Any], object]) -> None:
    content = json.loads(samples.optimization_with_findings().record.to_json())
    breaking(content)
    with pytest.raises(ValidationError):
        validator().validate(content)
    with pytest.raises(RecordError):
        Record.from_json(json.dumps(content))
