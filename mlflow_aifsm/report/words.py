"""Values as a reader sees them: dates, numbers, data, remedies, and the words that lead a fact in."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime

from mlflow_aifsm.catalogue import CATALOGUE
from mlflow_aifsm.facts import Fact, Json, State
from mlflow_aifsm.record import Status
from mlflow_aifsm.report.blocks import Badge, Mark, Paragraph, Role, Text, Tone

STATE_MARKS: Mapping[State, Mark] = {
    State.MEASURED: Mark.GOOD,
    State.CAPTURED: Mark.KNOWN,
    State.DECLARED: Mark.SAID,
    State.NOT_APPLICABLE: Mark.NEUTRAL,
    State.NOT_RECORDED: Mark.BAD,
}

STATE_MEANINGS: Mapping[State, str] = {
    State.MEASURED: "read from the delivered file, and can be read again",
    State.CAPTURED: "seen by the tool while it happened, or read from the run that is named",
    State.DECLARED: "said by the person who is named, at the time that is given; nothing else stands behind it",
    State.NOT_APPLICABLE: "does not apply, for the reason that is given",
    State.NOT_RECORDED: "not known; the line that would fill it stands beside",
}

STATUS_MARKS: Mapping[Status, Mark] = {Status.COMPLETE: Mark.GOOD, Status.INCOMPLETE: Mark.SAID}

STATUS_MEANINGS: Mapping[Status, str] = {
    Status.COMPLETE: "Every field the template asks for is answered, and no finding is open.",
    Status.INCOMPLETE: "Fields the template asks for are not answered. Annex E lists them with the line that fills each.",
    Status.FINDINGS_OPEN: "Something was found wrong and nobody has accepted it. Annex E lists the findings.",
    Status.VERIFICATION_FAILED: "The delivered model did not meet its criterion. Annex A has the numbers.",
    Status.FAILED: "The operation itself failed; this log shows what was known by then.",
    Status.APPROVAL_VOID: "Something changed after the approval, so the approval no longer holds.",
    Status.INTEGRITY_BROKEN: "Bytes are not those that were recorded. Annex D shows which.",
}

LEADS: Mapping[str, str] = {
    "workload.parameters": "Parameters",
    "workload.multiply_adds": "Work",
    "workload.compressed": "Compressed size",
    "pruning.recovery": "Recovery",
    "input.digest": "SHA-256 of the input",
    "graph.canonical_digest": "Canonical digest, metadata left out",
    "input.verified": "Verification of the input",
    "model.mode": "Mode",
    "graph.producer": "Producer named in the file",
    "graph.source_paths": "Source paths",
    "environment.host": "Environment",
    "runtime.integer_operators": "At run time",
    "quantizers.lost_non_linearities": "Activation functions",
    "quantizers.weight_codes": "Weight codes",
    "recovery.bias_correction": "Bias correction",
    "verification.layer_sqnr": "Noise by layer",
    "qat.base": "Began with",
    "qat.ranges": "Ranges",
    "qat.epochs": "Length",
    "qat.metrics": "By epoch",
    "qat.optimizer": "Optimizer",
    "qat.schedule": "Schedule",
    "qat.data": "Data",
    "qat.seeds": "Seeds",
    "qat.batch_normalization": "Batch normalization",
    "qat.agreement": "File and trained model",
    "qat.float_layers": "At run time",
    "training": "In training",
    "graph": "In the file",
    "quantizers": "In the file",
}
"""How a fact that stands beside a value is led in: by its name, else by its name's first part."""

HEX = re.compile(r"[0-9a-f]{32,64}")

EXACT = 1e15
"""Whole numbers below it are printed with all their digits."""

LISTED = 8
"""Numbers that are listed; longer lists are told by their count and range."""


def lead(name: str) -> str:
    """The words that lead in the fact called ``name``, without colon."""
    return LEADS.get(name) or LEADS.get(name.partition(".")[0]) or CATALOGUE[name].meaning.capitalize()


def state_badge(state: State) -> Badge:
    """The badge of a state, its name and its colour."""
    return Badge(str(state), STATE_MARKS[state])


def status_badge(status: Status) -> Badge:
    """The badge of a log's status; what is neither complete nor incomplete is bad."""
    return Badge(str(status), STATUS_MARKS.get(status, Mark.BAD))


def date(moment: str, form: str) -> str:
    """An ISO 8601 ``moment`` in the strftime ``form``; text that is no moment stays as it is."""
    try:
        return datetime.fromisoformat(moment.strip()).strftime(form)
    except ValueError:
        return moment


def moment(text: str) -> datetime:
    """An ISO 8601 moment in UTC; the epoch for text that is none.

    PDF and DOCX want a date, and the clock's would make other bytes of the same record.
    """
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return datetime.fromtimestamp(0, UTC)


def number(value: float) -> str:
    """A number with at most six significant digits; rounding never makes a whole number of one that is not."""
    if isinstance(value, int) or value.is_integer():
        return f"{value:,.0f}" if abs(value) < EXACT else f"{value:.6g}"
    short = f"{value:.6g}"
    return repr(value) if float(short).is_integer() else short


def brief(value: Json) -> str:
    """A number with at most four significant digits, whole ones with all of theirs; what is no number as `readable` says."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return readable(value)
    return number(value) if isinstance(value, int) or value.is_integer() else f"{value:.4g}"


def readable(data: Json) -> str:
    """JSON data in one line: plain values as words, mappings and lists spelled out, what lies inside them in parentheses."""
    match data:
        case None | bool():
            return {None: "not known", True: "yes", False: "no"}[data]
        case int() | float():
            return number(data)
        case list():
            return _listed(data)
        case dict():
            return " · ".join(f"{spaced(name)} {_inner(item)}" for name, item in data.items()) or "none"
    return str(data)


def spaced(name: str) -> str:
    """A name of a program as words: its underscores as spaces."""
    return name.replace("_", " ")


def _inner(data: Json) -> str:
    return f"({readable(data)})" if isinstance(data, list | dict) and len(data) > 1 else readable(data)


def _listed(data: list[Json]) -> str:
    numbers = [item for item in data if isinstance(item, int | float) and not isinstance(item, bool)]
    if len(numbers) == len(data) > LISTED:
        return f"{len(data)} values, {number(min(numbers))} to {number(max(numbers))}"
    return ", ".join(_inner(item) for item in data) or "none"


def sentence(text: str) -> str:
    """``text`` with one full stop at its end."""
    return text.rstrip().rstrip(".") + "."


def filled(remedy: str, target: str) -> str:
    """The line that fills a gap, the target put in as one word of a shell."""
    return remedy.replace("{target}", shlex.quote(target) if target else "RUN_ID")


def line(*parts: str | Text | Badge, role: Role = Role.BODY) -> Paragraph:
    """A paragraph of plain strings and spans."""
    return Paragraph(tuple(Text(part) if isinstance(part, str) else part for part in parts), role)


def code(text: str) -> Text:
    """Text in monospace: digests, keys, commands."""
    return Text(text, Tone.CODE)


def plain(text: str) -> Text:
    """Running text; a digest or an id of hex digits in monospace."""
    return Text(text, Tone.CODE if HEX.fullmatch(text) else Tone.PLAIN)


def quiet(text: str) -> Text:
    """Text that stands back."""
    return Text(text, Tone.QUIET)


def strong(text: str) -> Text:
    """Text that stands out."""
    return Text(text, Tone.STRONG)


def known(fact: Fact) -> str:
    """A fact's value, or why there is none."""
    if fact.value.text and fact.state.strength:
        return fact.value.text
    return f"{fact.state}: {sentence(fact.reason or 'no reason given')}"
