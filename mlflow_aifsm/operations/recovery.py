"""Accuracy won back without training: layers that stay in float, and biases that make up for mean errors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from mlflow_aifsm.backends.quantized import Quantized
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact, Finding, captured
from mlflow_aifsm.operations.bias_correction import Corrected, corrected
from mlflow_aifsm.operations.judgement import Judge, Judgement
from mlflow_aifsm.operations.quantization import Static
from mlflow_aifsm.operations.sensitivity import Kept, kept_in_float, ranked
from mlflow_aifsm.progress import progress
from mlflow_aifsm.samples import Samples

RANKING = 32
"""Samples that tell sensitive layers from others."""
BIAS = "recovery.bias_correction"


class Make(Protocol):
    """Makes the file with some nodes left in float, or with one node alone quantized."""

    def __call__(self, in_float: tuple[str, ...], only: str = "") -> Quantized:
        """The file."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file, and where bias correction was in question what it did.

    Attributes:
        quantized: The file.
        correction: What was changed in it; None for nothing.
        judged: Judgements by ``with`` and ``without``, where both were made.
    """

    quantized: Quantized
    correction: Corrected | None = None
    judged: dict[str, Judgement] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recovered:
    """The file to deliver, the facts of its recovery, and why layers stay in float, by node."""

    quantized: Quantized
    facts: tuple[Fact, ...]
    reasons: dict[str, str]
    findings: tuple[Finding, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Recovery:
    """Recovery of one quantization.

    Attributes:
        config: What was asked.
        make: Makes a file.
        reference: The float file.
        samples: The calibration samples; all decisions are made on them.
        layers: Layers that may stay in float.
    """

    config: Static
    make: Make
    reference: Path
    samples: Samples
    layers: tuple[str, ...]

    def run(self, asked_float: tuple[str, ...]) -> Recovered:
        """The file that meets what was asked, ``asked_float`` being in float in any case."""
        if self.config.accuracy_target is None:
            candidate = self._candidate(asked_float)
            self._check_steady()
            return Recovered(candidate.quantized, (self._bias_fact(candidate),), {})
        with progress("ranking layers") as shown:
            few = Judge(self.reference, self.samples.first(RANKING))
            order = ranked(self.layers, lambda layer: self.make(asked_float, layer).path, few, shown)
        target = self.config.accuracy_target
        kept = kept_in_float(order, lambda more: self._candidate((*asked_float, *more)), _path, self._judge, target)
        reasons = {one.layer: f"accuracy_target: {one.sqnr_db:.1f} dB where it alone is quantized" for one in kept.layers}
        self._check_steady()
        facts, findings = (self._bias_fact(kept.made),), missed(kept.judgement, len(kept.layers), target)
        return Recovered(kept.made.quantized, facts, reasons, findings, _tried(kept, target))

    def _check_steady(self) -> None:
        """Refuses decisions that rest on passes over different samples."""
        if self.samples.unsteady and (self.config.bias_correction or self.config.accuracy_target is not None):
            expected = "the same samples in the same order each time, because they are read several times"
            raise InputError("the calibration data change from pass to pass", expected=expected, remedy="shuffle=False")

    @cached_property
    def _judge(self) -> Judge:
        return Judge(self.reference, self.samples)

    def _candidate(self, in_float: tuple[str, ...]) -> Candidate:
        made = self.make(in_float)
        if not self.config.bias_correction:
            return Candidate(made)
        with progress("correcting biases") as shown:
            change = corrected(made.path, self.reference, self.samples, shown)
        better = replace(made, path=change.path)
        if self.config.bias_correction is True:
            return Candidate(better, change)
        judged = {"with": self._judge.judge(change.path), "without": self._judge.judge(made.path)}
        chosen = judged["with"].rank <= judged["without"].rank
        return Candidate(better if chosen else made, change if chosen else None, judged)

    def _bias_fact(self, candidate: Candidate) -> Fact:
        asked, change = self.config.bias_correction, candidate.correction
        if asked is None:
            text, short = "No bias correction: ONNX Runtime's quantizer has none (its default)", "none"
        elif change is None:
            text, short = "No bias correction" + (", as asked" if asked is False else ""), "none"
        elif not change.layers:
            text, short = "No bias correction: no quantized layer has a bias", "none"
        else:
            tool = f"mlflow-aifsm {version('mlflow-aifsm')}"
            largest, layer = change.largest
            text = f"Empirical bias correction by {tool} on {len(change.layers)} layers, median over samples"
            text, short = f"{text}; largest change {largest:.3g} in {layer}", "empirical"
        judged = {name: judgement.data for name, judgement in candidate.judged.items()}
        compared = "; ".join(f"{name} it {judgement.text}" for name, judgement in candidate.judged.items())
        text += f"; measured on the calibration samples, {compared}" if compared else ""
        data = {"asked": asked, "judged": judged, **(change.data if change else {})}
        return captured(BIAS, text, data, source="this operation", short=short)


def _path(candidate: Candidate) -> Path:
    return candidate.quantized.path


def _tried(kept: Kept[Candidate], target: float) -> str:
    tries = "; ".join(f"{count} in float: {judgement.text}" for count, judgement in kept.tries)
    return f"Layers kept in float for accuracy_target {target:g}, judged on the calibration samples: {tries}."


def missed(judgement: Judgement, in_float: int, target: float) -> tuple[Finding, ...]:
    """The finding that a file does not meet a target of accuracy on the calibration samples; none if it does.

    Args:
        judgement: What the file does.
        in_float: Number of its layers that stay in float.
        target: Largest drop, ratio in (0, 1).
    """
    if judgement.drop is not None and judgement.drop <= target:
        return ()
    measured = (
        "outputs that decide nothing" if judgement.drop is None else f"{judgement.drop:.4f} with {in_float} layers in float"
    )
    effect = "the accuracy that was asked for is not reached on the calibration samples"
    return (Finding("accuracy_target_missed", asked=f"a drop of at most {target:g}", measured=measured, effect=effect),)
