"""What a log says about the tool that made it: its version, its files, and the validation record of this environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlflow_aifsm.capture import tool_validation
from mlflow_aifsm.digests import sha256_file

HOST = {
    "system": "Linux",
    "machine": "x86_64",
    "processor": "a",
    "vector_flags": ["avx2"],
    "python": "3.11.2",
    "implementation": "CPython",
}
PACKAGES = {"torch": "2.13.0"}


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the record of this environment belongs; it is not there yet."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    place = tool_validation.record_path(tool_validation.environment_digest(HOST, PACKAGES))
    assert tmp_path in place.parents
    return place


def test_without_record_the_note_says_so_and_how_to_make_one(record: Path) -> None:
    note = tool_validation.note(HOST, PACKAGES)
    assert note.startswith(f"Tool {tool_validation.tool()}, files sha256 ")
    assert tool_validation.is_note(note, tool_validation.tool())
    assert not tool_validation.is_note(note, f"{tool_validation.tool()}1")
    assert "there is no validation record of this environment; mlflow-aifsm validate-tool makes one" in note


@pytest.mark.parametrize("verdict", ["passed", "failed"])
def test_a_record_is_named_with_digest_day_verdict_and_summary(record: Path, verdict: str) -> None:
    record.parent.mkdir(parents=True)
    record.write_text(
        json.dumps({"verdict": verdict, "made_at": "2026-11-21T10:00:00+01:00", "summary": "21 of 21 faults caught"})
    )
    note = tool_validation.note(HOST, PACKAGES)
    assert f"validation {verdict} on 2026-11-21, 21 of 21 faults caught, made in this environment" in note
    assert note.endswith(f"validation record sha256 {sha256_file(record)}.")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"verdict": "passed", "made_at": 3, "summary": ""}'])
def test_a_damaged_record_is_not_taken_for_one(record: Path, content: str) -> None:
    record.parent.mkdir(parents=True)
    record.write_text(content)
    assert "the validation record of this environment cannot be read" in tool_validation.note(HOST, PACKAGES)


@pytest.mark.parametrize("change", [{"processor": "b"}, {"vector_flags": []}, {"python": "3.12.0"}])
def test_another_host_or_package_is_another_environment(change: dict[str, object]) -> None:
    here = tool_validation.environment_digest(HOST, PACKAGES)
    assert here == tool_validation.environment_digest({**HOST, "memory": 1}, dict(PACKAGES))
    assert here != tool_validation.environment_digest({**HOST, **change}, PACKAGES)
    assert here != tool_validation.environment_digest(HOST, {"torch": "2.12.0"})


def test_another_tool_is_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    here = tool_validation.environment_digest(HOST, PACKAGES)
    monkeypatch.setattr(tool_validation, "tool_digest", lambda: "0" * 64)
    assert here != tool_validation.environment_digest(HOST, PACKAGES)
