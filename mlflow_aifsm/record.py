"""The record of one log: what each field holds, how that is known, and what is wrong with it.

A record is a frozen value. ``record.json`` holds it, in bytes that depend on nothing but the record; its SHA-256 is the log's
identity. The template it was filled against travels inside it, so a record can be read when newer templates exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mlflow_aifsm.codec import dumps, loads, structure, unstructure
from mlflow_aifsm.digests import FileDigest, sha256_bytes
from mlflow_aifsm.errors import RecordError
from mlflow_aifsm.facts import Fact, Finding, Json, Source, State, Value, jsonable
from mlflow_aifsm.template import Field, Template

SCHEMA_VERSION = 1
NO_LIMIT = "no limit was set"
"""How the criterion of a verification begins that nothing limited."""


class Status(StrEnum):
    """State of a whole log; the first that applies, from the bottom up."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    FINDINGS_OPEN = "findings open"
    VERIFICATION_FAILED = "verification failed"
    FAILED = "failed"
    APPROVAL_VOID = "approval void"
    INTEGRITY_BROKEN = "integrity broken"

    @property
    def exit_code(self) -> int:
        """0 complete, 3 fields unanswered, 4 findings or failures, 5 integrity or approval broken."""
        codes = {Status.COMPLETE: 0, Status.INCOMPLETE: 3, Status.APPROVAL_VOID: 5, Status.INTEGRITY_BROKEN: 5}
        return codes.get(self, 4)


@dataclass(frozen=True, slots=True)
class Entry:
    """What one field holds.

    Attributes:
        state: How the value is known.
        value: The cell's text and data; empty text where nothing is recorded.
        source: Where it comes from.
        asked: What was asked for, where that is known.
        beside: Further facts for the cell, each with its own state and source.
        findings: What is wrong.
        reason: Why it does not apply, or why it is not recorded.
        remedy: The line that would fill it.
    """

    state: State
    value: Value
    source: Source
    asked: Value | None = None
    beside: tuple[Fact, ...] = ()
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    remedy: str = ""

    def answers(self, row: Field) -> bool:
        """Whether this entry answers the field: known at least as well as its basis asks, or not applicable with a reason."""
        if self.state is State.NOT_APPLICABLE:
            return bool(self.reason)
        return bool(self.value.text) and self.state.strength >= row.basis.strength


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """Outcome of running the delivered model against its criterion.

    Attributes:
        passed: Whether the criterion held on every sample. Where none was set (``judged`` is False) it says no more than that
            the outputs were finite, and repeatable where that was probed.
        criterion: ``exact`` or ``approximate`` (ED-324 6.4.3.6e), the limits that were set, or that none was.
        metric: What was compared with ``epsilon``.
        epsilon: The largest value that passes, in output units.
        reason: Why this epsilon; empty if nobody gave one.
        samples: Number of samples that were run.
        data: Name of the verification data.
        data_sha256: Digest over all samples in order.
        runtime: Runtime of record, with version, provider and optimization level.
        numbers: All measured numbers by name.
        failure: Why it could not run; a verification that could not run is a failed one.
        held_in: The file that holds the criterion, with its commit, or that it was supplied with the call; empty for a default.
        target: Where the outputs came from; ``this host`` unless brought back from the target device.
    """

    passed: bool
    criterion: str
    metric: str = ""
    epsilon: float | None = None
    reason: str = ""
    samples: int = 0
    data: str = ""
    data_sha256: str = ""
    runtime: str = ""
    numbers: Mapping[str, Json] = field(default_factory=dict)
    failure: str = ""
    target: str = "this host"
    held_in: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "numbers", jsonable(self.numbers))
        object.__setattr__(self, "epsilon", None if self.epsilon is None else float(self.epsilon))

    @property
    def judged(self) -> bool:
        """Whether any limit was in force; outputs that nothing limits were run, not verified."""
        return not self.criterion.startswith(NO_LIMIT)

    @property
    def verdict(self) -> str:
        """What the run showed, and where: ``verified on this host``, ``run on this host, no criterion set``."""
        if self.passed and not self.judged:
            return f"run on {self.target}, no criterion set"
        return f"{'verified' if self.passed else 'verification failed'} on {self.target}"


@dataclass(frozen=True, slots=True)
class Declaration:
    """A value that a person stands for: field key, value, name, time (ISO 8601 with zone)."""

    key: str
    value: str
    by: str
    at: str


@dataclass(frozen=True, slots=True)
class Supersedes:
    """The older record under the same log id: its run and its digest."""

    run_id: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Record:
    """One log as it was made. ``entries`` maps each field key of ``template`` to what is known about it."""

    template: Template
    log_id: str
    run_id: str
    made_at: str
    tool: str
    entries: Mapping[str, Entry]
    subject: str = ""
    input_sha256: str = ""
    output_sha256: str = ""
    input_files: tuple[FileDigest, ...] = ()
    output_files: tuple[FileDigest, ...] = ()
    verification: VerificationResult | None = None
    notes: tuple[str, ...] = ()
    cover: Mapping[str, str] = field(default_factory=dict)
    supersedes: Supersedes | None = None
    failure: str = ""
    schema_version: int = SCHEMA_VERSION

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings in the order of the table."""
        return tuple(finding for row in self.template.fields for finding in self.entries[row.key].findings)

    @property
    def open_findings(self) -> tuple[Finding, ...]:
        """Findings nobody has accepted."""
        return tuple(finding for finding in self.findings if finding.open)

    @property
    def gaps(self) -> tuple[Field, ...]:
        """Fields of the template that are not answered; open rows are not counted."""
        return tuple(row for row in self.template.counted if not self.entries[row.key].answers(row))

    def entry_of(self, fact: str) -> Entry | None:
        """The entry of the field that shows ``fact``; None where the template has none."""
        return next((self.entries[row.key] for row in self.template.fields if row.fact == fact), None)

    @property
    def status(self) -> Status:
        """The record's own status, before anyone re-reads the files."""
        if self.failure:
            return Status.FAILED
        if self.verification is not None and not self.verification.passed:
            return Status.VERIFICATION_FAILED
        if self.open_findings:
            return Status.FINDINGS_OPEN
        return Status.INCOMPLETE if self.gaps else Status.COMPLETE

    @property
    def state_line(self) -> str:
        """One line: answered of all, by state, findings, where it was verified, whether approved."""
        counted = self.template.counted
        states = [self.entries[row.key].state for row in counted]
        known = [f"{states.count(state)} {state}" for state in State if states.count(state)]
        findings = len(self.open_findings)
        return " · ".join(
            (
                f"{len(counted) - len(self.gaps)} of {len(counted)} answered",
                ", ".join(known),
                f"{findings} finding{'' if findings == 1 else 's'} open",
                self._verified,
                "not approved",
            )
        )

    @property
    def _verified(self) -> str:
        if self.verification is None:
            return "not verified"
        result = self.verification
        unjudged = result.passed and not result.judged
        return result.verdict + (" only" if result.target == "this host" and not unjudged else "")

    def to_json(self) -> bytes:
        """The record as UTF-8 JSON; equal records give equal bytes.

        Raises:
            RecordError: If a value has no JSON form.
        """
        return dumps(unstructure(self))

    @property
    def sha256(self) -> str:
        """SHA-256 of ``to_json()`` in hex."""
        return sha256_bytes(self.to_json())

    @staticmethod
    def from_json(data: bytes | str) -> Record:
        """The record that ``to_json`` wrote.

        Raises:
            RecordError: If it is no JSON, a newer schema, or not a record.
        """
        content = loads(data)
        version = content.get("schema_version") if isinstance(content, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise RecordError(
                "the record was written by a newer mlflow-aifsm",
                got=f"schema_version {version}",
                expected=f"at most {SCHEMA_VERSION}",
                remedy="pip install --upgrade mlflow-aifsm",
            )
        record = structure(content, Record, "record")
        if record.schema_version < 1 or set(record.entries) != {row.key for row in record.template.fields}:
            raise RecordError("the record's entries are not the fields of its template", remedy="restore record.json")
        return record


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at again: what, whether it holds (None: could not be looked at), and what was seen."""

    what: str
    holds: bool | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A record as it is read today: declarations laid over it, digests looked at again, tables beside it.

    Attributes:
        record: The record with the declarations laid over it.
        sha256: Digest of ``record.json`` as it is stored.
        target: What was read, as the reader named it.
        checks: What was looked at again.
        declarations: The lines beside the record.
        tables: Rows of the tables beside the record, by name.
    """

    record: Record
    sha256: str
    target: str
    checks: tuple[Check, ...] = ()
    declarations: tuple[Declaration, ...] = ()
    tables: Mapping[str, tuple[Mapping[str, Json], ...]] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        """The log's status: broken integrity before all else."""
        broken = any(check.holds is False for check in self.checks)
        return Status.INTEGRITY_BROKEN if broken else self.record.status
