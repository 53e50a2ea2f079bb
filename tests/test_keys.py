"""What a run holds of a record besides its artifacts: an index within MLflow's limits, never a cut value."""

from __future__ import annotations

import json
from dataclasses import replace

import mlflow.utils.validation as mlflow_rules
import pytest

from mlflow_aifsm.catalogue import CATALOGUE
from mlflow_aifsm.digests import sha256_bytes
from mlflow_aifsm.facts import Fact, Facts, State, Value, captured, measured, not_applicable
from mlflow_aifsm.fill import fill
from mlflow_aifsm.record import Record, Status, VerificationResult
from mlflow_aifsm.template import LOGS, load
from mlflow_aifsm.tracking import keys

IDENTITY = (
    "template",
    "log_id",
    "date",
    "responsible",
    "phase",
    "input_id",
    "status",
    "record_sha256",
    "input_sha256",
    "output_sha256",
)
DIGEST = "d" * 64


def record(log: str, *changed: Fact) -> Record:
    """A log that answers every field with a short form, ``changed`` laid over it."""
    template = load(log)
    whole = [
        measured(row.fact, f"The {row.label}, in a sentence.", source="model.onnx", short=f"short {row.fact}")
        for row in template.fields
    ]
    entries = fill(template, Facts().with_facts([*whole, *changed]))
    return Record(
        template, f"digits_3-{template.code}-1", "run", "now", "tool", entries, input_sha256="1" * 64, output_sha256="2" * 64
    )


def index(made: Record) -> keys.Index:
    return keys.index(made, made.status, DIGEST)


@pytest.mark.parametrize("log", LOGS)
def test_the_tags_are_the_identity_and_state_of_the_log_and_nothing_else(log: str) -> None:
    made = record(log)
    tags = index(made).tags
    assert set(tags) == {f"aifsm.{log}.{name}" for name in IDENTITY}
    said = {
        name: tags[f"aifsm.{log}.{name}"] for name in ("template", "status", "record_sha256", "input_sha256", "output_sha256")
    }
    template = "PhIMT0002 v1.0" if log == "conversion" else "Model Optimization Log v1.0"
    expected = {
        "template": template,
        "status": "complete",
        "record_sha256": DIGEST,
        "input_sha256": "1" * 64,
        "output_sha256": "2" * 64,
    }
    assert said == expected


JUDGED = VerificationResult(
    passed=True, criterion="exact", data="held out", data_sha256="3" * 64, runtime="ONNX Runtime 1.31.1, CPUExecutionProvider"
)
HOST = {"processor": "AMD EPYC", "machine": "x86_64", "cores": {"usable": 2}, "system": "Linux"}


@pytest.mark.parametrize("log", LOGS)
def test_what_two_logs_are_compared_by_stands_in_tags_of_its_own(log: str) -> None:
    host = captured("environment.host", "Linux, AMD EPYC", HOST, source="host")
    tags = index(replace(record(log, host), verification=JUDGED)).tags
    assert {name: tags[f"aifsm.{log}.{name}"] for name in ("verification", "data", "data_sha256", "runtime", "host")} == {
        "verification": "verified on this host",
        "data": "held out",
        "data_sha256": "3" * 64,
        "runtime": "ONNX Runtime 1.31.1, CPUExecutionProvider",
        "host": "AMD EPYC, 2 cores, Linux x86_64",
    }


@pytest.mark.parametrize("data", [None, "Linux", {"processor": "AMD"}, {**HOST, "cores": None}])
def test_a_host_that_is_not_described_has_no_tag(data: object) -> None:
    tags = index(record("conversion", captured("environment.host", "somewhere", data, source="host"))).tags
    assert "aifsm.conversion.host" not in tags


def test_a_processor_without_a_name_is_told_by_its_kind() -> None:
    nameless = {**HOST, "processor": "", "cores": {"usable": 1}}
    tags = index(record("conversion", captured("environment.host", "somewhere", nameless, source="host"))).tags
    assert tags["aifsm.conversion.host"] == "x86_64, 1 core, Linux x86_64"


def test_a_name_of_data_that_mlflow_would_cut_becomes_a_form_that_names_the_record() -> None:
    tags = index(replace(record("conversion"), verification=replace(JUDGED, data="x" * 9000))).tags
    assert tags["aifsm.conversion.data"].endswith("see aifsm/conversion/record.json")


def test_the_numbers_of_a_log_are_one_tag_that_holds_them_exactly() -> None:
    metrics = {"aifsm.size": 24857.0, "aifsm.accuracy": 0.93158953722334, "aifsm.max_diff": 4.76837158203125e-06}
    told = json.loads(keys.numbers(metrics))
    assert {f"aifsm.{name}": value for name, value in told.items()} == metrics
    assert keys.numbers({}) == "{}"


def test_the_status_of_the_reader_is_the_one_in_the_tag() -> None:
    made = record("conversion")
    assert keys.index(made, Status.INTEGRITY_BROKEN, DIGEST).tags["aifsm.conversion.status"] == "integrity broken"


def test_what_is_not_known_has_no_tag() -> None:
    template = load("conversion")
    empty = Record(template, "", "", "", "", fill(template, Facts()))
    assert set(index(empty).tags) == {"aifsm.conversion.template", "aifsm.conversion.status", "aifsm.conversion.record_sha256"}


@pytest.mark.parametrize("log", LOGS)
def test_every_row_stands_where_its_definition_says_in_its_short_form(log: str) -> None:
    made = record(log)
    held = index(made)
    for row in made.template.fields:
        expected = f"short {row.fact}"
        assert keys.indexed_value(made, row) == expected
        if row.log_as == "param":
            assert held.params[row.key] == expected
        elif row.log_as == "metric":
            assert CATALOGUE[row.fact].metric == row.key
        elif row.key != f"aifsm.{log}.log_id":
            assert held.tags[row.key] == expected
    assert set(held.params) == {row.key for row in made.template.fields if row.log_as == "param"}


def test_a_field_that_is_not_recorded_has_no_param_so_that_it_can_be_declared_later() -> None:
    template = load("conversion")
    entries = fill(template, Facts().with_facts([measured("graph.dropout", "none", 0, source="f", short="none")]))
    made = Record(template, "id", "run", "now", "tool", entries)
    assert index(made).params == {"aifsm.elimination.dropout": "none"}
    assert keys.indexed_value(made, template.field("framework")) is None


def test_a_field_that_does_not_apply_says_so() -> None:
    made = record("optimization", not_applicable("pruning.patterns", "0 of 5,530 weights are zero", 0, source="f"))
    assert index(made).params["aifsm.pruning.patterns"] == "not applicable"


def test_the_limits_are_those_of_mlflow() -> None:
    assert keys.PARAM_LIMIT <= mlflow_rules.MAX_PARAM_VAL_LENGTH
    assert keys.TAG_LIMIT <= mlflow_rules.MAX_TAG_VAL_LENGTH


@pytest.mark.parametrize("length", [6001, 7000, 100_000])
def test_a_value_that_mlflow_would_cut_becomes_a_form_that_names_the_record(length: int) -> None:
    text = "".join(chr(97 + number % 26) for number in range(length))
    value = index(record("conversion", captured("converter.call", text, source="call"))).params["aifsm.conversion.converter"]
    assert value == f"{length} characters, sha256 {sha256_bytes(text.encode())}, see aifsm/conversion/record.json"
    assert len(value) < keys.PARAM_LIMIT
    assert not text.startswith(value[:20])


@pytest.mark.parametrize("letter", ["x", "é", "😀"])
def test_a_value_of_exactly_the_limit_is_kept_whole(letter: str) -> None:
    assert keys.fitting(letter * 6000, 6000, "conversion") == letter * 6000
    assert keys.fitting(letter * 6001, 6000, "conversion").endswith("see aifsm/conversion/record.json")


def test_two_long_values_that_differ_at_the_end_have_different_forms() -> None:
    one, two = (keys.fitting("x" * 9000 + end, 6000, "conversion") for end in "ab")
    assert one != two


@pytest.mark.parametrize("text", ["name \udcff.onnx", "\ud800", "\ud800" * 3000])
def test_what_no_database_takes_is_escaped(text: str) -> None:
    value = keys.fitting(text, 6000, "conversion")
    assert value.encode("utf-8")
    assert len(value) <= 6000
    assert value == text.encode("utf-8", "backslashreplace").decode() or value.startswith("3000 characters")


@pytest.mark.parametrize("log", LOGS)
def test_mlflow_accepts_every_key_and_value(log: str) -> None:
    long = measured("graph.size", "x" * 20_000, 3, source="f")
    wide = [replace(long, name=row.fact, state=State.CAPTURED, value=Value("y" * 20_000)) for row in load(log).fields]
    held = index(record(log, *wide))
    for key, value in held.params.items():
        mlflow_rules._validate_param(key, value)  # type: ignore[no-untyped-call]
        assert len(value) <= mlflow_rules.MAX_PARAM_VAL_LENGTH
    for key, value in held.tags.items():
        mlflow_rules._validate_tag(key, value)  # type: ignore[no-untyped-call]
        assert len(value) <= mlflow_rules.MAX_TAG_VAL_LENGTH
    for kind in CATALOGUE.values():
        if kind.metric:
            mlflow_rules._validate_metric_name(kind.metric)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("log", LOGS)
def test_all_keys_are_ours(log: str) -> None:
    held = index(record(log))
    assert all(key.startswith("aifsm.") for key in (*held.params, *held.tags))
    assert keys.folder(log) == f"aifsm/{log}"
    assert keys.STEP == {"conversion": 0, "optimization": 1}
