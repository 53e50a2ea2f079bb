"""What is open in a log, and what still holds: for the terminal, and as data."""

from __future__ import annotations

from mlflow_aifsm.codec import unstructure
from mlflow_aifsm.facts import Finding, Json
from mlflow_aifsm.record import Check, Evidence
from mlflow_aifsm.report.cells import remedy, settled_by
from mlflow_aifsm.report.summary import verification_line
from mlflow_aifsm.report.terminal import laid_out

WORDS = {True: "holds", False: "BROKEN", None: "undecided"}
"""A check that decides nothing was not possible, or saw something that is no breach; its text says which."""


def checklist(evidence: Evidence) -> str:
    """The log's state, then a line for each gap, finding and check; a gap is followed by the line that fills it."""
    record = evidence.record
    rows = [
        ("log", record.state_line),
        ("verification", verification_line(record.verification)),
        *([("failed", record.failure)] if record.failure else []),
    ]
    for gap in record.gaps:
        entry = record.entries[gap.key]
        rows += [("unanswered", f"{gap.label} ({gap.key}): {entry.reason or f'{entry.state}, {gap.basis} needed'}")]
        rows += [("", remedy(gap, entry, evidence.target))]
    for finding in record.open_findings:
        rows += [("finding", f"{finding.code} in {finding.field}: {_found(finding)}")]
        rows += [("", line) for line in (settled_by(finding, record.template.field(finding.field), evidence.target),) if line]
    rows += [(WORDS[check.holds], _check(check)) for check in evidence.checks]
    return "\n".join((f"{record.template.title} {record.log_id}: {evidence.status}", *laid_out(rows, "  ", 14)))


def checklist_data(evidence: Evidence) -> Json:
    """The same as JSON data: status, gaps with remedies, findings, checks."""
    record = evidence.record
    gaps = [
        {"key": gap.key, "label": gap.label, "reason": record.entries[gap.key].reason, "remedy": record.entries[gap.key].remedy}
        for gap in record.gaps
    ]
    return {
        "log_id": record.log_id,
        "log": record.template.log,
        "run_id": record.run_id,
        "status": str(evidence.status),
        "state": record.state_line,
        "unanswered": gaps,
        "findings": [unstructure(finding) for finding in record.open_findings],
        "checks": [unstructure(check) for check in evidence.checks],
    }


def _found(finding: Finding) -> str:
    asked = f"asked {finding.asked}, " if finding.asked else ""
    return f"{asked}found {finding.measured}; {finding.effect}"


def _check(check: Check) -> str:
    return f"{check.what}: {check.detail}"
