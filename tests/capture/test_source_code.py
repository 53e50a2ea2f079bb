"""The code that ran, found by real processes in a real git repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlflow_aifsm.capture import source_code as module
from mlflow_aifsm.capture.command import without_credentials
from mlflow_aifsm.capture.source_code import DIFF_LIMIT, Kind, source_code
from mlflow_aifsm.digests import sha256_bytes

SHOW = (
    "import json\nfrom mlflow_aifsm.capture.source_code import source_code\nfound = source_code()\n"
    "fields = ('kind', 'name', 'sha256', 'commit', 'branch', 'remote', 'dirty', 'notes', 'text')\n"
    "print(json.dumps({**{name: getattr(found, name) for name in fields},\n"
    "    'files': {name: content.decode('latin-1') for name, content in found.files().items()}}))\n"
)


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def run(folder: Path, *arguments: str, **variables: str) -> dict[str, Any]:
    root = os.fspath(Path(module.__file__).parents[2])
    surroundings = {**os.environ, "PYTHONPATH": root, "GIT_CEILING_DIRECTORIES": os.fspath(folder.parent), **variables}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=surroundings)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "scripts").mkdir(parents=True)
    git(folder, "init", "--initial-branch", "main")
    git(folder, "remote", "add", "origin", "https://ada:s3cret@example.org/team/project.git")
    (folder / "scripts" / "train.py").write_text(SHOW)
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    return folder


def test_a_committed_script_is_named_with_its_commit(repository: Path) -> None:
    found = run(repository, "scripts/train.py")
    commit = git(repository, "rev-parse", "HEAD")
    assert (found["kind"], found["name"], found["branch"]) == ("script", "scripts/train.py", "main")
    assert (found["commit"], found["dirty"], found["notes"]) == (commit, False, [])
    assert found["remote"] == "https://example.org/team/project.git"
    assert found["files"] == {"source/train.py": SHOW}
    assert found["text"] == f"scripts/train.py (sha256 {sha256_bytes(SHOW.encode())[:12]}…, commit {commit[:12]})"


def test_the_repository_is_that_of_the_script_wherever_it_is_started(repository: Path) -> None:
    found = run(repository.parent, os.fspath(repository / "scripts" / "train.py"))
    assert (found["name"], found["commit"]) == ("scripts/train.py", git(repository, "rev-parse", "HEAD"))


def test_uncommitted_changes_are_kept_as_a_diff(repository: Path) -> None:
    script = repository / "scripts" / "train.py"
    script.write_text(SHOW + "# a late thought\n")
    found = run(repository, "scripts/train.py")
    assert found["dirty"] is True
    assert "+# a late thought" in found["files"]["source/uncommitted.diff"]
    assert found["text"].endswith("uncommitted changes)")


def test_no_path_or_password_of_the_machine_is_recorded(repository: Path) -> None:
    (repository / "new.py").write_text(SHOW)
    found = run(repository, os.fspath(repository / "new.py"))
    assert os.fspath(repository.parent) not in json.dumps(found)
    assert "s3cret" not in json.dumps(found)
    assert "new.py is not under version control" in found["notes"]


def test_a_long_diff_is_capped_and_says_so(repository: Path) -> None:
    data = repository / "data.txt"
    data.write_text("x")
    git(repository, "add", "data.txt")
    data.write_text("".join(f"{number}\n" for number in range(DIFF_LIMIT // 5)))
    diff = run(repository, "scripts/train.py")["files"]["source/uncommitted.diff"]
    assert DIFF_LIMIT < len(diff) < DIFF_LIMIT + 100
    assert diff.rstrip().endswith("bytes are kept.")


def test_a_script_outside_any_repository_says_so(tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text(SHOW)
    found = run(tmp_path, "alone.py")
    assert (found["commit"], found["dirty"], found["notes"]) == ("", None, ["not in a git repository"])
    assert found["text"].endswith("no commit)")


def test_absent_git_is_said_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text(SHOW)
    found = run(tmp_path, "alone.py", PATH=os.fspath(tmp_path))
    assert found["notes"] == ["git is not installed: no commit recorded"]


def test_a_repository_without_commit_is_said(tmp_path: Path) -> None:
    git(tmp_path, "init", "--initial-branch", "main")
    (tmp_path / "first.py").write_text(SHOW)
    found = run(tmp_path, "first.py")
    assert (found["commit"], found["dirty"]) == ("", None)
    assert "the repository has no commit" in found["notes"]


def test_code_given_on_the_command_line_has_no_file(tmp_path: Path) -> None:
    found = run(tmp_path, "-c", SHOW)
    assert (found["kind"], found["sha256"], found["files"]) == ("interactive session", "", {})
    assert found["text"] == "interactive session (no source file, no commit)"


def test_a_script_of_any_encoding_and_name_keeps_its_bytes(tmp_path: Path) -> None:
    content = b"# -*- coding: latin-1 -*-\n# caf\xe9\n" + SHOW.encode()
    script = tmp_path / "odd\nname \\ ä.py"
    script.write_bytes(content)
    found = run(tmp_path, os.fspath(script))
    ((name, kept),) = found["files"].items()
    assert kept.encode("latin-1") == content
    assert name == "source/odd_name _ ä.py"
    assert found["sha256"] == sha256_bytes(content)


def test_a_script_changed_while_it_ran_is_noted(tmp_path: Path) -> None:
    script = tmp_path / "cells.py"
    script.write_text("import os, time\nos.utime(__file__, (time.time() + 60,) * 2)\n" + SHOW)
    found = run(tmp_path, "cells.py")
    assert any("was changed after" in note for note in found["notes"])
    assert found["files"] == {"source/cells.py": script.read_text()}


def test_under_pytest_the_test_file_is_the_source() -> None:
    found = source_code()
    assert found.kind is Kind.TEST
    assert found.name.endswith("test_source_code.py")


@pytest.mark.parametrize(
    ("remote", "public"),
    [
        ("https://user:token@example.org:8443/a/b.git?key=1#x", "https://example.org:8443/a/b.git"),
        ("git@example.org:a/b.git", "example.org:a/b.git"),
        ("ssh://git@example.org/a/b.git", "ssh://example.org/a/b.git"),
        ("/home/ada/b.git", "b.git"),
        ("file:///home/ada/b.git", "b.git"),
        ("C:\\Users\\ada\\b.git", "b.git"),
        ("helper::https://user:token@example.org/a.git", "https://example.org/a.git"),
        ("https://user:to/ken@example.org/a.git", ""),
        ("", ""),
    ],
)
def test_a_remote_is_recorded_without_credentials_and_paths(remote: str, public: str) -> None:
    assert without_credentials(remote) == public
