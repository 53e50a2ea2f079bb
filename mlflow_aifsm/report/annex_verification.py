"""Annex A: the criterion beside the result, and what was not looked at."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow_aifsm.record import Record, VerificationResult
from mlflow_aifsm.report.annex_tables import plain_table
from mlflow_aifsm.report.blocks import Badge, Block, Cell, Heading, Mark, Notice, Paragraph, Row, Table, Text, Tone
from mlflow_aifsm.report.words import code, line, number, quiet, readable, sentence, strong


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
    mark, word = (Mark.GOOD, "passed") if result.passed else (Mark.BAD, "failed")
    where = f"on {result.target}" + (
        " only; no outputs of the target device were given" if result.target == "this host" else ""
    )
    lines = [line(Badge(f"verification {word}", mark), sentence(where))]
    if result.failure:
        lines.append(line("It could not run:", sentence(result.failure)))
    return Notice(mark, tuple(lines))


def _rows(result: VerificationResult) -> Iterable[tuple[str, Paragraph]]:
    digest = code(result.data_sha256) if result.data_sha256 else strong("digest not recorded")
    yield "Criterion", line(_or_missing(result.criterion))
    yield "Metric", line(_or_missing(result.metric))
    yield "Epsilon", line(strong("not set") if result.epsilon is None else number(result.epsilon))
    yield "Reason for epsilon", line(result.reason or Text(_no_reason(result), Tone.ALARM))
    yield "Samples", line(f"{result.samples:,}")
    yield "Data", line(_or_missing(result.data), quiet("sha256"), digest)
    yield "Runtime", line(_or_missing(result.runtime))
    yield "Outputs from", line(result.target)


def _no_reason(result: VerificationResult) -> str:
    return "no reason given" if result.epsilon is None else "tool default, not justified"


def _or_missing(value: str) -> Text:
    return Text(value) if value else strong("not recorded")


def _numbers(result: VerificationResult) -> Iterable[Block]:
    yield Heading(2, "", Text("Numbers"))
    if not result.numbers:
        yield line("No number was measured.")
        return
    rows = ((name.replace("_", " "), readable(value)) for name, value in sorted(result.numbers.items()))
    yield plain_table(("Name", "Value"), rows, widths=(30, 70))
