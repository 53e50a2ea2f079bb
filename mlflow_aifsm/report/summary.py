"""Ten lines for the terminal after a verb: what was made, how complete its log is, and how to read it."""

from __future__ import annotations

from mlflow_aifsm.record import Record, VerificationResult

MOST = 4
"""Findings and gaps that are listed; the rest is counted."""


def summary(record: Record, model_uri: str, version_uri: str) -> str:
    """The summary of a finished log, lines of at most about 120 characters."""
    size = sum(file.size for file in record.output_files)
    made = f"{record.output_files[0].path} · {size:,} bytes · sha256 {record.output_sha256[:12]}…" if record.output_files else "no file"
    rows = [
        ("delivered", made),
        ("log", record.state_line),
        ("verification", verification_line(record.verification)),
        *_problems(record),
        ("logged", f"{version_uri or model_uri or 'no model'} · run {record.run_id}"),
        ("report", f"mlflow-aifsm report {record.run_id} --log {record.template.log}"),
    ]
    return "\n".join((f"{record.template.title} {record.log_id}: {record.status}", *(f"  {name:<13}{text}" for name, text in rows)))


def verification_line(result: VerificationResult | None) -> str:
    """One line on a verification: its outcome, criterion and samples, or why it failed."""
    if result is None:
        return "none: pass verification=mlflow_aifsm.Verification(data)"
    outcome = "passed" if result.passed else "FAILED"
    if result.failure:
        return f"{outcome}: {result.failure}"
    return f"{outcome} on {result.samples:,} samples of {result.data or 'unnamed data'} · {result.criterion}"


def _problems(record: Record) -> list[tuple[str, str]]:
    findings = [("finding", f"{found.code}: {found.measured} ({found.effect})") for found in record.open_findings]
    gaps = [("gap", f"{row.key}: {record.entries[row.key].reason or 'not answered'}") for row in record.gaps]
    listed = findings + gaps
    rest = len(listed) - MOST
    return listed[:MOST] + ([("", f"and {rest} more, in the report")] if rest > 0 else [])
