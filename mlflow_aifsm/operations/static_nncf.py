"""``Static`` on NNCF: its placement, and its ranges where it has the same estimator; else ours, written into its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlflow_aifsm.backends import nncf, onnxruntime
from mlflow_aifsm.backends.quantized import Quantized
from mlflow_aifsm.backends.ranges import with_ranges
from mlflow_aifsm.calibration.estimators import Estimate, estimate
from mlflow_aifsm.calibration.facts import clip_fact, distributions, method_fact, table, words
from mlflow_aifsm.calibration.observer import Observation, observe
from mlflow_aifsm.calibration.reading import Reading
from mlflow_aifsm.calibration.statistics import Grid
from mlflow_aifsm.capture.activations import activations
from mlflow_aifsm.capture.layer_names import selected
from mlflow_aifsm.capture.onnx_graph import opened
from mlflow_aifsm.errors import OptimizationError
from mlflow_aifsm.facts import Fact, captured
from mlflow_aifsm.operations.asked import asked
from mlflow_aifsm.operations.judgement import Judge
from mlflow_aifsm.operations.outcome import Outcome, Task
from mlflow_aifsm.operations.quantization import ACTIVATIONS, WEIGHTS, Static
from mlflow_aifsm.operations.recovery import BIAS
from mlflow_aifsm.operations.verbatim import NNCF_PACKAGES, nncf_bias, samples_of
from mlflow_aifsm.progress import progress
from mlflow_aifsm.verification.session import OnnxSession

PRESETS = {"symmetric": "performance", "asymmetric": "mixed"}
"""NNCF's words for the scheme of activations."""

NATIVE: Mapping[str, dict[str, Any]] = {
    "mean_min_max": {},
    "min_max": {
        "min": {"statistics_type": "min", "aggregator_type": "min"},
        "max": {"statistics_type": "max", "aggregator_type": "max"},
    },
}
"""Estimators that NNCF has in the same form: over all samples, not over batches."""


def quantize(task: Task, config: Static) -> Outcome:
    """Makes the file that ``config`` describes.

    Raises:
        InputError: If samples are missing or do not fit, or a pattern names no layer.
        OptimizationError: If NNCF refuses.
    """
    kept = selected(opened(task.path), config.keep_float, "keep_float")
    reasons = {name: f"keep_float names it ({pattern})" for pattern, names in kept.items() for name in names}
    reading = Reading(samples_of(task), OnnxSession(task.path))
    done, bias = _best(task, config, tuple(reasons), reading)
    framework = f"NNCF {version('nncf')}"
    if config.ranges in NATIVE:
        return Outcome(
            done, framework, NNCF_PACKAGES, (_native(task, config, done, reading), bias, *asked(config)), reasons=reasons
        )
    seen = _observed(task, config)
    path, written = with_ranges(done.path, {name: (one.low, one.high) for name, one in seen.estimates.items()})
    estimates = {name: one for name, one in seen.estimates.items() if name in written}
    if not estimates:
        raise OptimizationError("nncf placed no quantizer of an activation", expected="a layer that it quantizes")
    facts = (*_ours(task, config, seen, estimates), bias, *asked(config))
    tables = {"calibration": table(estimates), "distributions": distributions(seen.observation, estimates)}
    return Outcome(replace(done, path=path), framework, NNCF_PACKAGES, facts, tables, reasons)


@dataclass(frozen=True, slots=True)
class _Observed:
    observation: Observation
    estimates: dict[str, Estimate]


def _best(task: Task, config: Static, in_float: tuple[str, ...], reading: Reading) -> tuple[Quantized, Fact]:
    """The file with or without NNCF's bias correction, or the better one of both on the calibration samples."""
    if config.bias_correction != "auto":
        done = _made(task, config, in_float, reading, correct=config.bias_correction is not False)
        return done, nncf_bias(done)
    judge = Judge(task.path, samples_of(task))
    both = {word: _made(task, config, in_float, reading, correct=word == "with") for word in ("with", "without")}
    judged = {word: judge.judge(done.path) for word, done in both.items()}
    chosen = min(judged, key=lambda word: judged[word].rank)
    fact = nncf_bias(both[chosen])
    compared = "; ".join(f"{word} it {judgement.text}" for word, judgement in judged.items())
    data = {"asked": "auto", "judged": {word: judgement.data for word, judgement in judged.items()}}
    text = f"{fact.value.text}; measured on the calibration samples, {compared}"
    return both[chosen], captured(BIAS, text, data, source=fact.source.origin, short=fact.value.brief)


def _made(task: Task, config: Static, in_float: tuple[str, ...], reading: Reading, *, correct: bool) -> Quantized:
    keywords = _keywords(config, in_float, correct=correct)
    keywords["subset_size"] = -(-config.subset_size // (OnnxSession(task.path).fixed_batch or 1))  # NNCF counts batches
    if config.accuracy_target is None:
        return nncf.quantize(task.path, reading, keywords)
    judge = Judge(task.path, samples_of(task))

    def accuracy(path: Path) -> float:
        return 1 - (judge.judge(path).drop or 0.0)

    return nncf.controlled(task.path, reading, accuracy, config.accuracy_target, keywords)


def _keywords(config: Static, in_float: tuple[str, ...], *, correct: bool) -> dict[str, Any]:
    advanced: dict[str, Any] = {
        "disable_bias_correction": not correct,
        "weights_quantization_params": {"per_channel": config.granularities[WEIGHTS] == "channel"},
        "activations_range_estimator_params": NATIVE.get(config.ranges, {}),
    }
    if config.granularities[ACTIVATIONS] == "layer":
        advanced["activations_quantization_params"] = {"per_channel": False}
    return {
        "preset": PRESETS[config.schemes[ACTIVATIONS]],
        "ignored_scope": {"names": list(in_float)} if in_float else None,
        "advanced_parameters": {name: value for name, value in advanced.items() if value != {}},
    }


def _native(task: Task, config: Static, done: Quantized, reading: Reading) -> Fact:
    samples = samples_of(task)
    phrase = f"{words(config.ranges, _grid(config), config.percentile)}; found by NNCF"
    source = f"arguments of {done.function}, and the samples it read"
    return method_fact(
        phrase, config.ranges, reading.seen, samples, task.asked, preprocess=samples.preprocessing, source=source
    )


def _observed(task: Task, config: Static) -> _Observed:
    found = activations(task.path, onnxruntime.QUANTIZABLE)
    with progress("calibrating") as shown:
        observation = observe(task.path, found.observed, samples_of(task), shown)
    return _Observed(observation, estimate(observation, config.ranges, _grid(config), config.percentile))


def _ours(task: Task, config: Static, seen: _Observed, estimates: Mapping[str, Estimate]) -> tuple[Fact, ...]:
    samples, phrase = samples_of(task), words(config.ranges, _grid(config), config.percentile)
    return (
        method_fact(
            f"{phrase}; NNCF has no such estimator, so the ranges were written into the file that it placed",
            config.ranges,
            seen.observation.seen,
            samples,
            task.asked,
            preprocess=samples.preprocessing,
            estimates=estimates,
        ),
        clip_fact(estimates),
    )


def _grid(config: Static) -> Grid:
    return Grid(256, symmetric=config.schemes[ACTIVATIONS] == "symmetric")
