"""Which tool this is, and whether its own validation was run in this environment.

IEC 61508-3 7.4.4.7 ties a tool's validation to the version of the tool and to the equipment it ran on. So a validation record
is kept under the digest of both, and none is found once either changes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

from mlflow_aifsm.codec import dumps, loads
from mlflow_aifsm.digests import manifest, set_digest, sha256_bytes
from mlflow_aifsm.errors import RecordError
from mlflow_aifsm.facts import Json

HOST = ("system", "machine", "processor", "vector_flags", "python", "implementation")
"""What of the host decides which kernels run; memory, load and kernel version do not."""


def tool() -> str:
    """Name and version: ``mlflow-aifsm 0.1.0``."""
    return f"mlflow-aifsm {version('mlflow-aifsm')}"


@cache
def tool_digest() -> str:
    """SHA-256 over all files of the installed package, because a version number does not change with every edit."""
    return set_digest(manifest(Path(__file__).parents[1]))


def is_note(text: str, named: str) -> bool:
    """Whether ``text`` is what `note` says of the tool ``named``, among the other notes of a log."""
    return text.startswith(_opening(named))


def _opening(named: str) -> str:
    return f"Tool {named}, files sha256 "


def environment_digest(host: Mapping[str, Json], packages: Mapping[str, str]) -> str:
    """SHA-256 over the tool's files, the host (``environment.host()``) and the versions of ``packages``."""
    place = {name: host[name] for name in HOST}
    return sha256_bytes(dumps({"tool": tool_digest(), "host": place, "packages": dict(packages)}))


def record_path(environment: str) -> Path:
    """Where the validation record of an environment is kept; the file need not exist.

    Args:
        environment: Its digest.
    """
    local = os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else os.environ.get("XDG_DATA_HOME")
    base = Path(local) if local else Path("~/.local/share").expanduser()
    return base / "mlflow-aifsm" / "validation" / f"{environment}.json"


def note(host: Mapping[str, Json], packages: Mapping[str, str]) -> str:
    """One sentence for a log: the tool's version, and its validation record of this environment, or that there is none."""
    named = f"{_opening(tool())}{tool_digest()}"
    try:
        content = record_path(environment_digest(host, packages)).read_bytes()
    except (OSError, RuntimeError):
        return f"{named}: there is no validation record of this environment; mlflow-aifsm validate-tool makes one."
    try:
        record = loads(content)
        outcome = f"{record['verdict']} on {record['made_at'][:10]}, {record['summary']}"
    except (RecordError, KeyError, TypeError):
        return f"{named}: the validation record of this environment cannot be read; mlflow-aifsm validate-tool makes a new one."
    return f"{named}: validation {outcome}, made in this environment; validation record sha256 {sha256_bytes(content)}."
