"""Settings come from the nearest aifsm.toml and from the environment, and a wrong one is said at once."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from mlflow_aifsm.config import PREFIX, SETTINGS, Config, load
from mlflow_aifsm.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "aifsm.toml").write_text(text, "utf-8")
    return folder


def test_without_file_and_variables_all_settings_are_their_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, {"PATH": "/bin", "MLFLOW_TRACKING_URI": "x"}) == Config()


def test_the_nearest_file_at_or_above_the_folder_holds_and_no_other_is_mixed_in(tmp_path: Path) -> None:
    written(tmp_path, 'project = "outer"\nrev = "A"')
    inner = written(tmp_path / "team" / "model", 'project = "inner"')
    below = inner / "src" / "deep"
    below.mkdir(parents=True)
    for start in (inner, below):
        config = load(start, {})
        assert (config.project, config.rev) == ("inner", "")
        assert config.origins == {"project": str(inner / "aifsm.toml")}
    assert load(tmp_path / "team", {}).project == "outer"


def test_the_working_folder_is_where_the_search_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(written(tmp_path, 'responsible = "Ä. Itō"'))
    assert load(environ={}).responsible == "Ä. Itō"
    monkeypatch.setenv(PREFIX + "RESPONSIBLE", "B. Kim")
    assert load().responsible == "B. Kim"


def test_a_variable_beats_the_file_and_is_named_as_the_origin(tmp_path: Path) -> None:
    written(tmp_path, 'project = "file"\nrev = "A"')
    config = load(tmp_path, {"MLFLOW_AIFSM_PROJECT": "variable"})
    assert (config.project, config.rev) == ("variable", "A")
    assert config.origins == {"project": "MLFLOW_AIFSM_PROJECT", "rev": str(tmp_path / "aifsm.toml")}


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("organization", "organisation"), ("responsable", "responsible"), ("document_id", "document_id_conversion")],
)
def test_an_unknown_setting_names_its_origin_and_the_nearest_known_one(tmp_path: Path, name: str, nearest: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, f'{name} = "x"'), {})
    assert f"unknown setting '{name}' in {tmp_path / 'aifsm.toml'}" in str(caught.value)
    assert f"'{nearest}'" in str(caught.value)
    assert caught.value.exit_code == 2
    with pytest.raises(
        ConfigError, match=f"unknown setting '{name}' in {PREFIX}{name.upper()}; the nearest known one is '{nearest}'"
    ):
        load(environ={PREFIX + name.upper(): "x"})


def test_where_a_setting_came_from_is_not_a_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown setting 'origins'"):
        load(written(tmp_path, "[origins]\nproject = 'x'"), {})


@pytest.mark.parametrize(
    "line", ["project = 3", 'project = ["a"]', "quiet = 1", 'quiet = "perhaps"', "spool = false", "rev = 2026-11-21"]
)
def test_a_setting_of_the_wrong_type_is_refused_with_what_was_expected(tmp_path: Path, line: str) -> None:
    name = line.split(" ", 1)[0]
    kind = "bool" if name == "quiet" else "str"
    with pytest.raises(ConfigError, match=f"setting '{name}' in .*aifsm.toml; got .*; expected a {kind}"):
        load(written(tmp_path, line), {})


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", True), ("true", True), ("YES", True), ("0", False), ("False", False), ("no", False), ("", False)],
)
def test_words_for_yes_and_no_in_a_variable(tmp_path: Path, text: str, value: bool) -> None:
    assert load(tmp_path, {"MLFLOW_AIFSM_QUIET": text}).quiet is value


def test_a_word_that_is_neither_yes_nor_no_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"setting 'quiet' in MLFLOW_AIFSM_QUIET; got 'loud'; expected a bool"):
        load(tmp_path, {"MLFLOW_AIFSM_QUIET": "loud"})


def test_a_pattern_that_does_not_compile_is_refused_with_its_origin(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"id_pattern in .*aifsm.toml: .*; got \[A-Z"):
        load(written(tmp_path, 'id_pattern = "[A-Z"'), {})
    assert load(written(tmp_path, 'id_pattern = "[A-Z]{3}-[0-9]+"'), {}).id_pattern == "[A-Z]{3}-[0-9]+"


@pytest.mark.parametrize("content", [b"project = ", b"\xff\xfe", b"project = 'a'\nproject = 'b'"])
def test_a_file_that_is_no_toml_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "aifsm.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path / 'aifsm.toml'} is not TOML")):
        load(tmp_path, {})


def test_a_folder_of_that_name_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "aifsm.toml").mkdir()
    assert load(tmp_path, {}) == Config()


def test_the_cover_of_a_log_prints_what_is_set_and_the_document_id_of_its_own_kind() -> None:
    config = Config(project="Kerbside", rev="B", document_id_conversion="KDR-3", responsible="A. Ito")
    assert config.cover_of("conversion") == {"project": "Kerbside", "rev": "B", "document_id": "KDR-3"}
    assert config.cover_of("optimization") == {"project": "Kerbside", "rev": "B"}
    assert Config().cover_of("conversion") == {}


def test_every_setting_has_a_default_and_is_described() -> None:
    assert set(SETTINGS) == {part.name for part in fields(Config)} - {"origins"}
    assert all(f"        {name}: " in str(Config.__doc__) for name in SETTINGS)


def test_the_variable_that_the_command_line_names_is_a_setting(tmp_path: Path) -> None:
    assert load(tmp_path, {"MLFLOW_AIFSM_TRACEBACK": "1"}).traceback is True
