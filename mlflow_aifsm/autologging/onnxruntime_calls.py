"""Recorders of ONNX Runtime's quantizers, which read and write files."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from mlflow_aifsm import scratch
from mlflow_aifsm.autologging.call import Call
from mlflow_aifsm.autologging.delivered import deliver, unread, unwatched
from mlflow_aifsm.autologging.float_file import FloatFile
from mlflow_aifsm.autologging.watched import Reader, Watched
from mlflow_aifsm.backends import onnxruntime
from mlflow_aifsm.backends.onnxruntime import PLACES
from mlflow_aifsm.backends.quantized import Quantized
from mlflow_aifsm.digests import sha256_file
from mlflow_aifsm.facts import captured, not_applicable
from mlflow_aifsm.hooks.external import ExternalRecording
from mlflow_aifsm.operations.onnxruntime_methods import asked_of_onnxruntime
from mlflow_aifsm.operations.outcome import Outcome, Task, uncorrected
from mlflow_aifsm.operations.verbatim import ORT_PACKAGES, onnxruntime_outcome

TOOL = "ONNX Runtime"
CACHE = "calibration_cache_path"


def static(log: ExternalRecording, call: Call) -> Generator[None, None, None]:
    """Records ``quantize_static``: its samples are watched and held, so that its ranges can be tried on them afterwards.

    Where the caller keeps no calibration cache, ONNX Runtime is given one, as it tells its ranges nowhere else.
    """
    arguments = call.arguments
    given = FloatFile.of(arguments["model_input"], arguments["model_output"])
    given.enter(log)
    reader = arguments["calibration_data_reader"]
    watched = given.watched(reader, hold=True)
    if reader is not None:
        call.hand_over("calibration_data_reader", Reader(reader, watched))
    with scratch.temporary() as folder:
        cache = Path(arguments[CACHE] or folder / "ranges.json")
        older = sha256_file(cache) if cache.is_file() else ""
        call.hand_over(CACHE, cache)
        yield
        ranges = onnxruntime.cached_ranges(cache)
    settings = call.settings(PLACES)
    done = Quantized(Path(arguments["model_output"]), call.function, dict(settings[0]), dict(settings[1]))
    log.note(*watched.notes)
    if watched.problem:
        deliver(
            log, call, given, _unread(done, watched, f"{cache.name} (sha256 {older[:12]}…)" if older else ""), None, settings
        )
        return
    task = Task(given.path, watched.samples, watched.seen.consumed)
    outcome = onnxruntime_outcome(task, watched.seen, done, ranges if watched.held else {})
    deliver(log, call, given, outcome, watched.samples, settings)


def dynamic(log: ExternalRecording, call: Call) -> Generator[None, None, None]:
    """Records ``quantize_dynamic``."""
    arguments = call.arguments
    given = FloatFile.of(arguments["model_input"], arguments["model_output"])
    given.enter(log)
    yield
    settings = call.settings(PLACES)
    done = Quantized(Path(arguments["model_output"]), call.function, dict(settings[0]), dict(settings[1]))
    reason = "no calibration: the range of each activation is computed while the model runs"
    method = not_applicable("calibration.method", reason, source=f"call of {call.function}")
    deliver(log, call, given, unwatched(done, TOOL, ORT_PACKAGES, method, uncorrected()), None, settings)


def _unread(done: Quantized, watched: Watched, cache: str) -> Outcome:
    """Where ranges came from a cache, or from samples that cannot be read."""
    short, words = asked_of_onnxruntime(done)
    method = unread(done.function, words, short, watched)
    if cache:
        text = f"{words}; ranges of an earlier calibration, read from {cache}, so that no sample was read in this call"
        method = captured("calibration.method", text, {"method": short}, source=f"arguments of {done.function}", short=short)
    return unwatched(done, TOOL, ORT_PACKAGES, method, uncorrected())
