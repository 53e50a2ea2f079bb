"""The source code that started a conversion: script or notebook, and the state of its git repository.

The bytes are read while the conversion runs and kept whole, whatever their encoding. Names are relative to the repository, so
no path of the machine is recorded. What cannot be found out (no git, no repository, an unsaved notebook) is said in a note.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import psutil

from mlflow_aifsm.capture import command
from mlflow_aifsm.capture.notebook import Session, session
from mlflow_aifsm.digests import sha256_bytes

DIFF_LIMIT = 1_000_000
"""Bytes of uncommitted changes that are kept; a longer diff is cut there, with a sentence that says so."""

_GIT_TIMEOUT = 10.0
_CLOCK_SLACK = 2.0


class Kind(StrEnum):
    """What started the conversion."""

    SCRIPT = "script"
    NOTEBOOK = "notebook"
    INTERACTIVE = "interactive session"
    COMMAND = "command"
    TEST = "test"


_UNSTORED = {Kind.COMMAND: "installed command"}


@dataclass(frozen=True, slots=True)
class SourceCode:
    """The code that ran, and where it stands in its repository.

    Attributes:
        kind: What started the conversion.
        name: Path of the file relative to the repository, or its name; of a command the line as it was typed; else empty.
        content: The file's bytes at the time of the call; empty where there is no file.
        cells: What was typed, where there is an input history, as UTF-8.
        cell: Number of the notebook's cell that ran; None where it is no notebook.
        differs: Whether ``content`` may not be what ran: it was changed since, or lacks cells that ran.
        sha256: SHA-256 of ``content``, or of ``cells`` where there is no file; empty if there is neither.
        commit: Full id of the commit that is checked out.
        branch: Branch that is checked out; empty if detached.
        remote: Address of the repository, without user, password or query.
        dirty: Whether tracked files differ from the commit; None where that is not known.
        diff: What differs, as ``git diff HEAD`` prints it, at most :data:`DIFF_LIMIT` bytes and a closing sentence.
        notes: What could not be found out, one sentence each.
    """

    kind: Kind
    name: str = ""
    content: bytes = field(default=b"", repr=False)
    cells: bytes = field(default=b"", repr=False)
    cell: int | None = None
    differs: bool = False
    sha256: str = ""
    commit: str = ""
    branch: str = ""
    remote: str = ""
    dirty: bool | None = None
    diff: bytes = field(default=b"", repr=False)
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """One line: ``train.py (sha256 1a2b3c4d5e6f…, commit 9f8e7d6c5b4a, uncommitted changes)``; a notebook with its cell."""
        words = (
            f"sha256 {self.sha256[:12]}…" if self.sha256 else _UNSTORED.get(self.kind, "no source file"),
            f"commit {self.commit[:12]}" if self.commit else "no commit",
            "uncommitted changes" if self.dirty else "",
        )
        unnamed = "notebook, path not known" if self.kind is Kind.NOTEBOOK else self.kind
        cell = f", cell [{self.cell}]" if self.cell else ""
        return f"{self.name or unnamed}{cell} ({', '.join(word for word in words if word)})"

    def files(self) -> dict[str, bytes]:
        """What to store: artifact path (``source/…``, one level, safe characters) to bytes."""
        named = ((_safe(self.name), self.content), ("cells.py", self.cells), ("uncommitted.diff", self.diff))
        return {f"source/{name}": content for name, content in named if content}


def source_code() -> SourceCode:
    """The script, notebook or session that is running now, with its repository. Never fails: what is missing is noted."""
    typed = session()
    found, path = _running() if typed is None else _of_session(typed)
    folder = path.parent if path is not None else Path()
    if path is not None:
        found = _with_content(found, path, typed)
    return _with_repository(replace(found, sha256=_digest(found)), folder, path)


def _digest(found: SourceCode) -> str:
    content = found.content or found.cells
    return sha256_bytes(content) if content else ""


def _running() -> tuple[SourceCode, Path | None]:
    test = os.environ.get("PYTEST_CURRENT_TEST", "").partition("::")[0] if "pytest" in sys.modules else ""
    if test:
        return SourceCode(Kind.TEST, Path(test).name), _existing(Path(test))
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if main is None:
        note = "the code was typed or passed with -c: there is no source file"
        return SourceCode(Kind.INTERACTIVE, notes=(note,)), None
    path = Path(main)
    if path.parent.resolve() == Path(sysconfig.get_path("scripts")).resolve():
        return SourceCode(Kind.COMMAND, command.line([path.name, *sys.argv[1:]])), None
    return SourceCode(Kind.SCRIPT, path.name), path


def _of_session(found: Session) -> tuple[SourceCode, Path | None]:
    if not found.is_notebook:
        note = "the code was typed: cells.py holds the input history"
        return SourceCode(Kind.INTERACTIVE, cells=found.cells, notes=(note,)), None
    made = SourceCode(Kind.NOTEBOOK, found.path.name if found.path else "", cells=found.cells, cell=found.number)
    if found.path is None:
        return replace(made, notes=("the notebook's file is not known: cells.py holds the cells that ran",)), None
    return made, found.path


def _existing(path: Path) -> Path | None:
    return next((place for place in (path, Path(path.name)) if place.suffix == ".py" and place.is_file()), None)


def _with_content(found: SourceCode, path: Path, typed: Session | None) -> SourceCode:
    try:
        content, changed = path.read_bytes(), path.stat().st_mtime
    except OSError as error:
        return replace(found, notes=(*found.notes, f"{path.name} cannot be read: {type(error).__name__}"))
    late = changed > psutil.Process().create_time() + _CLOCK_SLACK
    note = f"{path.name} was changed after this process had started: what ran may differ from it" if late else ""
    differs, note = (late, note) if typed is None else typed.compared(content, path.name)
    return replace(found, content=content, differs=differs, notes=(*found.notes, *([note] if note else [])))


def _with_repository(found: SourceCode, folder: Path, path: Path | None) -> SourceCode:
    root, problem = _git(folder, "rev-parse", "--show-toplevel")
    if problem:
        return replace(found, notes=(*found.notes, problem))
    top = Path(os.fsdecode(root.rstrip(b"\r\n")))
    commit = _git_line(top, "rev-parse", "--verify", "--quiet", "HEAD")
    diff, trouble = (
        _git(top, "diff", "HEAD", "--no-color", "--no-ext-diff") if commit else (b"", "the repository has no commit")
    )
    untracked = path is not None and bool(_git(top, "ls-files", "--error-unmatch", "--", os.fspath(path.resolve()))[1])
    notes = (
        trouble,
        f"{found.name} is not under version control" if untracked else "",
        "commit and changes are those of the working folder" if path is None else "",
    )
    return replace(
        found,
        name=_relative(path, top) if path is not None else found.name,
        commit=commit,
        branch=_git_line(top, "symbolic-ref", "--quiet", "--short", "HEAD"),
        remote=command.without_credentials(_git_line(top, "remote", "get-url", "origin")),
        dirty=None if trouble else bool(diff),
        diff=_capped(diff),
        notes=(*found.notes, *filter(None, notes)),
    )


def _relative(path: Path, top: Path) -> str:
    full, root = path.resolve(), top.resolve()
    return full.relative_to(root).as_posix() if full.is_relative_to(root) else path.name


def _git_line(folder: Path, *arguments: str) -> str:
    return _git(folder, *arguments)[0].decode("utf-8", "replace").strip()


def _git(folder: Path, *arguments: str) -> tuple[bytes, str]:
    asked = ["git", "-C", os.fspath(folder), *arguments]
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(asked, capture_output=True, timeout=_GIT_TIMEOUT, check=False, env=quiet)
    except FileNotFoundError:
        return b"", "git is not installed: no commit recorded"
    except (OSError, subprocess.TimeoutExpired) as error:
        return b"", f"git did not answer ({type(error).__name__}): no commit recorded"
    if done.returncode:
        refused = "git refuses the repository: it belongs to another account" if b"dubious ownership" in done.stderr else ""
        return b"", refused or "not in a git repository"
    return done.stdout, ""


def _capped(diff: bytes) -> bytes:
    if len(diff) <= DIFF_LIMIT:
        return diff
    return diff[:DIFF_LIMIT] + f"\nCapped: {DIFF_LIMIT} of {len(diff)} bytes are kept.\n".encode()


def _safe(name: str) -> str:
    kept = re.sub(r"[^\w.\- ]", "_", name.rpartition("/")[2])[-100:].strip(". ")
    return kept or "source"
