"""What a verb says when it is done, in ten lines: what was made, how complete its log is, and how to read it."""

from __future__ import annotations

from mlflow_aifsm.record import Record, VerificationResult
from mlflow_aifsm.report.numbers import decisive, set_by
from mlflow_aifsm.report.terminal import laid_out

MOST = 4
"""Findings and gaps that are listed; the rest is counted."""
VERIFICATION, FINDING, GAP, LOGGED, REPORT = "verification", "finding", "gap", "logged", "report"
"""What a line may be about."""


def summary(record: Record, model_uri: str, version_uri: str) -> str:
    """The summary of a finished log, in lines of at most 100 characters but for commands."""
    lines = laid_out(rows(record, model_uri, version_uri), "  ", 14)
    return "\n".join((f"{record.template.title} {record.log_id}: {record.status}", *lines))


def rows(record: Record, model_uri: str, version_uri: str) -> list[tuple[str, str]]:
    """The lines below the title, each with what it is about; a line without is a remark on those before it."""
    size = sum(file.size for file in record.output_files)
    made = (
        f"{record.output_files[0].path} · {size:,} bytes · sha256 {record.output_sha256[:12]}…"
        if record.output_files
        else "no file"
    )
    return [
        ("delivered", made),
        ("log", record.state_line),
        (VERIFICATION, verification_line(record.verification)),
        *_problems(record),
        (LOGGED, f"{version_uri or model_uri or 'no model'} · run {record.run_id}"),
        (REPORT, f"mlflow-aifsm report {record.run_id} --log {record.template.log}"),
    ]


def verification_line(result: VerificationResult | None) -> str:
    """One line on a verification: its outcome, the number that decided beside its limit, whose limit it is, the samples."""
    if result is None:
        return "none: pass verification=mlflow_aifsm.Verification(data), to a command --verify FILE"
    outcome = "FAILED" if not result.passed else "passed" if result.judged else result.verdict
    if not result.samples:
        return f"{outcome}: {result.failure or 'no sample was run'}"
    reasons = filter(None, (result.failure, decisive(result) or result.criterion))
    whose = f" ({set_by(result)})" if result.judged else ""
    data = f"{result.samples:,} samples of {result.data or 'unnamed data'}"
    return f"{outcome}: {'; '.join(reasons)}{whose}, {data}"


def _problems(record: Record) -> list[tuple[str, str]]:
    findings = [(FINDING, f"{found.code}: {found.measured} ({found.effect})") for found in record.open_findings]
    gaps = [(GAP, f"{row.key}: {record.entries[row.key].reason or 'not answered'}") for row in record.gaps]
    listed = findings + gaps
    rest = len(listed) - MOST
    return listed[:MOST] + ([("", f"and {rest} more, in the report")] if rest > 0 else [])
