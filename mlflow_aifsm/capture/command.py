"""A command as it may be recorded: without paths of this machine, passwords in addresses, and values that are called secrets.

A log is read by more people than may know what a command was given to log in with. What is no address, and stands behind a
name that tells nothing, cannot be known for a secret.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from mlflow_aifsm.facts import Json

HIDDEN = "***"
"""What stands in the place of a secret."""

_SECRET = re.compile(
    r"(^|[\W_])(passwd|password|passphrase|secret|token|credentials?|(api|access|private|secret|auth)[-_]?key)$", re.IGNORECASE
)
_SCP_REMOTE = re.compile(r"(?:[^@/\\]+@)?([\w.-]{2,}:.+)")


def line(words: Sequence[str]) -> str:
    """The words of a command as a shell would read them."""
    return shlex.join(_words(words))


def settings(values: Mapping[str, Json]) -> dict[str, Json]:
    """Settings by name, at any depth; a secret that was not given is none."""
    return {name: HIDDEN if value and _SECRET.search(name) else _setting(value) for name, value in values.items()}


def without_credentials(remote: str) -> str:
    """Address of a repository without user, password, query or path of this machine; empty if it has no such form."""
    address = re.sub(r"^[\w-]+::", "", remote)
    if "://" in address and not address.startswith("file:"):
        return _public_part(address)
    at_host = _SCP_REMOTE.fullmatch(address) if "://" not in address else None
    return at_host[1] if at_host else re.split(r"[/\\]", address.rstrip("/\\"))[-1]


def _words(words: Sequence[str]) -> Iterator[str]:
    before = ""
    for word in words:
        name, equals, value = word.partition("=")
        option = before.startswith("-") and not word.startswith("-")
        if option and _SECRET.search(before):
            yield HIDDEN
        elif equals and "://" not in name:
            yield f"{name}={HIDDEN if _SECRET.search(name) else _public(value)}"
        else:
            yield _public(word)
        before = word


def _setting(value: Json) -> Json:
    if isinstance(value, Mapping):
        return settings(value)
    return _public(value) if isinstance(value, str) else value


def _public(word: str) -> str:
    if "://" in word:
        return without_credentials(word)
    return Path(word).name if Path(word).is_absolute() else word


def _public_part(address: str) -> str:
    try:
        parts = urlsplit(address)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    # a database file, for instance, has no host: its path is one of this machine
    path = parts.path if parts.hostname else f"/{Path(parts.path).name}"
    return f"{parts.scheme}://{parts.hostname or ''}{port}{path}"
