"""NNCF's calls on an ONNX graph: the graph that came in and the one that went out are measured as files."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from typing import Any

from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters

from mlflow_aifsm.autologging.call import Call
from mlflow_aifsm.autologging.delivered import deliver, unread, unwatched
from mlflow_aifsm.autologging.float_file import FloatFile, written
from mlflow_aifsm.autologging.watched import Watched, dataset
from mlflow_aifsm.backends import nncf
from mlflow_aifsm.backends.nncf_statistics import Collected, collecting
from mlflow_aifsm.backends.quantized import Quantized
from mlflow_aifsm.capture import quantizers
from mlflow_aifsm.capture.quantizer import WEIGHT
from mlflow_aifsm.facts import Fact, captured, not_applicable
from mlflow_aifsm.hooks.arguments import told
from mlflow_aifsm.hooks.external import ExternalRecording
from mlflow_aifsm.operations.outcome import Outcome, Task
from mlflow_aifsm.operations.verbatim import NNCF_PACKAGES, nncf_bias, nncf_outcome

PARAMETERS = {"advanced_quantization_parameters": "advanced_parameters"}
"""Arguments that ``nncf.quantize_with_accuracy_control`` has under another name than ``nncf.quantize``."""
OBJECTS = ("model", "calibration_dataset", "validation_dataset", "dataset")
"""Arguments that are no settings."""


def unset() -> dict[str, Any]:
    """What NNCF takes for an argument that is None."""
    return dict.fromkeys(("advanced_parameters", "advanced_quantization_parameters"), AdvancedQuantizationParameters())


def quantized(log: ExternalRecording, call: Call) -> Generator[None, None, None]:
    """Records ``nncf.quantize`` and ``nncf.quantize_with_accuracy_control``: its samples are watched while NNCF reads."""
    arguments = call.arguments
    given = FloatFile.of(arguments["model"])
    given.enter(log)
    data, subset = arguments["calibration_dataset"], arguments["subset_size"]
    watched = given.watched(data)
    call.hand_over("calibration_dataset", dataset(data, watched))
    known = data.get_length()
    with collecting(subset if known is None else min(known, subset)) as collected:
        yield
    settings = call.settings(OBJECTS, unset())
    named = {PARAMETERS.get(name, name): value for name, value in settings[0].items()}
    done = Quantized(written(call.result), call.function, named, dict(settings[1]))
    log.note(*watched.notes)
    if watched.problem:
        words, short = nncf.estimator(named)
        outcome = unwatched(done, "NNCF", NNCF_PACKAGES, unread(call.function, words, short, watched), nncf_bias(done))
        deliver(log, call, given, outcome, None, settings)
        return
    deliver(log, call, given, _outcome(given, watched, subset, done, collected), watched.samples, settings)


def _outcome(given: FloatFile, watched: Watched, subset: int, done: Quantized, collected: Collected) -> Outcome:
    batch = watched.batch
    batches = f"a sample of NNCF's is a batch of {batch} here" if batch > 1 else ""
    return nncf_outcome(Task(given.path, watched.samples, subset * batch), watched.seen, done, collected, batches)


def compressed(log: ExternalRecording, call: Call) -> Generator[None, None, None]:
    """Records ``nncf.compress_weights``; the precision that its mode asks for stands beside the one that is found."""
    arguments = call.arguments
    given = FloatFile.of(arguments["model"])
    given.enter(log)
    data = arguments["dataset"]
    watched = None if data is None else given.watched(data)
    if watched is not None:
        call.hand_over("dataset", dataset(data, watched))
    yield
    settings = call.settings(OBJECTS, {})
    done = Quantized(written(call.result), call.function, dict(settings[0]), dict(settings[1]))
    samples = watched.samples if watched is not None and not watched.problem else None
    reason = "no calibration: activations stay in floating point"
    reason += f"; the weights were chosen on data: {samples.describe()}" if samples is not None else ""
    method = not_applicable("calibration.method", reason, source=f"call of {call.function}")
    none = captured(
        "recovery.bias_correction", f"No bias correction: {call.function} has none", source=call.function, short="none"
    )
    outcome = unwatched(done, "NNCF", NNCF_PACKAGES, method, none, *asked(arguments, call.function, _types(done)))
    deliver(log, call, given, outcome, samples, settings)


def asked(arguments: Mapping[str, Any], function: str, found: Collection[str] = ()) -> tuple[Fact, ...]:
    """``asked.precision`` and ``asked.technique`` of ``nncf.compress_weights``; of a mode without integers the latter alone.

    NNCF keeps some layers in its backup precision unless ``all_layers`` says otherwise, and with a ``ratio`` it is asked to;
    then it is enough that some weights have the type.

    Args:
        arguments: Arguments of the call.
        function: Its name.
        found: Types of the weights in the file.
    """
    source, mode = f"arguments of {function}", str(told(arguments["mode"]))
    technique = captured("asked.technique", "weight quantization", "weight quantization", source=source)
    word, _, scheme = mode.partition("_")
    if not word.startswith("int"):
        return (technique,)
    name = f"{'u' if scheme.startswith('asym') else ''}{word}"
    every = bool(arguments["all_layers"]) and arguments["ratio"] in (None, 1)
    compared = {"weights": [name]} if every or name not in found else None
    return (captured("asked.precision", f"weights {name} (mode {mode})", compared, source=source), technique)


def _types(done: Quantized) -> set[str]:
    return {row.dtype for row in quantizers.read(done.path) if row.kind == WEIGHT}
