"""What a validation consists of: faults that must be found, and good models that must not be accused."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from mlflow_aifsm.record import Evidence
from mlflow_aifsm.report.numbers import decisive
from mlflow_aifsm.result import Result


class Signal(StrEnum):
    """How the tool says that something is wrong."""

    FINDING = "finding"
    VERIFICATION = "verification failed"
    INTEGRITY = "integrity broken"


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing the tool said about a log: how, and in which words."""

    signal: Signal
    words: str

    def __str__(self) -> str:
        return f"{self.signal}: {self.words}"


@dataclass(frozen=True, slots=True)
class Expected:
    """What the tool must say of a fault: a signal in which all ``words`` stand; a fault found by accident does not count."""

    signal: Signal
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.signal}: {' … '.join(self.words)}"

    def met_by(self, seen: Observation) -> bool:
        """Whether it was said."""
        return seen.signal is self.signal and all(word in seen.words for word in self.words)


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault or one good model.

    Attributes:
        name: What it is called.
        about: What is done, in a sentence or two.
        source: Where the fault is known from; empty for a good model.
        expected: What the tool must say; None for a good model, of which it must say nothing.
        make: Makes model and log with the product's own verbs.
    """

    name: str
    about: str
    source: str
    expected: Expected | None
    make: Callable[[], Result]

    def passed(self, log: Evidence, found: tuple[Observation, ...]) -> bool:
        """Whether a fault was found for the expected reason, or a good model was verified and not accused."""
        if self.expected is None:
            return not found and log.record.verification is not None
        return any(map(self.expected.met_by, found))


def fault(expected: Expected, source: str) -> Callable[[Callable[[], Result]], Trial]:
    """Makes a fault of a function: its name names the fault, its docstring says what is injected.

    Args:
        expected: What the tool must say.
        source: Where the fault is known from.
    """
    return lambda make: Trial(_name(make), inspect.getdoc(make) or "", source, expected, make)


def good_model(make: Callable[[], Result]) -> Trial:
    """Makes a good model of a function, named and described likewise."""
    return Trial(_name(make), inspect.getdoc(make) or "", "", None, make)


def finding(code: str, *words: str) -> Expected:
    """Expects an open finding of this code, with ``words`` in what was measured."""
    return Expected(Signal.FINDING, (code, *words))


def failed(*words: str) -> Expected:
    """Expects a failed verification with ``words`` in its reason."""
    return Expected(Signal.VERIFICATION, words)


def broken(*words: str) -> Expected:
    """Expects something that no longer is what was recorded, with ``words`` in the check's outcome."""
    return Expected(Signal.INTEGRITY, words)


def observed(log: Evidence) -> tuple[Observation, ...]:
    """All that the tool says is wrong with a log, read from where it was logged."""
    result = log.record.verification
    missed = [result.failure or decisive(result)] if result is not None and not result.passed else []
    return (
        *(Observation(Signal.FINDING, f"{found.code}: {found.measured}") for found in log.record.open_findings),
        *(Observation(Signal.VERIFICATION, reason) for reason in missed),
        *(Observation(Signal.INTEGRITY, f"{check.what}: {check.detail}") for check in log.checks if check.holds is False),
    )


def _name(make: Callable[[], Result]) -> str:
    return make.__name__.replace("_", " ")
