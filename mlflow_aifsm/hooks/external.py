"""A log of what runs elsewhere: the script or command with its configuration and outcome, the packages of its interpreter."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from mlflow_aifsm.calls import script_fact
from mlflow_aifsm.capture import command
from mlflow_aifsm.digests import FileDigest, file_digest, manifest, set_digest
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Json, captured
from mlflow_aifsm.hooks.arguments import told
from mlflow_aifsm.hooks.interpreter import installed
from mlflow_aifsm.lineage import VerifiedModel
from mlflow_aifsm.recording import Recording
from mlflow_aifsm.tracking.staging import Attachments
from mlflow_aifsm.tracking.write import UsedData

PREFIXES = {"conversion": "converter", "optimization": "quantization"}
"""What the facts of the tool are called, by log."""
SCRIPTS = frozenset({".py", ".sh", ".ps1", ".bat"})
"""Suffixes of the words of a command whose files are stored."""
OTHERS = "packages-of-the-tool.txt"
"""Where the packages of another interpreter are listed."""


@dataclass(slots=True)
class ExternalRecording(Recording):
    """A recording that takes what a tool outside of this process leaves behind.

    Attributes:
        tool: Name of the converting or optimizing package; empty if none was named.
        verified: The verified learning model; None if none was named.
    """

    tool: str = ""
    verified: VerifiedModel | None = None
    _stored: dict[str, bytes] = field(default_factory=dict)

    @staticmethod
    def of(log: Recording, tool: str, verified: VerifiedModel | None) -> ExternalRecording:
        """The recording ``log``, which is begun and holds nothing but its head, with what this class adds."""
        return ExternalRecording(**{part.name: getattr(log, part.name) for part in fields(log)}, tool=tool, verified=verified)

    @property
    def used_data(self) -> tuple[UsedData, ...]:
        """The data sets that it lists so far."""
        return tuple(self._data)

    def read(self, path: str | Path) -> str:
        """Says which file or folder went in; it is hashed as it is now.

        Returns:
            SHA-256 of the file, or of the folder's listing.

        Raises:
            InputError: If there is no such file, or the folder is empty.
        """
        files = _digests(Path(path))
        self.input(files, set_digest(files), source=Path(path).name)
        return self.input_sha256

    def called(self, function: str, arguments: Mapping[str, Json], shown: Mapping[str, Json], fact: str = "") -> None:
        """Records the call that did the work.

        Args:
            function: The function, with its module.
            arguments: All arguments with resolved defaults.
            shown: Those that the cell prints.
            fact: The fact that holds it; that of the log's tool if empty.
        """
        self.call(fact or f"{PREFIXES[self.template.log]}.call", function, arguments, shown)

    def script(
        self,
        what: str | Path | Sequence[str],
        *,
        config: Mapping[str, Any] | str | Path | None = None,
        exit_code: int | None = None,
    ) -> None:
        """Stores the script or command that did the work, with its configuration and how it ended.

        Passwords in addresses, and the values of what is called a password, a token or a key, are left out of command and
        settings; files are stored as they are.

        Args:
            what: Path of a script, whose bytes are stored; or a command, as one line or as its words: the scripts that it names
                are stored, too.
            config: Its settings by name, or the path of the file that holds them, whose bytes are stored.
            exit_code: Its exit code; another one than 0 is a finding.

        Raises:
            InputError: If ``what`` or ``config`` is a path without a file.
        """
        script = _file(what, "script")
        words = () if script else _words(what)
        settings = None if isinstance(config, Mapping) or config is None else _file(config, "configuration", must=True)
        files = [*([script] if script else _scripts(words)), *([settings] if settings else [])]
        self._stored |= {f"source/{_safe(file.name)}": file.read_bytes() for file in files}
        line = script.name if script else command.line([str(told(word)) for word in words])
        digests = {file.name: file_digest(file).sha256 for file in files}
        fact = f"{PREFIXES[self.template.log]}.call"
        self.elsewhere = self.elsewhere or "a process of its own"
        self.add(script_fact(self.source, fact, line, digests, _said(config), settings.name if settings else "", exit_code))

    def packages(self, interpreter: str | Path) -> None:
        """Takes the packages of another interpreter, in which the tool ran; without a call they are those of this one.

        Args:
            interpreter: Path of its Python executable.

        Raises:
            InputError: If it cannot be run.
        """
        found, prefix = installed(interpreter), PREFIXES[self.template.log]
        self.elsewhere = f"another interpreter, Python {found.python} with {len(found.packages)} packages"
        name, source = str(canonicalize_name(self.tool)), "packages of the interpreter that was named"
        leading = f"{name} {found.packages[name]}" if name in found.packages else ""
        rest = f"{len(found.packages) - bool(leading)} packages of Python {found.python} (see {OTHERS})"
        text = f"{leading} and {rest}" if leading else rest
        self.add(captured(f"{prefix}.packages", text, found.packages, source=source, short=leading or f"Python {found.python}"))
        if leading:
            self.add(captured(f"{prefix}.framework", leading, found.packages[name], source=source))
        self._stored[OTHERS] = found.pinned

    def _attachments(self) -> Attachments:
        attached = Recording._attachments(self)  # noqa: SLF001 -- a slotted dataclass has no zero-argument super
        return replace(attached, files={**attached.files, **self._stored})


def _digests(path: Path) -> tuple[FileDigest, ...]:
    found = manifest(path) if path.is_dir() else (file_digest(path),) if path.is_file() else ()
    if not found:
        raise InputError(f"input {path.name}", got="no file", expected="a file, or a folder with files")
    return found


def _file(what: str | Path | Sequence[str] | Mapping[str, Any], name: str, *, must: bool = False) -> Path | None:
    """The file that ``what`` names; None for a command."""
    path = Path(what) if isinstance(what, str | Path) else None
    if path is not None and path.is_file():
        return path
    if must or isinstance(what, Path):
        raise InputError(f"{name} {path.name if path else ''}", got="no such file", expected="a file")
    return None


def _words(what: str | Path | Sequence[str]) -> Sequence[str]:
    """The words of a command; one line that no shell could read is one word."""
    if not isinstance(what, str | Path):
        return [str(word) for word in what]
    try:
        return shlex.split(str(what))
    except ValueError:
        return [str(what)]


def _said(config: Mapping[str, Any] | str | Path | None) -> Json:
    """Settings that were given by name; None for those that are in a file."""
    settings = told(config) if isinstance(config, Mapping) else None
    return command.settings(settings) if isinstance(settings, Mapping) else settings


def _scripts(words: Sequence[str]) -> list[Path]:
    """The scripts that a command runs."""
    return [path for path in map(Path, words) if path.suffix in SCRIPTS and path.is_file()]


def _safe(name: str) -> str:
    return re.sub(r"[^\w.\-]", "_", name)[-100:].strip(".") or "script"
