"""Annex A: the criterion beside the result, and what was not looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from mlflow_aifsm.facts import Json
from mlflow_aifsm.record import Record, VerificationResult
from mlflow_aifsm.report.annex_tables import plain_table
from mlflow_aifsm.report.blocks import Badge, Block, Cell, Heading, Mark, Notice, Paragraph, Role, Row, Table, Text, Tone
from mlflow_aifsm.report.numbers import decisive, limits, pairs, set_by, singles
from mlflow_aifsm.report.words import brief, code, line, number, quiet, readable, sentence, strong

REPLICATION = {
    "exact": "exact replication: the outputs of both models are equal",
    "approximate": "approximate replication: no output differs by more than epsilon",
}
"""The criteria of ED-324 6.4.3.6e."""

SLICE = "slice."
"""How the numbers of a slice begin: ``slice.<name>.<number>``."""

SLICE_COLUMNS: Mapping[str, str] = {
    "samples": "Samples",
    "accuracy_before": "Accuracy, reference",
    "accuracy_after": "Accuracy, delivered",
    "accuracy_drop": "Loss",
    "flips": "Decisions changed",
}
"""Numbers of a slice in the order of the table, and their headings."""

TOLD_APART = frozenset(
    {"worst_class_samples", "worst_class_recall", "worst_slice", "slice_drop", "low_margin", "low_margin_samples"}
    | {"low_margin_flips", "other_flips", "speedup", "float_ms", "float_quartiles_ms", "delivered_ms"}
    | {"delivered_quartiles_ms", "latency_runs", "latency_batch", "latency_threads"}
)
"""Numbers that are told together, in words of their own."""


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
    plain = _plain(result)
    if twice := tuple(pairs(plain)):
        yield Heading(2, "", Text("Before and after"))
        yield plain_table(("Measure", "Reference", "Delivered", "Loss"), twice, widths=(46, 18, 18, 18))
    yield from _slices(result.numbers)
    told = (*singles(plain), *_apart(result.numbers, result.samples))
    groups = tuple(row for title, rows in told for row in _group(title, rows))
    if groups:
        yield Heading(2, "", Text("Numbers"))
        yield Table((Text("Number"), Text("Value")), groups, widths=(64, 36))


def _plain(result: VerificationResult) -> VerificationResult:
    """The result with those of its numbers that stand each for itself."""
    kept = {name: value for name, value in result.numbers.items() if name not in TOLD_APART and not name.startswith(SLICE)}
    return replace(result, numbers=kept)


def _slices(numbers: Mapping[str, Json]) -> Iterable[Block]:
    """One row for each slice of the data, the columns that any of them fills."""
    parts: dict[str, dict[str, Json]] = {}
    for name, value in numbers.items():
        part, _, measure = name.removeprefix(SLICE).rpartition(".") if name.startswith(SLICE) else ("", "", "")
        if part:
            parts.setdefault(part, {})[measure] = value
    if not parts:
        return
    shown = [name for name in SLICE_COLUMNS if any(name in known for known in parts.values())]
    rows = ([part, *(brief(known[name]) if name in known else "" for name in shown)] for part, known in parts.items())
    yield Heading(2, "", Text("Slices of the data"))
    if "slice_drop" in numbers:
        yield line(
            f"Largest loss of accuracy of a slice: {brief(numbers['slice_drop'])}, in {readable(numbers['worst_slice'])}."
        )
    width = 70 // len(shown)
    widths = (100 - width * len(shown), *(width,) * len(shown))
    yield plain_table(("Slice", *(SLICE_COLUMNS[name] for name in shown)), rows, widths)


def _apart(numbers: Mapping[str, Json], samples: int) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
    """Groups of numbers that make sense together: title, and each one's words and value."""
    if "worst_class_samples" in numbers:
        of_it = (("Its samples", brief(numbers["worst_class_samples"])),)
        yield f"Class that lost most ({readable(numbers['worst_class'])})", of_it
    if "low_margin" in numbers:
        narrow = numbers["low_margin_samples"]
        changed = ("Of these, decisions changed", f"{brief(numbers['low_margin_flips'])} of {brief(narrow)}")
        others = ("Of all others, decisions changed", f"{brief(numbers['other_flips'])} of {brief(samples - narrow)}")
        margin = ("Largest margin among them, between the two best scores (output units)", brief(numbers["low_margin"]))
        yield "Samples that the reference decided by the smallest margins", (margin, changed, others)
    if "speedup" in numbers:
        yield _heading_of_time(numbers), tuple(_time(numbers))


def _heading_of_time(numbers: Mapping[str, Json]) -> str:
    runs, batch, threads = (brief(numbers[f"latency_{name}"]) for name in ("runs", "batch", "threads"))
    return f"Time of one run on this host, graph optimizations on: {runs} interleaved runs of batch {batch}, threads: {threads}"


def _time(numbers: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    yield "Time of the float model over that of the delivered one (above 1: faster)", brief(numbers["speedup"])
    for whose, words in (("float", "Float model"), ("delivered", "Delivered model")):
        low, high = (brief(value) for value in numbers[f"{whose}_quartiles_ms"])
        yield f"{words}: median, first and third quartile (ms)", f"{brief(numbers[f'{whose}_ms'])} ({low} to {high})"


def _group(title: str, rows: Iterable[tuple[str, str]]) -> Iterable[Row]:
    yield Row((Cell((line(title),)),), Role.GROUP)
    yield from (Row((Cell((line(name),)), Cell((line(value),)))) for name, value in rows)
