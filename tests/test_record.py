"""A record survives JSON whole: value, type, order and digest; what is no record is refused with the place that is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlflow_aifsm.codec import dumps, loads, structure, unstructure
from mlflow_aifsm.errors import RecordError
from mlflow_aifsm.facts import Value
from mlflow_aifsm.record import Declaration, Record, VerificationResult
from tests.golden import golden_record
from tests.strategies import data, records, texts

GOLDEN = Path(__file__).parent / "data" / "record-v1.json"
KEY = "aifsm.conversion.date"
WHOLE = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def typed(value: Any) -> Any:
    """``value`` with the type of each of its parts beside it, because 1 == 1.0 == True and "measured" == State.MEASURED."""
    if is_dataclass(value):
        return type(value), [(part.name, typed(getattr(value, part.name))) for part in fields(value)]
    if isinstance(value, dict):
        return dict, {key: typed(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return type(value), [typed(part) for part in value]
    return type(value), repr(value)


def reordered(value: Any) -> Any:
    """The same content with the keys of each mapping in another order."""
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{part.name: reordered(getattr(value, part.name)) for part in fields(value)})
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return type(value)(reordered(part) for part in value) if isinstance(value, tuple | list) else value


@WHOLE
@given(records())
def test_any_record_survives_json_with_the_type_of_every_part(record: Record) -> None:
    again = Record.from_json(record.to_json())
    assert again == record
    assert typed(again) == typed(record)
    assert again.to_json() == record.to_json()


@WHOLE
@given(records())
def test_bytes_and_digest_do_not_depend_on_the_order_in_which_mappings_were_filled(record: Record) -> None:
    other = reordered(record)
    assert other == record
    assert (other.to_json(), other.sha256) == (record.to_json(), record.sha256)


@settings(deadline=None)
@given(data, texts)
def test_data_and_text_that_differ_in_json_give_other_bytes(content: Any, text: str) -> None:
    value, other = Value(text, content), Value(text + "x", [content])
    assert dumps(unstructure(value)) != dumps(unstructure(other))
    assert loads(dumps(unstructure(value))) == unstructure(value)


def test_bytes_do_not_depend_on_the_seed_of_hashes() -> None:
    code = "from tests.golden import golden_record; print(golden_record().sha256)"
    root = Path(__file__).parents[1]
    seeds = ("0", "1", "4242")
    calls = [[sys.executable, "-c", code] for _ in seeds]
    printed = {
        subprocess.run(call, env={"PYTHONHASHSEED": seed}, cwd=root, check=True, capture_output=True, text=True).stdout.strip()
        for call, seed in zip(calls, seeds, strict=True)
    }
    assert printed == {golden_record().sha256}


def test_a_lone_surrogate_survives_and_a_pair_is_read_as_the_character_it_stands_for() -> None:
    record = golden_record()
    for lone in ("\ud83d", "\ude00", "\ude00\ud83d", "name \udcff.onnx"):
        assert Record.from_json(replace(record, subject=lone).to_json()).subject == lone
    pair = Record.from_json(replace(record, subject="\ud83d\ude00").to_json())
    assert pair.subject == "😀"
    assert replace(record, subject=r"\ud83d").to_json() != replace(record, subject="\ud83d").to_json()


def test_numbers_of_a_verification_are_plain_json_and_epsilon_is_always_a_float() -> None:
    result = VerificationResult(True, "exact", epsilon=0, numbers={"sqnr_db": float("inf"), "worst": (1, float("nan"))})
    assert result.numbers == {"sqnr_db": "inf", "worst": [1, "nan"]}
    assert repr(result.epsilon) == "0.0"
    record = replace(golden_record(), verification=result)
    assert Record.from_json(record.to_json()).sha256 == record.sha256


def test_the_golden_record_of_schema_1_stays_readable_and_gives_the_same_bytes() -> None:
    stored = GOLDEN.read_bytes()
    record = Record.from_json(stored)
    assert record == golden_record()
    assert record.to_json() == stored
    assert Record.from_json(stored.decode("utf-8")) == record


def test_a_record_of_a_newer_schema_names_both_versions_and_the_upgrade() -> None:
    content = {**json.loads(GOLDEN.read_bytes()), "schema_version": 7, "invented": [1]}
    with pytest.raises(RecordError) as caught:
        Record.from_json(json.dumps(content))
    assert caught.value.exit_code == 1
    for said in ("schema_version 7", "at most 1", "pip install --upgrade mlflow-aifsm"):
        assert said in str(caught.value)


@pytest.mark.parametrize("damaged", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, GOLDEN.read_bytes()[:-20], b"%PDF"])
def test_what_is_no_json_is_refused_with_what_to_do(damaged: bytes) -> None:
    with pytest.raises(RecordError, match=r"not JSON: .*restore the file"):
        Record.from_json(damaged)


@pytest.mark.parametrize("content", ["[]", "null", "1", '"text"', "true"])
def test_json_that_is_no_object_is_no_record(content: str) -> None:
    with pytest.raises(RecordError, match="the record is no JSON object; got "):
        Record.from_json(content)


def _put(*path: Any) -> Callable[[Any], None]:
    *places, last, value = path

    def change(content: Any) -> None:
        for place in places:
            content = content[place]
        content[last] = value

    return change


_FACT = {"name": "nobody.knows", "state": "measured", "value": {"text": ""}, "source": {"origin": ""}}
WRONG: list[tuple[Callable[[Any], Any], str]] = [
    (lambda content: content.pop("log_id"), "required field missing @ $.log_id"),
    (lambda content: content["entries"][KEY].pop("source"), f"required field missing @ $.entries['{KEY}'].source"),
    (_put("surprise", 1), "extra fields found (surprise) @ $"),
    (_put("entries", KEY, "surprise", 1), f"extra fields found (surprise) @ $.entries['{KEY}']"),
    (_put("entries", KEY, "state", "guessed"), f"expected State @ $.entries['{KEY}'].state"),
    (_put("entries", KEY, "value", "text", 3), f"expected str @ $.entries['{KEY}'].value.text"),
    (_put("entries", KEY, None), f"expected Entry @ $.entries['{KEY}']"),
    (_put("entries", KEY, "findings", [{"code": "c", "open": "yes"}]), f"@ $.entries['{KEY}'].findings[0].open"),
    (
        _put("entries", KEY, "beside", [_FACT]),
        f"fact 'nobody.knows'; expected a name of catalogue.CATALOGUE.) @ $.entries['{KEY}']",
    ),
    (_put("entries", []), "expected a mapping @ $.entries"),
    (_put("notes", "text"), "expected tuple @ $.notes"),
    (_put("cover", {"project": 1}), "expected str @ $.cover['project']"),
    (_put("verification", "passed", 1), "expected bool @ $.verification.passed"),
    (_put("verification", "epsilon", "1e-3"), "@ $.verification.epsilon"),
    (_put("verification", "epsilon", True), "@ $.verification.epsilon"),
    (_put("verification", "samples", 1.5), "expected int @ $.verification.samples"),
    (_put("template", "acronyms", ["AB"]), "@ $.template.acronyms[0]"),
    (_put("template", "acronyms", [["A"]]), "@ $.template.acronyms[0]"),
    (_put("template", "sections", {}), "@ $.template.sections"),
    (_put("output_files", [{"path": "a", "size": "1", "sha256": ""}]), "expected int @ $.output_files[0].size"),
    (_put("schema_version", True), "expected int @ $.schema_version"),
    (_put("schema_version", 0), "entries are not the fields of its template"),
    (lambda content: content["entries"].pop(KEY), "entries are not the fields of its template"),
    (_put("entries", "aifsm.other", {"state": "measured", "value": {"text": ""}, "source": {"origin": ""}}), "not the fields"),
]


@pytest.mark.parametrize(("change", "place"), WRONG, ids=[place for _, place in WRONG])
def test_what_does_not_fit_is_refused_and_the_place_is_named(change: Callable[[Any], Any], place: str) -> None:
    content = json.loads(GOLDEN.read_bytes())
    change(content)
    with pytest.raises(RecordError) as caught:
        Record.from_json(json.dumps(content))
    assert place in str(caught.value)


@given(st.builds(Declaration, texts, texts, texts, texts))
def test_declarations_survive_json(said: Declaration) -> None:
    assert structure(loads(dumps(unstructure(said))), Declaration, "declaration") == said


def test_what_has_no_json_form_is_an_error_of_ours() -> None:
    with pytest.raises(RecordError, match="no JSON form"):
        dumps({"epsilon": float("nan")})
    with pytest.raises(RecordError, match="no JSON form"):
        dumps({"file": Path("a")})
