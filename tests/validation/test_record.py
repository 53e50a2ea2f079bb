"""The record of a validation: it passes only if everything did, and says what was found in HTML and JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mlflow_aifsm.report import markdown
from mlflow_aifsm.validation import runner, terminal
from mlflow_aifsm.validation.record import Outcome, ValidationRecord
from mlflow_aifsm.validation.report import document, page

CAUGHT = Outcome(
    "weights",
    "NaN <weight>",
    "One is NaN.",
    "a source",
    "verification failed",
    ("it failed",),
    True,
    "2026-11-21T10:00:00+01:00",
    1.25,
)
MISSED = replace(CAUGHT, name="flipped bit", found=(), passed=False)
GOOD = replace(CAUGHT, group="good models", name="residual", source="", found=())
RECORD = ValidationRecord(
    tool="mlflow-aifsm 9.9.9",
    tool_sha256="1" * 64,
    manual="docs/manual.md",
    made_at="2026-11-21T10:00:00+01:00",
    seconds=61.5,
    environment_sha256="2" * 64,
    host={"system": "Linux", "vector_flags": ["avx2", "avx512f"]},
    packages={"torch": "2.13.0"},
    faults=(CAUGHT,),
    good_models=(GOOD,),
)


@pytest.mark.parametrize(
    ("faults", "good", "passed", "summary"),
    [
        ((CAUGHT,), (GOOD,), True, "1 of 1 faults caught · 1 of 1 good models not accused"),
        ((CAUGHT, MISSED), (GOOD,), False, "1 of 2 faults caught · 1 of 1 good models not accused"),
        ((CAUGHT,), (replace(GOOD, passed=False),), False, "1 of 1 faults caught · 0 of 1 good models not accused"),
        ((), (GOOD,), False, "0 of 0 faults caught · 1 of 1 good models not accused"),
        ((CAUGHT,), (), False, "1 of 1 faults caught · 0 of 0 good models not accused"),
    ],
)
def test_a_validation_passes_only_if_every_trial_did_and_there_were_some(
    faults: tuple[Outcome, ...], good: tuple[Outcome, ...], passed: bool, summary: str
) -> None:
    record = replace(RECORD, faults=faults, good_models=good)
    assert (record.passed, record.summary) == (passed, summary)
    assert json.loads(record.to_json())["verdict"] == ("passed" if passed else "failed")


def test_the_page_shows_every_trial_with_what_was_injected_expected_and_found_and_escapes_it() -> None:
    shown = page(replace(RECORD, faults=(CAUGHT, MISSED))).decode()
    for words in (
        "Failed",
        "NaN &lt;weight&gt;",
        "One is NaN.",
        "a source",
        "it failed",
        "flipped bit",
        "10:00:00, 1.2 s",
        "2.13.0",
        "2" * 64,
    ):
        assert words.lower() in shown.lower(), words
    assert "<weight>" not in shown


def test_the_same_record_gives_the_same_bytes_in_every_format() -> None:
    assert page(RECORD) == page(RECORD)
    assert b"residual" in markdown.render(document(RECORD))
    assert RECORD.to_json() == RECORD.to_json()


def test_the_terminal_names_what_was_missed(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.told(replace(RECORD, faults=(CAUGHT, MISSED)))
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if "MISSED" in line).startswith("flipped bit")
    assert sum("caught" in line for line in lines) == 1


def test_every_fault_says_what_is_injected_where_it_is_known_from_and_what_must_be_found() -> None:
    faults = [one for _, one in runner.trials(runner.FAULTS)]
    assert len({one.name for one in faults}) == len(faults)
    for one in faults:
        assert one.about.endswith("."), one.name
        assert one.source, one.name
        assert one.expected is not None, one.name
        assert one.expected.words, one.name
    assert all(one.expected is None for _, one in runner.trials(runner.GOOD))
