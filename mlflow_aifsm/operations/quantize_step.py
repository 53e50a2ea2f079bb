"""The step that quantizes a float file, with what it leaves in the log."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import onnx

from mlflow_aifsm.backends.graph_rewrites import named
from mlflow_aifsm.backends.quantized import plain, saved
from mlflow_aifsm.calls import call_fact
from mlflow_aifsm.capture.environment import package_fact
from mlflow_aifsm.capture.onnx_graph import opened
from mlflow_aifsm.facts import Fact, Json, captured
from mlflow_aifsm.operations import support
from mlflow_aifsm.operations.found import looked_up
from mlflow_aifsm.operations.outcome import Outcome, Task
from mlflow_aifsm.operations.quantization import NNCF, ORT, Quantization
from mlflow_aifsm.recording import Recording
from mlflow_aifsm.samples import Samples
from mlflow_aifsm.verification.session import OnnxSession

CALL = "quantization.call"


def quantized(log: Recording, given: Path, samples: Samples | None, config: Quantization) -> tuple[Outcome, Fact]:
    """Quantizes ``given``; what is known of the making goes to the log at once.

    Args:
        log: The log.
        given: The float file.
        samples: Calibration data; None where the config reads none.
        config: What is asked.

    Returns:
        What was made, and the fact that holds the call.

    Raises:
        InputError: If data or model do not fit.
        OptimizationError: If the tool refuses.
    """
    session, path = OnnxSession(given), _prepared(given)
    asked = getattr(config, "subset_size", 0)
    used = None if samples is None else _whole(samples.first(asked) if asked else samples, session.fixed_batch or 1)
    done = support.method(config)(Task(path, used, asked or (used.count if used else 0)), config)
    enter(log, done, used)
    made = done.quantized
    return done, call_fact(log.source, CALL, made.function, made.arguments, made.shown, replay(config), told(config))


def enter(log: Recording, done: Outcome, used: Samples | None) -> None:
    """Hands to the log what is known of the making.

    Args:
        log: The log.
        done: What was made.
        used: The samples that were read; None where there were none.
    """
    log.add(captured("quantization.framework", done.framework, done.framework.split()[-1], source="installed packages"))
    log.add(package_fact("quantization.packages", done.packages), *done.facts)
    if used is not None:
        log.data(used.name, used.digest, "calibration", used.sample_digests)
    log.note(*done.notes)
    log.tables(done.tables)


def found(log: Recording, done: Outcome) -> list[Fact]:
    """What was asked of single layers, looked up on the delivered file."""
    return looked_up(log.facts, opened(done.quantized.path), done, log.table("quantizers"))


def told(config: Any) -> str:
    """What was asked, without what is a default; a tool's own keywords tell themselves."""
    if isinstance(config, NNCF | ORT):
        return ""
    usual = type(config)()
    given = {setting.name: getattr(config, setting.name) for setting in fields(config)}
    said = ", ".join(f"{name}={value!r}" for name, value in given.items() if value != getattr(usual, name))
    return f"{type(config).__name__}({said})"


def replay(config: Any) -> dict[str, Json]:
    """What asks for the same again: kind of the config and its settings."""
    return {
        "kind": type(config).__name__,
        "settings": {setting.name: plain(getattr(config, setting.name)) for setting in fields(config)},
    }


def _whole(samples: Samples, size: int) -> Samples:
    """The samples that fill batches of ``size``, the number that the model fixes: tools drop the rest, or pad it."""
    return samples if size == 1 else samples.first(max(samples.count // size, 1) * size)


def _prepared(path: Path) -> Path:
    """The file with a name for every node; the file itself where all have one."""
    model = onnx.load(path, load_external_data=False)
    return path if all(node.name for node in model.graph.node) else saved(named(onnx.load(path)))
