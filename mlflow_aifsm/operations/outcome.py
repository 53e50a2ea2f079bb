"""What a quantization hands to its log, whichever backend did it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_aifsm.backends.quantized import Quantized
from mlflow_aifsm.facts import Fact, Finding, Json, captured
from mlflow_aifsm.samples import Samples

Rows = Sequence[Mapping[str, Json]]


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be quantized.

    Attributes:
        path: The float file; every node has a name.
        samples: The calibration samples, cut to what was asked; None where the technique takes none.
        asked: Number of samples that were asked for.
    """

    path: Path
    samples: Samples | None
    asked: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """A quantized file with what is known of its making.

    Attributes:
        quantized: The file and the call.
        framework: Name and version of the tool.
        packages: Packages it depends on directly.
        facts: Facts of calibration, of what was asked, of recovery.
        tables: Rows by table name.
        reasons: Why layers stay in float, by the name of the node.
        kept: Those of them that the caller named.
        overridden: Type and scheme that were asked of single tensors, by tensor.
        findings: What is wrong with the recovery.
        notes: Sentences for the record.
    """

    quantized: Quantized
    framework: str
    packages: tuple[str, ...]
    facts: tuple[Fact, ...]
    tables: Mapping[str, Rows] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    overridden: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


def kept_reasons(found: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Why nodes stay in float because the caller named them, by node; ``found`` are the nodes by pattern."""
    return {name: f"keep_float names it ({pattern})" for pattern, names in found.items() for name in names}


def uncorrected() -> Fact:
    """``recovery.bias_correction`` where ONNX Runtime's quantizer did all."""
    text = "No bias correction: ONNX Runtime's quantizer has none"
    return captured("recovery.bias_correction", text, source="this operation", short="none")
