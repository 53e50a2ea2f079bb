"""``NNCF`` and ``ORT``: a tool's own call with its own keywords, its calibration, and what the samples it read were.

The ranges in the tables are the tool's own, as its calibration gave them to its quantizer. What they do to the values is
counted here: with NNCF while it reads them, with ONNX Runtime on the same samples afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from typing import Any, Protocol

from mlflow_aifsm.backends import nncf, onnxruntime
from mlflow_aifsm.backends.nncf_statistics import Collected, collecting
from mlflow_aifsm.backends.quantized import Quantized
from mlflow_aifsm.calibration.claims import claimed, recognised
from mlflow_aifsm.calibration.estimators import Estimate
from mlflow_aifsm.calibration.facts import clip_fact, distributions, method_fact, table
from mlflow_aifsm.calibration.observer import Observation, observe
from mlflow_aifsm.calibration.reading import Reading, Seen
from mlflow_aifsm.calibration.statistics import TensorStatistics
from mlflow_aifsm.calibration.told import Told, judged
from mlflow_aifsm.capture import quantizers
from mlflow_aifsm.capture.activations import activations
from mlflow_aifsm.capture.quantizer import ACTIVATION, Quantizer
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact, Finding, Json, captured
from mlflow_aifsm.operations.onnxruntime_methods import asked_of_onnxruntime
from mlflow_aifsm.operations.outcome import Outcome, Rows, Task, uncorrected
from mlflow_aifsm.operations.quantization import NNCF, ORT
from mlflow_aifsm.progress import progress
from mlflow_aifsm.samples import Samples
from mlflow_aifsm.verification.session import OnnxSession

NNCF_PACKAGES = ("nncf", "onnx", "onnxruntime")
ORT_PACKAGES = ("onnxruntime", "onnx")


@dataclass(frozen=True, slots=True, eq=False)
class _Counted:
    """What the tool's ranges do to the calibration values.

    Attributes:
        how: Where the values were counted, in words.
        tensors: Statistics of the values.
        estimates: The tool's ranges that quantizers of the file hold.
        findings: What is wrong with them.
        notes: Why there are none, or not all.
    """

    how: str
    tensors: Mapping[str, TensorStatistics]
    estimates: Mapping[str, Estimate]
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def tables(self) -> dict[str, Rows]:
        """Tables of the log; none where nothing was counted."""
        if not self.estimates:
            return {}
        return {"calibration": table(self.estimates), "distributions": distributions(self.tensors, self.estimates)}


class Called(Protocol):
    """A call: its function, and its arguments with resolved defaults."""

    @property
    def function(self) -> str:
        """The function, with its module."""

    @property
    def arguments(self) -> Mapping[str, Json]:
        """Its arguments."""


def quantize_nncf(task: Task, config: NNCF) -> Outcome:
    """Calls ``nncf.quantize`` as ``config`` says.

    Raises:
        InputError: If samples are missing or do not fit, or a keyword is none of NNCF's.
        OptimizationError: If NNCF refuses.
    """
    reading, session = _reading(task)
    keywords = {setting.name: getattr(config, setting.name) for setting in fields(config)}
    keywords["subset_size"] = -(-config.subset_size // (session.fixed_batch or 1))  # NNCF counts batches
    known = samples_of(task).expected
    read = config.subset_size if known is None else min(known, config.subset_size)
    with collecting(read // (session.fixed_batch or 1)) as collected:
        done = nncf.quantize(task.path, reading, keywords)
    fixed = session.fixed_batch or 1
    batches = f"a sample is a batch of {fixed} here, which the model fixes" if fixed > 1 else ""
    return nncf_outcome(task, reading.seen, done, collected, batches)


def nncf_outcome(task: Task, seen: Seen, done: Quantized, collected: Collected, batches: str = "") -> Outcome:
    """What is known of a call of NNCF that quantized an ONNX graph.

    Args:
        task: The float file, and the samples that were read.
        seen: What was seen of the samples while they were read.
        done: The file, and the call.
        collected: What was counted while NNCF read the samples.
        batches: What NNCF takes for a sample, where that is more than one.
    """
    words, short = nncf.estimator(done.arguments)
    counted = _while_nncf_read(done, collected, short)
    phrase = f"{words}; {batches}" if batches else words
    facts = (*_calibration(task, seen, phrase, short, done, counted), nncf_bias(done))
    return Outcome(done, f"NNCF {version('nncf')}", NNCF_PACKAGES, facts, counted.tables, notes=counted.notes)


def quantize_ort(task: Task, config: ORT) -> Outcome:
    """Calls ``onnxruntime.quantization.quantize_static`` as ``config`` says.

    The samples are read once more, to see what the ranges do to the values, and whether they are what was asked for.

    Raises:
        InputError: If samples are missing or do not fit, or a keyword is none of ONNX Runtime's.
        OptimizationError: If ONNX Runtime refuses.
    """
    reading, _ = _reading(task)
    keywords = {setting.name: getattr(config, setting.name) for setting in fields(config)}
    done, ranges = onnxruntime.static(task.path, reading, keywords)
    return onnxruntime_outcome(task, reading.seen, done, ranges)


def onnxruntime_outcome(task: Task, seen: Seen, done: Quantized, ranges: onnxruntime.Ranges) -> Outcome:
    """What is known of a call of ``quantize_static``.

    Args:
        task: The float file, and the samples that were read; they are read once more.
        seen: What was seen of the samples while they were read.
        done: The file, and the call.
        ranges: What its calibration found, by tensor.
    """
    short, words = asked_of_onnxruntime(done)
    counted = _after_onnxruntime(task, done, ranges, short)
    facts = (*_calibration(task, seen, words, short, done, counted), uncorrected())
    return Outcome(done, f"ONNX Runtime {version('onnxruntime')}", ORT_PACKAGES, facts, counted.tables, notes=counted.notes)


def nncf_bias(done: Called) -> Fact:
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


def _calibration(task: Task, seen: Seen, words: str, short: str, done: Quantized, counted: _Counted) -> tuple[Fact, ...]:
    samples = samples_of(task)
    source = f"arguments of {done.function}, and the samples it read"
    phrase = "; ".join(filter(None, (words, counted.how)))
    fact = method_fact(
        phrase,
        short,
        seen,
        samples,
        task.asked,
        preprocess=samples.preprocessing,
        estimates=counted.estimates,
        source=source,
    )
    found = replace(fact, findings=(*fact.findings, *counted.findings))
    return (found, clip_fact(counted.estimates, source)) if counted.estimates else (found,)


def _while_nncf_read(done: Quantized, collected: Collected, method: str) -> _Counted:
    tensors = collected.tensors
    levels = {row.label: row.levels for row in _rows(done)}
    estimates = judged(tensors, collected.told, levels, method)
    notes = [f"Activation '{name}' was not counted: {why}." for name, why in collected.uncounted.items()]
    if collected.problem or (not estimates and levels):
        why = collected.problem or "it did not call what was watched"
        notes += [f"NNCF {version('nncf')} did not show what it calibrated with, so clipped values were not counted: {why}."]
    apart = len(collected.by_channel)
    share = f"{collected.counted:,} of {collected.read:,} samples"
    parts = [f"values outside counted in {share} while NNCF read them, extremes in all"] if estimates else []
    parts += (
        [f"values of {apart} activation{'s' if apart > 1 else ''} with a range for each channel not counted"] if apart else []
    )
    return _Counted("; ".join(parts), tensors, estimates, (), tuple(notes))


def _after_onnxruntime(task: Task, done: Quantized, ranges: onnxruntime.Ranges, method: str) -> _Counted:
    """The ranges of the file, tried on the same samples; where a Relu or Clip was taken out, its output is what counts."""
    found = activations(task.path, onnxruntime.QUANTIZABLE)
    known = {found.standing.get(row.label, row.label): row for row in _rows(done)}
    held = {name: row for name, row in known.items() if name in ranges and name in found.observed}
    if not held:
        return _Counted("no activation of the file has a quantizer", {}, {})
    try:
        with progress("counting") as shown:
            observation = observe(task.path, tuple(held), samples_of(task), shown)
    except InputError as error:
        return _Counted("", {}, {}, (), (f"Values outside the ranges were not counted: {error}",))
    told = {name: Told.of(*ranges[name], symmetric=_symmetric(done, name)) for name in held}
    estimates = judged(observation.tensors, told, {name: row.levels for name, row in held.items()}, method)
    how = "values outside counted on the same samples afterwards"
    return _Counted(how, observation.tensors, estimates, _claim(method, observation, held))


def _rows(done: Quantized) -> Sequence[Quantizer]:
    """Activations with one scale."""
    return [row for row in quantizers.read(done.path) if row.kind == ACTIVATION and len(row.scale) == 1]


def _symmetric(done: Quantized, tensor: str) -> bool:
    options: dict[str, Any] = done.arguments.get("extra_options") or {}
    overrides = (options.get("TensorQuantOverrides") or {}).get(tensor) or [{}]
    return bool(overrides[0].get("symmetric", options.get("ActivationSymmetric", False)))


def _claim(method: str, observation: Observation, held: Mapping[str, Quantizer]) -> tuple[Finding, ...]:
    """The finding that the ranges in the file are those of another method than the claimed one."""
    ranges = {name: (row.beta[0], row.alpha[0]) for name, row in held.items()}
    steps = {name: row.scale[0] for name, row in held.items()}
    finding = claimed(method, recognised(observation, ranges, steps, method), len(held))
    return () if finding is None else (finding,)
