"""The command line explains itself, and an error is one line with what to do and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_aifsm.cli.main import COMMANDS, main

CONSOLE_SCRIPT = Path(sys.executable).with_name("mlflow-aifsm")
UNKNOWN_RUN = "0" * 32


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment without what would point MLflow or this package anywhere."""
    pointing = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_AIFSM_TRACEBACK")
    return {name: value for name, value in os.environ.items() if name not in pointing}


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of the entry point in this process."""
    monkeypatch.setattr(sys, "argv", ["mlflow-aifsm", *arguments])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_shows_usage_and_examples(
    command: list[str], option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, *command, option) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Usage: ")
    examples = shown.partition("Examples:\n")[2]
    assert f"mlflow-aifsm {' '.join(command)}".rstrip() in examples.splitlines()[0]


def test_help_of_the_group_lists_every_command_with_a_summary_and_the_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called(monkeypatch, "--help")
    shown = capsys.readouterr().out
    listed = dict(line.strip().split(maxsplit=1) for line in shown.partition("Commands:\n")[2].splitlines() if line.strip())
    assert {name for name in listed if name in COMMANDS} == set(COMMANDS)
    assert "Exit codes: 0 all well · 1 the tool failed · 2 usage · 3 fields unanswered · 4 open findings" in shown


@pytest.mark.parametrize("name", ["inspect", "report", "check", "declare", "templates", "validate-tool"])
def test_the_summary_of_a_command_is_whole_in_a_narrow_terminal(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    called(monkeypatch, "--help")
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(f"  {name} "))
    assert line.endswith(".")
    assert not line.endswith("...")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--colour"],
        ["report", "--colour"],
        ["templates", "--log", "training"],
        ["paint"],
        ["report"],
        ["declare", "x", "--by", "y"],
    ],
)
def test_wrong_usage_is_two_with_usage_and_reason_and_no_traceback(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = [line for line in printed.err.splitlines() if line]
    assert sum(line.startswith("Usage: ") for line in lines) == 1
    assert lines[-1].startswith("Error: ")
    assert "Traceback" not in printed.err


def test_a_value_without_key_is_wrong_usage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(monkeypatch, "declare", UNKNOWN_RUN, "A. Ito", "--by", "A. Ito") == 2
    assert "write KEY=VALUE" in capsys.readouterr().err


def test_an_unknown_format_is_said_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "report", UNKNOWN_RUN, "--format", "rtf") == 2
    assert capsys.readouterr().err == "mlflow-aifsm: report format 'rtf'; expected html, pdf, docx, md, json.\n"


@pytest.mark.parametrize("command", [["report"], ["check"], ["declare", "responsible=A. Ito", "--by", "A. Ito"]])
def test_a_database_that_is_not_there_is_one_line_with_the_remedy_and_stays_not_there(
    command: list[str], tmp_path: Path, environment: dict[str, str]
) -> None:
    name, *rest = command
    for uri, said in (("sqlite:////nonexistent/x.db", "sqlite:////nonexistent/x.db"), (None, "mlflow.db")):
        settings = environment | ({"MLFLOW_TRACKING_URI": uri} if uri else {})
        done = subprocess.run(
            [CONSOLE_SCRIPT, name, UNKNOWN_RUN, *rest], env=settings, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1, done.stderr
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("mlflow-aifsm: there is no database at ")
        assert said in line
        assert line.endswith("or set MLFLOW_TRACKING_URI.")
    assert list(tmp_path.iterdir()) == []


CRASH = """
import sys, mlflow_aifsm.cli.main as command_line
sys.argv = ["mlflow-aifsm", "templates"]
command_line.COMMANDS["templates"] = "no.such.module"
command_line.main()
"""


@pytest.mark.parametrize(("wanted", "shown"), [("", False), ("0", False), ("1", True)])
def test_an_error_nobody_expected_is_one_line_and_its_traceback_is_there_for_the_asking(
    wanted: str, shown: bool, tmp_path: Path, environment: dict[str, str]
) -> None:
    settings = environment | {"MLFLOW_AIFSM_TRACEBACK": wanted}
    call = [sys.executable, "-c", CRASH]
    done = subprocess.run(call, env=settings, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert ("Traceback" in done.stderr) is shown
    if not shown:
        said = "mlflow-aifsm: ModuleNotFoundError: No module named 'no'; set MLFLOW_AIFSM_TRACEBACK=1 to see where.\n"
        assert done.stderr == said
