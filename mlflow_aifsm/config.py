"""Settings of a project: ``aifsm.toml`` at or above the working folder, and ``MLFLOW_AIFSM_*``. The only reader of either."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mlflow_aifsm.errors import ConfigError

FILE = "aifsm.toml"
PREFIX = "MLFLOW_AIFSM_"


@dataclass(frozen=True, slots=True)
class Config:
    """The settings in force; an argument of a call beats them all.

    Attributes:
        project: Project name on the cover.
        organisation: Organisation on the cover.
        rev: Revision of the document.
        ref: Reference of the document in the project's own filing.
        document_id_conversion: Document id of Model Conversion Logs; the template's id if none is set.
        document_id_optimization: Document id of Model Optimization Logs.
        responsible: The person who converts; the account name if none is set.
        verified_model: URI or id of the verified learning model of calls that name none and hold none.
        id_pattern: Regular expression that a given log id must match as a whole.
        logo: PNG or JPEG on the cover of reports; a path in the file is relative to the file.
        docx_template: The organisation's own form for DOCX; likewise.
        spool: Folder for what could not be written to MLflow.
        quiet: No summary after a verb.
        traceback: The command line shows the traceback of an error that it did not expect.
        origins: Where each setting that is not the default came from.
    """

    project: str = ""
    organisation: str = ""
    rev: str = ""
    ref: str = ""
    document_id_conversion: str = ""
    document_id_optimization: str = ""
    responsible: str = ""
    verified_model: str = ""
    id_pattern: str = ""
    logo: str = ""
    docx_template: str = ""
    spool: str = "aifsm-spool"
    quiet: bool = False
    traceback: bool = False
    origins: Mapping[str, str] = field(default_factory=dict)

    def cover_of(self, log: str) -> dict[str, str]:
        """What the cover of a ``conversion`` or ``optimization`` log prints, empty settings left out."""
        names = {name: name for name in ("project", "organisation", "rev", "ref")} | {"document_id": f"document_id_{log}"}
        return {shown: getattr(self, name) for shown, name in names.items() if getattr(self, name)}

    def origin_of(self, name: str) -> str:
        """Where the setting ``name`` came from, without the folder of a file."""
        return Path(self.origins.get(name, "default")).name

    def path_of(self, name: str) -> str:
        """The path in the setting ``name``, seen from the working folder; empty where none is set."""
        value, origin = str(getattr(self, name)), Path(self.origins.get(name, ""))
        return str(origin.parent / value) if value and origin.name == FILE else value


SETTINGS = {setting.name: setting for setting in fields(Config) if setting.name != "origins"}


def load(start: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """The settings for ``start`` (the working folder): the nearest file, then the environment on top.

    Raises:
        ConfigError: If a setting is unknown, the message naming the nearest known one, or has the wrong type.
    """
    file = nearest(start)
    found = {name: (value, str(file)) for name, value in (_read(file) if file else {}).items()}
    for name, value in (os.environ if environ is None else environ).items():
        if name.startswith(PREFIX):
            found[name.removeprefix(PREFIX).lower()] = (value, name)
    values = {name: _typed(name, value, origin) for name, (value, origin) in found.items()}
    config = Config(**values, origins={name: origin for name, (_, origin) in found.items()})
    _compiles(config)
    return config


def nearest(start: Path | None = None) -> Path | None:
    """The settings file at or above ``start`` (the working folder); None if there is none."""
    first = (start or Path.cwd()).resolve()
    folders = (first, *first.parents)
    return next((folder / FILE for folder in folders if (folder / FILE).is_file()), None)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error


def _typed(name: str, value: Any, origin: str) -> Any:
    if name not in SETTINGS:
        near = difflib.get_close_matches(name, SETTINGS, n=1, cutoff=0)
        raise ConfigError(f"unknown setting '{name}' in {origin}", remedy=f"the nearest known one is '{near[0]}'")
    kind = type(SETTINGS[name].default)
    if kind is bool and isinstance(value, str) and value.lower() in ("1", "true", "yes", "0", "false", "no", ""):
        return value.lower() in ("1", "true", "yes")
    if not isinstance(value, kind):
        raise ConfigError(f"setting '{name}' in {origin}", got=repr(value), expected=f"a {kind.__name__}")
    return value


def _compiles(config: Config) -> None:
    try:
        re.compile(config.id_pattern)
    except re.error as error:
        raise ConfigError(f"id_pattern in {config.origins['id_pattern']}: {error}", got=config.id_pattern) from error
