"""``check --config``: each setting in force, with its value and where it came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlflow_aifsm.config import PREFIX, SETTINGS
from tests.command import command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder below the one with its settings; nothing is set by the environment but one thing."""
    for name in SETTINGS:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)
    (tmp_path / "aifsm.toml").write_text('project = "Level crossing"\nrev = "A"\nquiet = true\n', "utf-8")
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path / "model")
    monkeypatch.setenv("MLFLOW_AIFSM_REV", "B")
    return tmp_path


def test_each_setting_stands_with_its_value_and_its_origin(folder: Path) -> None:
    done = command("check", "--config")
    assert (done.code, done.err) == (0, "")
    first, head, *rows = done.out.splitlines()
    assert first == str(folder / "aifsm.toml")
    assert head.split() == ["setting", "value", "from"]
    shown = {row.split()[0]: " ".join(row.split()[1:]) for row in rows}
    assert set(shown) == set(SETTINGS)
    assert shown["project"] == "Level crossing aifsm.toml"
    assert shown["rev"] == "B MLFLOW_AIFSM_REV"
    assert shown["quiet"] == "true aifsm.toml"
    assert shown["ref"] == "not set default"
    assert shown["spool"] == "aifsm-spool default"


def test_the_same_as_json_has_types_and_whole_paths(folder: Path) -> None:
    found = json.loads(command("check", "--config", "--json").out)
    file = str(folder / "aifsm.toml")
    assert found["file"] == file
    assert set(found["settings"]) == set(SETTINGS)
    assert found["settings"]["quiet"] == {"value": True, "origin": file}
    assert found["settings"]["rev"] == {"value": "B", "origin": "MLFLOW_AIFSM_REV"}
    assert found["settings"]["ref"] == {"value": "", "origin": "default"}


def test_without_a_file_it_says_where_it_looked(folder: Path) -> None:
    (folder / "aifsm.toml").unlink()
    assert command("check", "--config").out.splitlines()[0] == f"no aifsm.toml at or above {folder / 'model'}"
    assert json.loads(command("check", "--config", "--json").out)["file"] is None


def test_an_unknown_setting_is_one_line_with_the_nearest_known_one(folder: Path) -> None:
    (folder / "aifsm.toml").write_text('organization = "Example Rail"', "utf-8")
    done = command("check", "--config")
    assert (done.code, done.out) == (2, "")
    said = f"unknown setting 'organization' in {folder / 'aifsm.toml'}; the nearest known one is 'organisation'."
    assert done.err == f"mlflow-aifsm: {said}\n"


@pytest.mark.parametrize("more", [["0" * 32], ["--log", "conversion"], ["--reproduce"]])
def test_settings_are_shown_of_no_target(folder: Path, more: list[str]) -> None:
    done = command("check", "--config", *more)
    assert (done.code, done.out) == (2, "")
    assert "leave TARGET, --log and --reproduce out" in done.err


def test_without_target_and_settings_there_is_nothing_to_check(folder: Path) -> None:
    done = command("check")
    assert (done.code, done.out) == (2, "")
    assert "Missing argument 'TARGET'." in done.err
