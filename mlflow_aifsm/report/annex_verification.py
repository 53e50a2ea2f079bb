"""Annex A: the criterion beside the result, and what was not looked at."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow_aifsm.record import Record, VerificationResult
from mlflow_aifsm.report.annex_tables import plain_table
from mlflow_aifsm.report.blocks import Badge, Block, Cell, Heading, Mark, Notice, Paragraph, Role, Row, Table, Text, Tone
from mlflow_aifsm.report.numbers import decisive, limits, pairs, set_by, singles
from mlflow_aifsm.report.words import code, line, number, quiet, sentence, strong

REPLICATION = {
    "exact": "exact replication: the outputs of both models are equal",
    "approximate": "approximate replication: no output differs by more than epsilon",
}
"""The criteria of ED-324 6.4.3.6e."""


def verification(record: Record) -> Iterable[Block]:
    """How the delivered model was run against its criterion; loud where it was not."""
    result = record.verification
    if result is None:
        yield Notice(Mark.BAD, (line(strong("No verification was run."), "How the delivered model behaves is not known."),))
        return
    yield _outcome(result)
    rows = tuple(Row((Cell((line(name),)), Cell((value,)))) for name, value in _rows(result))
    yield Table((Text("Point"), Text("As it was run")), rows, widths=(27, 73))
    yield from _numbers(result)


def _outcome(result: VerificationResult) -> Notice:
    mark, badge = _verdict(result)
    where = f"on {result.target}" + (
        " only; no outputs of the target device were given" if result.target == "this host" else ""
    )
    lines = [line(Badge(badge, mark), sentence(where))]
    if decided := decisive(result):
        lines.append(line(quiet("Decided by:"), sentence(decided)))
    if result.failure:
        lines.append(line(quiet("Reason:"), sentence(result.failure)))
    return Notice(mark, tuple(lines))


def _verdict(result: VerificationResult) -> tuple[Mark, str]:
    if not result.passed:
        return Mark.BAD, "verification failed"
    return (Mark.GOOD, "verification passed") if result.judged else (Mark.NEUTRAL, "run, no criterion set")


def _rows(result: VerificationResult) -> Iterable[tuple[str, Paragraph]]:
    digest = code(result.data_sha256) if result.data_sha256 else strong("digest not recorded")
    yield from _criterion(result)
    yield "Samples", line(f"{result.samples:,}")
    yield "Data", line(_or_missing(result.data), quiet("sha256"), digest)
    yield "Runtime", line(_or_missing(result.runtime))
    yield "Outputs from", line(result.target)


def _criterion(result: VerificationResult) -> Iterable[tuple[str, Paragraph]]:
    if result.held_in:
        yield "Criterion held in", line(result.held_in)
    why = line(Text(set_by(result), Tone.PLAIN if result.reason else Tone.ALARM))
    if result.epsilon is not None:
        yield "Criterion", line(_or_missing(REPLICATION.get(result.criterion, result.criterion)))
        yield "Epsilon", line(f"{number(result.epsilon)} (output units)")
        yield "Reason for epsilon", why
    elif found := limits(result):
        yield "Limits", line(", ".join(limit.words for limit in found))
        yield "Set by, and why", why
    else:
        yield "Criterion", line(_or_missing(result.criterion), quiet(result.metric))
        if result.judged:
            yield "Set by, and why", why


def _or_missing(value: str) -> Text:
    return Text(value) if value else strong("not recorded")


def _numbers(result: VerificationResult) -> Iterable[Block]:
    if not result.numbers:
        yield line("No number was measured.")
        return
    if twice := tuple(pairs(result)):
        yield Heading(2, "", Text("Before and after"))
        yield plain_table(("Measure", "Reference", "Delivered", "Loss"), twice, widths=(46, 18, 18, 18))
    groups = tuple(row for title, rows in singles(result) for row in _group(title, rows))
    if groups:
        yield Heading(2, "", Text("Numbers"))
        yield Table((Text("Number"), Text("Value")), groups, widths=(64, 36))


def _group(title: str, rows: Iterable[tuple[str, str]]) -> Iterable[Row]:
    yield Row((Cell((line(title),)),), Role.GROUP)
    yield from (Row((Cell((line(name),)), Cell((line(value),)))) for name, value in rows)
