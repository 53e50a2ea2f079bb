"""``NNCF`` and ``ORT``: a tool's own call with its own keywords, its calibration, and what the samples it read were."""

from __future__ import annotations

from dataclasses import fields
from importlib.metadata import version
from typing import Any

from mlflow_aifsm.backends import nncf, onnxruntime
from mlflow_aifsm.backends.quantized import Quantized
from mlflow_aifsm.calibration.claims import claimed, recognised
from mlflow_aifsm.calibration.facts import method_fact
from mlflow_aifsm.calibration.observer import observe
from mlflow_aifsm.calibration.reading import Reading
from mlflow_aifsm.capture import quantizers
from mlflow_aifsm.capture.activations import activations
from mlflow_aifsm.capture.quantizer import ACTIVATION
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact, Finding, captured
from mlflow_aifsm.operations.outcome import Outcome, Task, uncorrected
from mlflow_aifsm.operations.quantization import NNCF, ORT
from mlflow_aifsm.samples import Samples
from mlflow_aifsm.verification.session import OnnxSession

NNCF_PACKAGES = ("nncf", "onnx", "onnxruntime")
ORT_PACKAGES = ("onnxruntime", "onnx")

METHODS = {
    "MinMax": ("min_max", "Minimum and maximum value seen during calibration"),
    "Entropy": ("entropy", "Entropy (KL divergence), as asked of ONNX Runtime"),
    "Percentile": ("percentile", "Percentile of the distribution of absolute values"),
    "Distribution": ("distribution", "Distribution (for 8-bit floating point), as asked of ONNX Runtime"),
}
"""Calibration methods of ONNX Runtime: the log's word, and its phrase."""


def quantize_nncf(task: Task, config: NNCF) -> Outcome:
    """Calls ``nncf.quantize`` as ``config`` says.

    Raises:
        InputError: If samples are missing or do not fit, or a keyword is none of NNCF's.
        OptimizationError: If NNCF refuses.
    """
    reading, session = _reading(task)
    keywords = {setting.name: getattr(config, setting.name) for setting in fields(config)}
    keywords["subset_size"] = -(-config.subset_size // (session.fixed_batch or 1))  # NNCF counts batches
    done = nncf.quantize(task.path, reading, keywords)
    words, short = nncf.estimator(done.arguments)
    if session.fixed_batch not in (None, 1):
        words += f"; a sample is a batch of {session.fixed_batch} here, which the model fixes"
    facts = (_method(task, reading, words, short, done), nncf_bias(done))
    return Outcome(done, f"NNCF {version('nncf')}", NNCF_PACKAGES, facts)


def quantize_ort(task: Task, config: ORT) -> Outcome:
    """Calls ``onnxruntime.quantization.quantize_static`` as ``config`` says.

    Where it was asked for another method than minimum and maximum, the samples are read once more, to see whether the ranges
    in the file are what was asked for.

    Raises:
        InputError: If samples are missing or do not fit, or a keyword is none of ONNX Runtime's.
        OptimizationError: If ONNX Runtime refuses.
    """
    reading, _ = _reading(task)
    keywords = {setting.name: getattr(config, setting.name) for setting in fields(config)}
    done = onnxruntime.static(task.path, reading, keywords)
    asked = str(done.arguments["calibrate_method"])
    short, words = METHODS.get(asked, (asked.lower(), asked))
    options = {name: value for name, value in (config.extra_options or {}).items() if name.startswith("Calib")}
    words += f", with {', '.join(f'{name}={value}' for name, value in options.items())}" if options else ""
    found = _checked(task, done, short) if short != "min_max" or options else None
    facts = (_method(task, reading, words, short, done, [found] if found else []), uncorrected())
    return Outcome(done, f"ONNX Runtime {version('onnxruntime')}", ORT_PACKAGES, facts)


def nncf_bias(done: Quantized) -> Fact:
    """``recovery.bias_correction`` of a call of NNCF, as its resolved arguments tell."""
    advanced = done.arguments.get("advanced_parameters") or {}
    if isinstance(advanced, dict) and advanced.get("disable_bias_correction"):
        text, short = "No bias correction: disabled in the call of NNCF", "none"
    elif done.arguments.get("fast_bias_correction", True):
        text, short = "NNCF's fast bias correction (its default)", "nncf_fast"
    else:
        text, short = "NNCF's bias correction", "nncf"
    return captured("recovery.bias_correction", text, {"method": short}, source=f"arguments of {done.function}", short=short)


def samples_of(task: Task) -> Samples:
    """The calibration samples of a task that needs some.

    Raises:
        InputError: If there are none.
    """
    if task.samples is None:
        raise InputError("no calibration data", expected="data for static quantization", remedy="pass data=, or use Dynamic()")
    return task.samples


def _reading(task: Task) -> tuple[Reading, OnnxSession]:
    session = OnnxSession(task.path)
    return Reading(samples_of(task), session), session


def _method(
    task: Task, reading: Reading, words: str, short: str, done: Quantized, findings: list[Finding] | None = None
) -> Fact:
    samples = samples_of(task)
    source = f"arguments of {done.function}, and the samples it read"
    fact = method_fact(words, short, reading.seen, samples, task.asked, preprocess=samples.preprocessing, source=source)
    return captured(
        fact.name, fact.value.text, fact.value.data, source=source, short=short, findings=[*fact.findings, *(findings or [])]
    )


def _checked(task: Task, done: Quantized, method: str) -> Finding | None:
    """The finding that the ranges in the file are those of another method than the claimed one."""
    observed = activations(task.path, onnxruntime.QUANTIZABLE).observed
    observation = observe(task.path, observed, samples_of(task))
    rows = [row for row in quantizers.read(done.path) if row.kind == ACTIVATION and len(row.scale) == 1]
    known: dict[str, Any] = {row.label: row for row in rows if row.label in observation.tensors}
    ranges = {name: (row.beta[0], row.alpha[0]) for name, row in known.items()}
    steps = {name: row.scale[0] for name, row in known.items()}
    return claimed(method, recognised(observation, ranges, steps, method), len(known))
