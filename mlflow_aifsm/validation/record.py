"""The validation record: what was injected, what was expected, what was found, with which tool, where and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlflow_aifsm.codec import dumps, unstructure
from mlflow_aifsm.facts import Json

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """One trial as it was run.

    Attributes:
        group: What it belongs to: ``conversion``, ``integrity``, ``good models`` …
        name: What it is called.
        about: What was injected, or which model it is.
        source: Where the fault is known from; empty for a good model.
        expected: What the tool had to say.
        found: What the tool said, or why the trial could not be run.
        passed: Whether the fault was caught, or the good model was not accused.
        at: When it began, ISO 8601 with zone.
        seconds: How long it took.
    """

    group: str
    name: str
    about: str
    source: str
    expected: str
    found: tuple[str, ...]
    passed: bool
    at: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ValidationRecord:
    """What IEC 61508-3 7.4.4.7 asks of a tool's validation, in the order in which it happened.

    Attributes:
        tool: Name and version.
        tool_sha256: Digest of the tool's files.
        manual: Version of the manual that describes what is validated.
        made_at: When the validation began, ISO 8601 with zone.
        seconds: How long it took.
        environment_sha256: Digest of tool, host and packages; a log made under the same digest names this record.
        host: System, processor and Python.
        packages: Version of every package the tool depends on.
        faults: Injected faults.
        good_models: Models that must not be accused.
    """

    tool: str
    tool_sha256: str
    manual: str
    made_at: str
    seconds: float
    environment_sha256: str
    host: Mapping[str, Json]
    packages: Mapping[str, str]
    faults: tuple[Outcome, ...]
    good_models: tuple[Outcome, ...]
    schema_version: int = SCHEMA_VERSION

    @property
    def passed(self) -> bool:
        """Whether every fault was caught and no good model accused; a validation of nothing has not passed."""
        return bool(self.faults and self.good_models) and all(one.passed for one in (*self.faults, *self.good_models))

    @property
    def verdict(self) -> str:
        """``passed`` or ``failed``."""
        return "passed" if self.passed else "failed"

    @property
    def summary(self) -> str:
        """One line: faults caught, good models not accused."""
        caught, free = (sum(one.passed for one in group) for group in (self.faults, self.good_models))
        return f"{caught} of {len(self.faults)} faults caught · {free} of {len(self.good_models)} good models not accused"

    def to_json(self) -> bytes:
        """The record as UTF-8 JSON."""
        return dumps({**unstructure(self), "verdict": self.verdict, "summary": self.summary})
