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
from mlflow_aifsm.capture import float_layers, quantizers
from mlflow_aifsm.capture.activations import activations
from mlflow_aifsm.capture.layer_names import selected
from mlflow_aifsm.capture.onnx_graph import opened
from mlflow_aifsm.capture.quantizer import ACTIVATION
from mlflow_aifsm.facts import Fact, Finding, captured
from mlflow_aifsm.operations.asked import asked
from mlflow_aifsm.operations.judgement import Judge
from mlflow_aifsm.operations.outcome import Outcome, Task, kept_reasons
from mlflow_aifsm.operations.quantization import ACTIVATIONS, WEIGHTS, Static
from mlflow_aifsm.operations.recovery import BIAS, missed
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
    reasons = kept_reasons(kept)
    making = _Making(task, config, tuple(reasons), _observed(task, config))
    done, bias = making.best()
    estimates = making.held(done.path)
    facts = (*_calibration(task, config, making, estimates), bias, *asked(config, by_sign=True))
    tables = {"calibration": table(estimates), "distributions": distributions(making.seen.observation.tensors, estimates)}
    framework, findings = f"NNCF {version('nncf')}", making.findings(done.path)
    return Outcome(done, framework, NNCF_PACKAGES, facts, tables, reasons, tuple(reasons), findings=findings)


@dataclass(frozen=True, slots=True)
class _Observed:
    observation: Observation
    estimates: dict[str, Estimate]
    standing: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Making:
    """Makes files of one task with NNCF, each with the ranges that were asked for."""

    task: Task
    config: Static
    in_float: tuple[str, ...]
    seen: _Observed

    def best(self) -> tuple[Quantized, Fact]:
        """The file with or without NNCF's bias correction, or the better one of both on the calibration samples."""
        if self.config.bias_correction != "auto":
            done = self._made(correct=self.config.bias_correction is not False)
            return done, self._bias(done)
        judge = self._judge()
        both = {word: self._made(correct=word == "with") for word in ("with", "without")}
        judged = {word: judge.judge(done.path) for word, done in both.items()}
        chosen = min(judged, key=lambda word: judged[word].rank)
        fact = self._bias(both[chosen])
        compared = "; ".join(f"{word} it {judgement.text}" for word, judgement in judged.items())
        data = {"asked": "auto", "judged": {word: judgement.data for word, judgement in judged.items()}}
        text = f"{fact.value.text}; measured on the calibration samples, {compared}"
        return both[chosen], captured(BIAS, text, data, source=fact.source.origin, short=fact.value.brief)

    def findings(self, path: Path) -> tuple[Finding, ...]:
        """Whether the file misses the target of accuracy on the calibration samples."""
        target = self.config.accuracy_target
        if target is None:
            return ()
        file = opened(path)
        left = float_layers.float_layers(file, quantizers.read(file))[0].value.data or []
        return missed(self._judge().judge(path), len(left), target)

    def held(self, path: Path) -> dict[str, Estimate]:
        """Those estimates that a quantizer with one scale holds in the file."""
        rows = [row for row in quantizers.read(path) if row.kind == ACTIVATION and len(row.scale) == 1]
        names = {row.label for row in rows} | {self.seen.standing.get(row.label, "") for row in rows}
        return {name: one for name, one in self.seen.estimates.items() if name in names}

    def _judge(self) -> Judge:
        return Judge(self.task.path, samples_of(self.task))

    def _bias(self, done: Quantized) -> Fact:
        fact = nncf_bias(done)
        if not self.written or fact.value.brief == "none":
            return fact
        return replace(fact, value=replace(fact.value, text=f"{fact.value.text}, computed for NNCF's own ranges"))

    def _made(self, *, correct: bool) -> Quantized:
        """A file as NNCF makes it, and with our ranges written into it where it has no such estimator."""
        keywords = _keywords(self.config, self.in_float, correct=correct)
        size = OnnxSession(self.task.path).fixed_batch or 1
        keywords["subset_size"] = -(-self.config.subset_size // size)  # NNCF counts batches
        reading = Reading(samples_of(self.task), OnnxSession(self.task.path))
        if self.config.accuracy_target is None:
            return self._ranged(nncf.quantize(self.task.path, reading, keywords))
        judge = self._judge()

        def accuracy(path: Path) -> float:
            return 1 - (judge.judge(path).drop or 0.0)

        return self._ranged(nncf.controlled(self.task.path, reading, accuracy, self.config.accuracy_target, keywords))

    @property
    def written(self) -> dict[str, tuple[float, float]]:
        """Ranges that NNCF does not find: those of an estimator that it lacks, or that must not be used for a tensor."""
        own = self.config.ranges not in NATIVE
        return {name: (one.low, one.high) for name, one in self.seen.estimates.items() if own or one.note}

    def _ranged(self, done: Quantized) -> Quantized:
        return replace(done, path=with_ranges(done.path, self.written)[0]) if self.written else done


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


def _observed(task: Task, config: Static) -> _Observed:
    found = activations(task.path, onnxruntime.QUANTIZABLE)
    with progress("calibrating") as shown:
        observation = observe(task.path, found.observed, samples_of(task), shown)
    return _Observed(observation, estimate(observation, config.ranges, _grid(config), config.percentile), found.standing)


def _calibration(task: Task, config: Static, making: _Making, estimates: Mapping[str, Estimate]) -> tuple[Fact, ...]:
    samples, phrase = samples_of(task), words(config.ranges, _grid(config), config.percentile)
    how = "found by NNCF; the table has this tool's own, by the same definition"
    if config.ranges not in NATIVE:
        how = "NNCF has no such estimator, so the ranges were written into the file that it placed"
    elif estimates.keys() & making.written.keys():
        how += ", and those with another method were written into the file"
    fact = method_fact(
        f"{phrase}; {how}",
        config.ranges,
        making.seen.observation.seen,
        samples,
        task.asked,
        preprocess=samples.preprocessing,
        estimates=estimates,
    )
    return (fact, clip_fact(estimates)) if estimates else (fact,)


def _grid(config: Static) -> Grid:
    return Grid(256, symmetric=config.schemes[ACTIVATIONS] == "symmetric")
