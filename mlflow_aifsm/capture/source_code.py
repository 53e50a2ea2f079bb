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
from typing import Any
from urllib.parse import urlsplit

import psutil

from mlflow_aifsm.digests import sha256_bytes

DIFF_LIMIT = 1_000_000
"""Bytes of uncommitted changes that are kept; a longer diff is cut there, with a sentence that says so."""

_GIT_TIMEOUT = 10.0
_CLOCK_SLACK = 2.0
_SCP_REMOTE = re.compile(r"(?:[^@/\\]+@)?([\w.-]{2,}:.+)")


class Kind(StrEnum):
    """What started the conversion."""

    SCRIPT = "script"
    NOTEBOOK = "notebook"
    INTERACTIVE = "interactive session"
    COMMAND = "command"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class SourceCode:
    """The code that ran, and where it stands in its repository.

    Attributes:
        kind: What started the conversion.
        name: Path of the file relative to the repository, or its name; empty where there is no file.
        content: The file's bytes at the time of the call; empty where there is no file.
        cells: What was typed, where there is an input history, as UTF-8.
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
    sha256: str = ""
    commit: str = ""
    branch: str = ""
    remote: str = ""
    dirty: bool | None = None
    diff: bytes = field(default=b"", repr=False)
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """One line: ``train.py (sha256 1a2b3c4d5e6f…, commit 9f8e7d6c5b4a, uncommitted changes)``."""
        words = (
            f"sha256 {self.sha256[:12]}…" if self.sha256 else "no source file",
            f"commit {self.commit[:12]}" if self.commit else "no commit",
            "uncommitted changes" if self.dirty else "",
        )
        return f"{self.name or self.kind} ({', '.join(word for word in words if word)})"

    def files(self) -> dict[str, bytes]:
        """What to store: artifact path (``source/…``, one level, safe characters) to bytes."""
        named = ((_safe(self.name), self.content), ("cells.py", self.cells), ("uncommitted.diff", self.diff))
        return {f"source/{name}": content for name, content in named if content}


def source_code() -> SourceCode:
    """The script, notebook or session that is running now, with its repository. Never fails: what is missing is noted."""
    found, path = _running()
    folder = path.parent if path is not None else Path()
    if path is not None:
        found = _with_content(found, path)
    return _with_repository(replace(found, sha256=_digest(found)), folder, path)


def _digest(found: SourceCode) -> str:
    content = found.content or found.cells
    return sha256_bytes(content) if content else ""


def _running() -> tuple[SourceCode, Path | None]:
    shell = _ipython_shell()
    if shell is not None:
        return _from_shell(shell)
    test = os.environ.get("PYTEST_CURRENT_TEST", "").partition("::")[0] if "pytest" in sys.modules else ""
    if test:
        return SourceCode(Kind.TEST, Path(test).name), _existing(Path(test))
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if main is None:
        note = "the code was typed or passed with -c: there is no source file"
        return SourceCode(Kind.INTERACTIVE, notes=(note,)), None
    path = Path(main)
    if path.parent.resolve() == Path(sysconfig.get_path("scripts")).resolve():
        return SourceCode(Kind.COMMAND, path.name, notes=("started by an installed command, not by a script",)), None
    return SourceCode(Kind.SCRIPT, path.name), path


def _ipython_shell() -> Any | None:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def _from_shell(shell: Any) -> tuple[SourceCode, Path | None]:
    cells = _cells(shell.user_ns.get("In", ()))
    if getattr(shell, "kernel", None) is None:
        note = "the code was typed: cells.py holds the input history"
        return SourceCode(Kind.INTERACTIVE, cells=cells, notes=(note,)), None
    candidates = (shell.user_ns.get("__vsc_ipynb_file__"), os.environ.get("JPY_SESSION_NAME"))
    path = next((path for path in map(_existing, map(Path, filter(None, candidates))) if path is not None), None)
    if path is None:
        note = "the notebook's file is not known: cells.py holds the cells that ran"
        return SourceCode(Kind.NOTEBOOK, cells=cells, notes=(note,)), None
    note = "the notebook as it was last saved; cells.py holds the cells that ran"
    return SourceCode(Kind.NOTEBOOK, path.name, cells=cells, notes=(note,)), path


def _existing(path: Path) -> Path | None:
    return next((place for place in (path, Path(path.name)) if place.suffix in {".ipynb", ".py"} and place.is_file()), None)


def _cells(history: Any) -> bytes:
    cells = [f"# In [{number}]\n{cell}\n" for number, cell in enumerate(history) if cell]
    return "\n".join(cells).encode("utf-8", "backslashreplace")


def _with_content(found: SourceCode, path: Path) -> SourceCode:
    try:
        content, changed = path.read_bytes(), path.stat().st_mtime
    except OSError as error:
        return replace(found, notes=(*found.notes, f"{path.name} cannot be read: {type(error).__name__}"))
    late = found.kind is not Kind.NOTEBOOK and changed > psutil.Process().create_time() + _CLOCK_SLACK
    note = f"{path.name} was changed after this process had started: what ran may differ from it"
    return replace(found, content=content, notes=(*found.notes, *([note] if late else [])))


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
        remote=without_credentials(_git_line(top, "remote", "get-url", "origin")),
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
    command = ["git", "-C", os.fspath(folder), *arguments]
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=_GIT_TIMEOUT, check=False, env=quiet)
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


def without_credentials(remote: str) -> str:
    """Address of a repository without user, password, query or path of this machine; empty if it has no such form."""
    address = re.sub(r"^[\w-]+::", "", remote)
    if "://" in address and not address.startswith("file:"):
        return _public_part(address)
    at_host = _SCP_REMOTE.fullmatch(address) if "://" not in address else None
    return at_host[1] if at_host else re.split(r"[/\\]", address.rstrip("/\\"))[-1]


def _public_part(address: str) -> str:
    try:
        parts = urlsplit(address)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def _safe(name: str) -> str:
    kept = re.sub(r"[^\w.\- ]", "_", name.rpartition("/")[2])[-100:].strip(". ")
    return kept or "source"
