"""A value with the way it is known, its source, and what is wrong with it: what capture yields and records hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mlflow_aifsm.catalogue import CATALOGUE
from mlflow_aifsm.errors import RecordError

Json = Any
"""A JSON value: None, bool, int, finite float, str, list or dict with str keys."""


class State(StrEnum):
    """How a value is known."""

    MEASURED = "measured"
    """Read from the delivered file, and can be read again."""
    CAPTURED = "captured"
    """Seen by the tool while it happened, or read from a named run."""
    DECLARED = "declared"
    """Said by a named person at a named time."""
    NOT_APPLICABLE = "not applicable"
    """With the reason, and the measurement behind it."""
    NOT_RECORDED = "not recorded"
    """With the reason, and the line that would fill it."""

    @property
    def strength(self) -> int:
        """3 for measured, 2 for captured, 1 for declared, 0 where there is no value."""
        return {State.MEASURED: 3, State.CAPTURED: 2, State.DECLARED: 1}.get(self, 0)


@dataclass(frozen=True, slots=True)
class Value:
    """A value as a cell prints it (``text``), as a machine reads it (``data``), and as a chart's axis shows it (``short``)."""

    text: str
    data: Json = None
    short: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", jsonable(self.data))

    @property
    def brief(self) -> str:
        """The form for params and charts: ``short`` where there is one, else ``text``."""
        return self.short or self.text


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from: a file, a call, a run, the host, a person (``by``), and when (``at``, ISO 8601 with zone)."""

    origin: str
    by: str = ""
    at: str = ""

    def __str__(self) -> str:
        return self.origin + (f" by {self.by}" if self.by else "") + (f", {self.at}" if self.at else "")


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a value. It lies on top of a state and never replaces it.

    Attributes:
        code: Stable name of the kind of finding, ``training_operation_left`` for instance.
        field: Key of the field it concerns; filled in when the fact meets its field.
        asked: What was asked for or expected.
        measured: What was found.
        effect: What it means for the reader.
        open: Whether nobody has accepted it yet.
    """

    code: str
    field: str = ""
    asked: str = ""
    measured: str = ""
    effect: str = ""
    open: bool = True


@dataclass(frozen=True, slots=True)
class Fact:
    """One named value with its state, source and findings; without value, the reason why and the line that would fill it.

    Raises:
        RecordError: If the catalogue does not hold the name.
    """

    name: str
    state: State
    value: Value
    source: Source
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    remedy: str = ""

    def __post_init__(self) -> None:
        if self.name not in CATALOGUE:
            raise RecordError(f"fact '{self.name}'", expected="a name of catalogue.CATALOGUE")

    @property
    def metrics(self) -> dict[str, float]:
        """The run metrics this fact is logged as: ``{key: number}``, empty if it has no metric or no number."""
        key = CATALOGUE[self.name].metric
        number = self.value.data
        return {key: float(number)} if key and isinstance(number, int | float) and not isinstance(number, bool) else {}


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts by name, later ones on top of earlier ones; asked-for values stand beside the found ones under their own names."""

    by_name: Mapping[str, Fact] = field(default_factory=dict)

    def with_facts(self, facts: Iterable[Fact]) -> Facts:
        """These facts with ``facts`` laid over them."""
        return Facts({**self.by_name, **{fact.name: fact for fact in facts}})

    def get(self, name: str) -> Fact | None:
        """The fact called ``name``, or None."""
        return self.by_name.get(name)

    @property
    def metrics(self) -> dict[str, float]:
        """All run metrics of these facts."""
        return {key: number for fact in self.by_name.values() for key, number in fact.metrics.items()}


def measured(
    name: str, text: str, data: Json = None, *, source: str, short: str = "", findings: Iterable[Finding] = ()
) -> Fact:
    """A fact read from the delivered file ``source``."""
    return Fact(name, State.MEASURED, Value(text, data, short), Source(source), tuple(findings))


def captured(
    name: str, text: str, data: Json = None, *, source: str, short: str = "", at: str = "", findings: Iterable[Finding] = ()
) -> Fact:
    """A fact seen while it happened, or read from the named run ``source``."""
    return Fact(name, State.CAPTURED, Value(text, data, short), Source(source, at=at), tuple(findings))


def not_applicable(name: str, reason: str, data: Json = None, *, source: str, findings: Iterable[Finding] = ()) -> Fact:
    """A fact that does not apply, with the reason and the measurement behind it."""
    return Fact(name, State.NOT_APPLICABLE, Value("Not applicable", data), Source(source), tuple(findings), reason)


def not_recorded(name: str, reason: str, remedy: str = "", findings: Iterable[Finding] = ()) -> Fact:
    """A fact that is not known, with the reason and the line that would fill it."""
    return Fact(name, State.NOT_RECORDED, Value(""), Source(""), tuple(findings), reason, remedy)


def jsonable(data: Any) -> Json:
    """``data`` as plain JSON: tuples become lists, arrays and scalars of array libraries Python values, NaN and Inf text.

    Raises:
        RecordError: If a value has no JSON form.
    """
    if data is None or isinstance(data, bool | int | str):
        return (
            int(data) if isinstance(data, int) and not isinstance(data, bool) else str(data) if isinstance(data, str) else data
        )
    if isinstance(data, float):
        return float(data) if math.isfinite(data) else str(float(data))
    if isinstance(data, Mapping):
        return {str(key): jsonable(value) for key, value in data.items()}
    if isinstance(data, list | tuple | set | frozenset):
        ordered = sorted(data, key=lambda item: (type(item).__name__, item)) if isinstance(data, set | frozenset) else data
        return [jsonable(item) for item in ordered]
    if callable(getattr(data, "tolist", None)):
        return jsonable(data.tolist())
    raise RecordError(f"a value of type {type(data).__name__}", expected="a JSON value")
