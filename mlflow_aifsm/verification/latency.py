"""Times the delivered ONNX file against the float one on this host: a ratio of two clocks that ran side by side.

A time alone says little of a shared machine. So both files run in turn, in one process, on the same sample, and medians are
compared. Each clocked run follows others of its own session: threads of a session that just ran go on spinning for a while,
and would take a core from the one that is clocked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnxruntime
import psutil

from mlflow_aifsm.capture.file_kind import FileKind, kind_of
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact, Json, captured, not_recorded
from mlflow_aifsm.samples import Batch, Samples
from mlflow_aifsm.verification.criterion import Verification
from mlflow_aifsm.verification.outputs import paired_inputs
from mlflow_aifsm.verification.session import PROVIDER, OnnxSession

BUDGET = 1.5
"""Seconds that all runs may take together, unless the fewest take longer."""
FEWEST, MOST = 30, 300
"""Runs of each file that are clocked."""
WARM = 3
"""Runs of each file before the first that is clocked: the runtime plans its memory in the first one."""
SETTLING = 1e-3
"""Seconds for which a session runs unclocked before each clocked run, once at least."""

REMEDY = "verify a delivered ONNX file against its float ONNX file, without outputs="


@dataclass(frozen=True, slots=True)
class Clock:
    """What the clock yielded: the fact, and the numbers of the verification."""

    fact: Fact
    numbers: dict[str, Json] = field(default_factory=dict)


def speedup(candidate: Path, reference: object, verification: Verification) -> Clock:
    """``runtime.speedup``: median time of the float file over that of the delivered one; above 1 the delivered one is faster.

    Both run on the CPU provider of ONNX Runtime with graph optimizations on and its own number of threads, on the first sample
    of the verification data, or the first batch where the delivered file fixes its batch.

    Args:
        candidate: The delivered file.
        reference: The float file; anything else cannot be timed.
        verification: The data.

    Returns:
        The fact, and ``speedup``, ``float_ms``, ``delivered_ms``, their quartiles ``float_quartiles_ms`` and
        ``delivered_quartiles_ms`` (two numbers each), ``latency_runs``, ``latency_batch``, ``latency_threads``. Where nothing
        can be timed the fact is not recorded, with the reason.
    """
    if why := _untimed(candidate, reference, verification):
        return Clock(not_recorded("runtime.speedup", why, REMEDY))
    try:
        numbers = _timed(candidate, Path(str(reference)), Samples.of(verification.described))
    except Exception as error:  # noqa: BLE001 -- a runtime that refuses an optimized graph raises anything, and the rest was measured
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Clock(not_recorded("runtime.speedup", f"the files could not be timed: {reason}"))
    source = f"clock of this host, ONNX Runtime {onnxruntime.__version__}, {PROVIDER}, graph optimizations on"
    short = f"{numbers['speedup']:.2f}"
    return Clock(captured("runtime.speedup", _text(numbers), numbers["speedup"], source=source, short=short), numbers)


def _untimed(candidate: Path, reference: object, verification: Verification) -> str:
    """Why nothing can be timed; empty where it can."""
    if verification.outputs is not None:
        return "the outputs came from the target device, whose clock is not known here"
    if not isinstance(reference, Path) or reference == candidate:
        return "there is no float file to time beside the delivered one"
    kinds = (kind_of(candidate), kind_of(reference))
    return "" if set(kinds) == {FileKind.ONNX} else f"ONNX files alone are timed, and these are {kinds[0]} and {kinds[1]}"


def _timed(candidate: Path, reference: Path, samples: Samples) -> dict[str, Json]:
    delivered, threads = _counted(candidate)
    original = OnnxSession(reference, optimize=True)
    size = delivered.fixed_batch or 1
    batch = _first(samples, delivered, size)
    names = paired_inputs(delivered, original)
    given = original.fit({there: batch[here] for here, there in names.items()})
    before, after = _interleaved(original.prepared(given), delivered.prepared(delivered.fit(batch)))
    medians = {"speedup": float(np.median(before) / np.median(after)), **_told("float", before), **_told("delivered", after)}
    return {**medians, "latency_runs": len(before), "latency_batch": size, "latency_threads": threads}


def _counted(path: Path) -> tuple[OnnxSession, int]:
    """The session, and the threads it computes with: those it started, and the caller's."""
    process = psutil.Process()
    count = process.num_threads()
    session = OnnxSession(path, optimize=True)
    return session, process.num_threads() - count + 1


def _first(samples: Samples, session: OnnxSession, size: int) -> Batch:
    names = [spec.name for spec in session.inputs]
    batch, _ = next(samples.first(size).batches(size, names, session.ranks))
    if (count := len(next(iter(batch.values())))) < size:
        raise InputError("the data do not fill one batch of the delivered file", got=f"{count} samples", expected=size)
    return batch


def _interleaved(before: Callable[[], Any], after: Callable[[], Any]) -> tuple[list[float], list[float]]:
    """Seconds of each run of both; which of them goes first alternates."""
    for run in chain.from_iterable(((before, after),) * WARM):
        run()
    start = perf_counter()
    times: tuple[list[float], list[float]] = ([], [])
    while len(times[0]) < FEWEST or (len(times[0]) < MOST and perf_counter() - start < BUDGET):
        both = list(zip(times, (before, after), strict=True))
        for found, run in both if len(times[0]) % 2 else reversed(both):
            found.append(_clocked(run))
    return times


def _clocked(run: Callable[[], Any]) -> float:
    settled = perf_counter() + SETTLING
    run()
    while perf_counter() < settled:
        run()
    start = perf_counter()
    run()
    return perf_counter() - start


def _told(whose: str, seconds: list[float]) -> dict[str, Json]:
    low, middle, high = (float(value) for value in np.percentile(seconds, [25, 50, 75]) * 1000)
    return {f"{whose}_ms": middle, f"{whose}_quartiles_ms": [low, high]}


def _text(numbers: dict[str, Json]) -> str:
    size, threads = numbers["latency_batch"], numbers["latency_threads"]
    each = "one sample" if size == 1 else f"{size} samples"
    return (
        f"{numbers['speedup']:.2f} times as fast as the float model: {numbers['delivered_ms']:.3g} ms against "
        f"{numbers['float_ms']:.3g} ms (medians of {numbers['latency_runs']} interleaved runs, {each}, "
        f"{threads} thread{'' if threads == 1 else 's'}, {PROVIDER})"
    )
