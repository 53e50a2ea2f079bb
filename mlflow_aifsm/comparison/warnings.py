"""What a reader must know before ranking logs: sentences that name the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mlflow_aifsm.comparison.comparable import QUALITIES, Grounds, clock
from mlflow_aifsm.report.comparison import RELATIVE
from mlflow_aifsm.report.comparison_cells import named
from mlflow_aifsm.report.plot_words import listed
from mlflow_aifsm.report.words import spaced
from mlflow_aifsm.tracking.search import FoundLog

NAMED = 3
"""Rows that a sentence names; the others it counts."""
KINDS = 5
"""Kinds that a sentence tells apart."""
SHA256 = 64
"""Digits of a digest."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One log on its way into a comparison: its name there, what its ranking stands on, and why it is not ranked, if so."""

    name: str
    log: FoundLog
    grounds: Grounds
    why_not: str


def warnings(standings: Sequence[Standing], quality: str) -> Iterator[str]:
    """A sentence for each reason why rows cannot be ranked, or not against each other."""
    ranked = [one for one in standings if not one.why_not]
    yield from _apart("verified on different data", ranked, lambda one: one.grounds.data, _data)
    yield from _apart(
        "verified in different runtimes", ranked, lambda one: one.grounds.runtime, lambda one: one.grounds.runtime
    )
    yield from _apart("made from different models", ranked, lambda one: one.grounds.origin, _origin)
    if quality in RELATIVE:
        yield from _apart(
            "held against different models",
            ranked,
            lambda one: one.grounds.beside,
            lambda one: f"sha256 {one.grounds.beside[:12]}…",
        )
    yield from _not_ranked(standings)
    if ranked and quality != QUALITIES[0]:
        yield f"No log that is ranked has an {QUALITIES[0]}, so {spaced(quality)} ranks them."
    yield from _own_inputs(ranked)
    yield from _clocks(ranked)


def _apart(
    what: str, ranked: Sequence[Standing], kind: Callable[[Standing], str], words: Callable[[Standing], str]
) -> Iterator[str]:
    kinds = _by(ranked, kind)
    if len(kinds) > 1:
        told = [f"{words(rows[0])} ({_names(rows)})" for rows in list(kinds.values())[:KINDS]]
        more = [f"{len(kinds) - KINDS} more"] if len(kinds) > KINDS else []
        yield f"{what.capitalize()}, so not ranked against each other: {'; '.join([*told, *more])}."


def _not_ranked(standings: Sequence[Standing]) -> Iterator[str]:
    for why, rows in _by([one for one in standings if one.why_not], lambda one: one.why_not).items():
        yield f"Not ranked, as {f'they {_plural(why)}' if len(rows) > 1 else f'it {why}'}: {_names(rows)}."


def _own_inputs(ranked: Sequence[Standing]) -> Iterator[str]:
    """Ratios and differences of rows that are ranked together may still be to different models."""
    optimized = [one for one in ranked if one.log.log == "optimization" and one.log.numbers.keys() & set(RELATIVE)]
    inputs = _by(optimized, lambda one: one.log.tags.get("input_sha256", ""))
    shared = sorted({name for one in optimized for name in one.log.numbers} & set(RELATIVE))
    if len(inputs) > 1 and shared:
        told = "; ".join(_names(rows) for rows in list(inputs.values())[:KINDS])
        numbers = listed([spaced(name) for name in shared]).capitalize()
        hold = "hold" if len(shared) > 1 else "holds"
        yield f"{numbers} {hold} each model against the one it was made from, and these differ: {told}."


def _clocks(ranked: Sequence[Standing]) -> Iterator[str]:
    clocked = [one for one in ranked if "speedup" in one.log.numbers]
    clocks = _by(clocked, lambda one: clock(one.log))
    if len(clocks) > 1:
        told = "; ".join(_names(rows) for rows in list(clocks.values())[:KINDS])
        why = "Clocked against different models, in different runtimes or on different hosts"
        yield f"{why}, so not ranked by time against each other: {told}."


def _by(rows: Iterable[Standing], kind: Callable[[Standing], str]) -> dict[str, list[Standing]]:
    found: dict[str, list[Standing]] = {}
    for one in rows:
        found.setdefault(kind(one), []).append(one)
    return found


def _names(rows: Sequence[Standing]) -> str:
    return named([one.name for one in rows], NAMED)


def _data(one: Standing) -> str:
    return f"{one.log.tags.get('data', 'unnamed')}, sha256 {one.grounds.data[:12]}…"


def _origin(one: Standing) -> str:
    name = one.grounds.origin
    return f"sha256 {name[:12]}…" if len(name) == SHA256 else name


def _plural(why: str) -> str:
    """The words of one row for several."""
    for one, many in (
        ("was ", "were "),
        ("is ", "are "),
        ("has ", "have "),
        ("does ", "do "),
        (" its ", " their "),
        (" it ", " they "),
    ):
        why = why.replace(one, many)
    return why
