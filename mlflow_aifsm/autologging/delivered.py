"""The end of a recorded call that made an ONNX file: the same measurements, and the same rows, as the verbs give."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

from mlflow_aifsm.autologging.call import Call
from mlflow_aifsm.autologging.float_file import FloatFile
from mlflow_aifsm.autologging.watched import Watched
from mlflow_aifsm.backends.quantized import Quantized
from mlflow_aifsm.calls import call_fact
from mlflow_aifsm.capture.onnx_graph import file_set
from mlflow_aifsm.digests import set_digest
from mlflow_aifsm.facts import Fact, Json, captured
from mlflow_aifsm.operations import delivery, quantize_step
from mlflow_aifsm.operations.delivery import Made
from mlflow_aifsm.operations.outcome import Outcome
from mlflow_aifsm.operations.steps import Step
from mlflow_aifsm.recording import Recording
from mlflow_aifsm.samples import Samples

Settings = tuple[Mapping[str, Json], Mapping[str, Json]]
"""The arguments of a call, and those that are not its defaults."""


def deliver(log: Recording, call: Call, given: FloatFile, done: Outcome, samples: Samples | None, settings: Settings) -> None:
    """Measures the file that a quantization made, and tells the log what is known of the making.

    Args:
        log: The log.
        call: The call.
        given: What went in.
        done: What was made.
        samples: The samples that were read; None where there were none, or they are not known.
        settings: Arguments of the call.
    """
    quantize_step.enter(log, done, samples)
    made = call_fact(log.source, quantize_step.CALL, call.function, *settings)
    digest = set_digest(file_set(done.quantized.path))
    steps = [given.start.step, Step("quantize", call.function, 1, digest, made)]
    delivery.deliver(log, given.start, Made(done, given.path), given.path, (), steps)


def unwatched(done: Quantized, package: str, packages: tuple[str, ...], method: Fact, *others: Fact) -> Outcome:
    """The outcome of a call whose samples are not known, or that reads none.

    Args:
        done: The file, and the call.
        package: The tool, as it is named.
        packages: Packages it depends on directly.
        method: What is known of its calibration.
        *others: What else is known.
    """
    return Outcome(done, f"{package} {version(packages[0])}", packages, (method, *others))


def unread(function: str, words: str, short: str, watched: Watched | None) -> Fact:
    """``calibration.method`` where the method is known, and the samples are not."""
    why = watched.problem if watched is not None else "the call got none"
    text = f"{words}; on which samples is not known: {why}"
    return captured("calibration.method", text, {"method": short}, source=f"arguments of {function}", short=short)
