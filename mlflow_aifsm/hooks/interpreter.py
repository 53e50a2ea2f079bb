"""Packages of another Python interpreter: that of a converter which runs in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from mlflow_aifsm.errors import InputError

TIMEOUT = 60.0
"""Seconds that the interpreter has to answer."""
HIDDEN = ("PYTHONPATH", "PYTHONHOME")
"""Variables that would show the other interpreter packages of this one."""
LISTING = (
    "import importlib.metadata as m, json, platform\n"
    "found = {d.metadata['Name']: d.version for d in m.distributions() if d.metadata['Name']}\n"
    "print(json.dumps({'python': platform.python_version(), 'packages': found}))"
)
"""What it is asked; it needs no pip, and Python 3.8."""


@dataclass(frozen=True, slots=True)
class Installed:
    """What is installed for an interpreter.

    Attributes:
        python: Its version.
        packages: Versions by normalized name, sorted.
    """

    python: str
    packages: dict[str, str]

    @property
    def pinned(self) -> bytes:
        """The packages as requirements, one a line."""
        return "".join(f"{name}=={number}\n" for name, number in self.packages.items()).encode()


def installed(interpreter: str | Path) -> Installed:
    """Asks ``interpreter`` for its packages.

    Args:
        interpreter: Path or name of a Python executable, that of a virtual environment for instance.

    Raises:
        InputError: If it cannot be run, or does not answer.
    """
    known = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    try:
        done = subprocess.run(
            [os.fspath(interpreter), "-c", LISTING], capture_output=True, timeout=TIMEOUT, check=True, env=known
        )
        found = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        expected = "a Python 3.8 or later"
        raise InputError(f"interpreter {Path(interpreter).name}: {type(error).__name__}", expected=expected) from error
    listed = {str(canonicalize_name(name)): str(number) for name, number in found["packages"].items()}
    return Installed(str(found["python"]), dict(sorted(listed.items())))
