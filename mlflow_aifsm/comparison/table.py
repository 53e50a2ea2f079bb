"""Found logs into a comparison: names, what differs, what does not, who is ranked against whom, and the baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mlflow_aifsm.comparison.comparable import QUALITIES, clock, clocks, grounds, quality_of, unranked
from mlflow_aifsm.comparison.pareto import Point, best
from mlflow_aifsm.comparison.warnings import Standing, warnings
from mlflow_aifsm.report.comparison import FIRST, WORDS, Comparison, Row
from mlflow_aifsm.report.words import number
from mlflow_aifsm.tracking.curve import PREFIX
from mlflow_aifsm.tracking.search import FoundLog, fields

NOT_RECORDED, NOT_VERIFIED = "not recorded", "not verified"
ALWAYS = ("accuracy", "size", "speedup")
"""Numbers that a table shows where any row has them, equal or not: what models are ranked by."""


def comparison(logs: Sequence[FoundLog], title: str, notes: Iterable[str] = (), baseline: int | None = None) -> Comparison:
    """``logs`` side by side.

    Args:
        logs: The logs, at least one.
        title: What is compared.
        notes: Sentences that the reader must know besides.
        baseline: Place of the log that differences are taken from; the float model's if None, see `float_parent`.
    """
    quality = quality_of(logs)
    standings = [
        Standing(name, log, stands_on, unranked(log, quality, stands_on))
        for name, log, stands_on in zip(names(logs), logs, grounds(logs, quality), strict=True)
    ]
    rows = _ranked(_rows(standings), quality)
    differing, same = _split([row.categories for row in rows])
    numbers, equal = _numbers(rows)
    told = (*notes, *warnings(standings, quality))
    place = float_parent(logs) if baseline is None else baseline
    return Comparison(title, rows, differing, numbers, {**same, **equal}, quality, place, told)


def names(logs: Sequence[FoundLog]) -> list[str]:
    """A name for each log that no other one has: the run's, with the kind of log where its run has two, and the run's id."""
    held = Counter(log.run_id for log in logs)
    called = [" · ".join(filter(None, (log.run_name or log.log_id, log.log if held[log.run_id] > 1 else ""))) for log in logs]
    # a run may be called what another one is told apart by
    for digits in (8, None):
        shared = Counter(called)
        ends = [f" · {log.run_id[:digits]}" if shared[name] > 1 else "" for name, log in zip(called, logs, strict=True)]
        called = [name + end for name, end in zip(called, ends, strict=True)]
    return called


def float_parent(logs: Sequence[FoundLog]) -> int:
    """Place of the conversion that most of the logs were made from; else the first conversion, else the first finished log."""
    made_from = Counter(log.tags.get("input_sha256", "") for log in logs)
    places = range(len(logs))
    return min(
        places, key=lambda at: (not logs[at].delivered, logs[at].log != "conversion", -_children(logs[at], made_from), at)
    )


def _children(log: FoundLog, made_from: Mapping[str, int]) -> int:
    digest = log.tags.get("output_sha256", "")
    return made_from.get(digest, 0) if digest else 0


def _rows(standings: Sequence[Standing]) -> list[Row]:
    numbered: dict[object, int] = {}
    against = clocks([one.log for one in standings])
    return [
        _row(at, one, 0 if one.why_not else numbered.setdefault(one.grounds, len(numbered) + 1), against)
        for at, one in enumerate(standings, 1)
    ]


def _row(number: int, one: Standing, group: int, against: Mapping[str, str]) -> Row:
    log = one.log
    own = against.get(log.tags.get("output_sha256", ""), "") if "speedup" not in log.numbers else ""
    return Row(
        number,
        one.name,
        log.run_id,
        log.log,
        log.log_id,
        log.status,
        version=log.tags.get("model_version", ""),
        categories=_categories(log),
        numbers=log.numbers,
        group=group,
        judged_on=f"{one.grounds.data} · {one.grounds.runtime}" if one.grounds.data and one.grounds.runtime else "",
        made_from=log.tags.get("input_sha256", ""),
        seconds_of=own or clock(log),
        is_clock=bool(own),
    )


def _categories(log: FoundLog) -> dict[str, str]:
    """What the log says in words; a field that it did not record says so, and one that it cannot have is missing."""
    if not log.delivered:
        return dict(log.categories)
    keys = [key.removeprefix(PREFIX) for key in fields(log.log)]
    data = f"{log.tags.get('data', 'unnamed')}, sha256 {log.tags['data_sha256'][:12]}…" if "data_sha256" in log.tags else ""
    judged = {"verification": log.tags.get("verification", NOT_VERIFIED), "data": data, "runtime": log.tags.get("runtime", "")}
    return {
        **dict.fromkeys(keys, NOT_RECORDED),
        **log.categories,
        **{name: text for name, text in judged.items() if text},
        "host": log.tags.get("host", NOT_RECORDED),
    }


def _ranked(rows: Sequence[Row], quality: str) -> tuple[Row, ...]:
    found: dict[int, bool] = {}
    for group in {row.group for row in rows} - {0}:
        places = [at for at, row in enumerate(rows) if row.group == group]
        # a row that is alone in its group is better than nothing
        if len(places) > 1:
            found |= dict(zip(places, best([_point(rows[at], quality) for at in places]), strict=True))
    return tuple(replace(row, best=found.get(at, False)) for at, row in enumerate(rows))


def _point(row: Row, quality: str) -> Point:
    unknown = float("nan")
    time = unknown if row.time is None or not row.seconds_of else row.time
    return Point(row.numbers[quality], row.numbers.get("size", unknown), time, row.seconds_of)


def _split(held: Sequence[Mapping[str, str]]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Keys in which the mappings that have them differ, and what the others have in common."""
    found: dict[str, set[str]] = {}
    for one in held:
        for key, text in one.items():
            found.setdefault(key, set()).add(text)
    differing = [key for key, texts in found.items() if len(texts) > 1]
    order = [*(key for key in WORDS if key in differing), *(key for key in differing if key not in WORDS)]
    return tuple(order), {key: text for key, (text, *more) in found.items() if not more}


def _numbers(rows: Sequence[Row]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Keys of numbers to show, and those that all rows which have them have in common."""
    held = {name for row in rows for name in row.numbers}
    order = [*(name for name in FIRST if name in held), *sorted(held - set(FIRST))]
    values = {name: {row.numbers[name] for row in rows if name in row.numbers} for name in order}
    shown = tuple(name for name in order if name in (*ALWAYS, *QUALITIES[:1]) or len(values[name]) > 1 or len(rows) == 1)
    return shown, {name: number(next(iter(values[name]))) for name in order if name not in shown}
