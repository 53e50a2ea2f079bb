"""What can be known about a model, by name: the vocabulary that capture, templates and records share.

A fact is a value with the way it is known and its source. The catalogue below is the only list of names: a capture that
yields another name, or a template that asks for one, fails at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mlflow_aifsm.errors import RecordError

Json = Any
"""A JSON value: None, bool, int, finite float, str, list or dict with str keys."""


class State(StrEnum):
    """How a value is known."""

    MEASURED = "measured"
    """Read from the delivered file, and can be read again."""
    CAPTURED = "captured"
    """Seen by the tool while it happened, or read from a named run."""
    DECLARED = "declared"
    """Said by a named person at a named time."""
    NOT_APPLICABLE = "not applicable"
    """With the reason, and the measurement behind it."""
    NOT_RECORDED = "not recorded"
    """With the reason, and the line that would fill it."""

    @property
    def strength(self) -> int:
        """3 for measured, 2 for captured, 1 for declared, 0 where there is no value."""
        return {State.MEASURED: 3, State.CAPTURED: 2, State.DECLARED: 1}.get(self, 0)


@dataclass(frozen=True, slots=True)
class Value:
    """A value as a cell prints it (``text``), as a machine reads it (``data``), and as a chart's axis shows it (``short``)."""

    text: str
    data: Json = None
    short: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", jsonable(self.data))

    @property
    def brief(self) -> str:
        """The form for params and charts: ``short`` where there is one, else ``text``."""
        return self.short or self.text


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from: a file, a call, a run, the host, a person (``by``), and when (``at``, ISO 8601 with zone)."""

    origin: str
    by: str = ""
    at: str = ""

    def __str__(self) -> str:
        return self.origin + (f" by {self.by}" if self.by else "") + (f", {self.at}" if self.at else "")


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a value. It lies on top of a state and never replaces it.

    Attributes:
        code: Stable name of the kind of finding, ``training_operation_left`` for instance.
        field: Key of the field it concerns; filled in when the fact meets its field.
        asked: What was asked for or expected.
        measured: What was found.
        effect: What it means for the reader.
        open: Whether nobody has accepted it yet.
    """

    code: str
    field: str = ""
    asked: str = ""
    measured: str = ""
    effect: str = ""
    open: bool = True


@dataclass(frozen=True, slots=True)
class Fact:
    """One named value with its state, source and findings; without value, the reason why and the line that would fill it.

    Raises:
        RecordError: If the catalogue does not hold the name.
    """

    name: str
    state: State
    value: Value
    source: Source
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    remedy: str = ""

    def __post_init__(self) -> None:
        if self.name not in CATALOGUE:
            raise RecordError(f"fact '{self.name}'", expected="a name of facts.CATALOGUE")

    @property
    def metrics(self) -> dict[str, float]:
        """The run metrics this fact is logged as: ``{key: number}``, empty if it has no metric or no number."""
        key = CATALOGUE[self.name].metric
        number = self.value.data
        return {key: float(number)} if key and isinstance(number, int | float) and not isinstance(number, bool) else {}


@dataclass(frozen=True, slots=True)
class FactType:
    """Definition of a fact: its name, what it means, the unit of ``data``, and the metric key where it is a number."""

    name: str
    meaning: str
    unit: str = ""
    metric: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts by name, later ones on top of earlier ones; asked-for values stand beside the found ones under their own names."""

    by_name: Mapping[str, Fact] = field(default_factory=dict)

    def with_facts(self, facts: Iterable[Fact]) -> Facts:
        """These facts with ``facts`` laid over them."""
        return Facts({**self.by_name, **{fact.name: fact for fact in facts}})

    def get(self, name: str) -> Fact | None:
        """The fact called ``name``, or None."""
        return self.by_name.get(name)

    @property
    def metrics(self) -> dict[str, float]:
        """All run metrics of these facts."""
        return {key: number for fact in self.by_name.values() for key, number in fact.metrics.items()}


def measured(
    name: str, text: str, data: Json = None, *, source: str, short: str = "", findings: Iterable[Finding] = ()
) -> Fact:
    """A fact read from the delivered file ``source``."""
    return Fact(name, State.MEASURED, Value(text, data, short), Source(source), tuple(findings))


def captured(
    name: str, text: str, data: Json = None, *, source: str, short: str = "", at: str = "", findings: Iterable[Finding] = ()
) -> Fact:
    """A fact seen while it happened, or read from the named run ``source``."""
    return Fact(name, State.CAPTURED, Value(text, data, short), Source(source, at=at), tuple(findings))


def not_applicable(name: str, reason: str, data: Json = None, *, source: str, findings: Iterable[Finding] = ()) -> Fact:
    """A fact that does not apply, with the reason and the measurement behind it."""
    return Fact(name, State.NOT_APPLICABLE, Value("Not applicable", data), Source(source), tuple(findings), reason)


def not_recorded(name: str, reason: str, remedy: str = "", findings: Iterable[Finding] = ()) -> Fact:
    """A fact that is not known, with the reason and the line that would fill it."""
    return Fact(name, State.NOT_RECORDED, Value(""), Source(""), tuple(findings), reason, remedy)


def jsonable(data: Any) -> Json:
    """``data`` as plain JSON: tuples become lists, arrays and scalars of array libraries Python values, NaN and Inf text.

    Raises:
        RecordError: If a value has no JSON form.
    """
    if data is None or isinstance(data, bool | int | str):
        return (
            int(data) if isinstance(data, int) and not isinstance(data, bool) else str(data) if isinstance(data, str) else data
        )
    if isinstance(data, float):
        return float(data) if math.isfinite(data) else str(float(data))
    if isinstance(data, Mapping):
        return {str(key): jsonable(value) for key, value in data.items()}
    if isinstance(data, list | tuple | set | frozenset):
        ordered = sorted(data, key=lambda item: (type(item).__name__, item)) if isinstance(data, set | frozenset) else data
        return [jsonable(item) for item in ordered]
    if callable(getattr(data, "tolist", None)):
        return jsonable(data.tolist())
    raise RecordError(f"a value of type {type(data).__name__}", expected="a JSON value")


def _catalogue() -> dict[str, FactType]:
    rows = (
        # identity of the log
        FactType("log.id", "identifier of this log"),
        FactType("log.date", "day of the conversion or optimization, ISO 8601 with time zone"),
        FactType("log.responsible", "person who converts the model"),
        FactType("log.phase", "phase of the AI-FSM lifecycle"),
        FactType("input.id", "verified learning model id or model conversion id"),
        FactType("input.digest", "SHA-256 of the input model's file set"),
        FactType("input.verified", "who declared the input verified, and whether its bytes are still those"),
        FactType("output.digest", "SHA-256 of the delivered file set"),
        # the model before conversion
        FactType("model.architecture", "class and layers of the source model"),
        FactType("model.parameters", "number of parameters of the source model", "count", "aifsm.model.parameters"),
        FactType("model.mode", "training or evaluation mode of the source model, and what was done about it"),
        FactType("training.framework", "framework the model was trained with"),
        FactType("training.run", "run that trained the model"),
        FactType("training.data_sets", "data sets the training run names"),
        FactType("training.metrics", "metrics of the training run, or of the registered model"),
        FactType("training.dropout", "dropout in the source model"),
        FactType("training.batch_normalization", "batch normalization in the source model"),
        FactType("training.gradient_clipping", "gradient clipping in training"),
        FactType("training.lr_scheduling", "learning-rate schedule in training"),
        FactType("training.weight_regularization", "L1 or L2 weight regularization in training"),
        FactType("training.other", "other training-only parts of the source model"),
        # the delivered graph
        FactType("graph.inputs", "names, types and shapes of the file's inputs"),
        FactType("graph.outputs", "names, types and shapes of the file's outputs"),
        FactType("graph.opset", "operator set version of the file"),
        FactType("graph.producer", "producer name and version in the file"),
        FactType("graph.operators", "number of nodes by operator type", "count"),
        FactType("graph.size", "bytes of the file and its external data", "bytes", "aifsm.size"),
        FactType("graph.canonical_digest", "SHA-256 over weights, nodes, inputs and outputs, metadata left out"),
        FactType("graph.dropout", "dropout in the file"),
        FactType("graph.batch_normalization", "batch normalization in the file: folded, frozen or computing statistics"),
        FactType("graph.gradient_clipping", "gradient and optimizer operators in the file"),
        FactType("graph.lr_scheduling", "optimizer or schedule state in the file"),
        FactType("graph.weight_regularization", "loss terms and reparametrizations in the file"),
        FactType("graph.other", "random, loss or other training-only operators in the file"),
        FactType("graph.source_paths", "absolute source paths in node metadata, and whether they were stripped"),
        # the tools and the place
        FactType("asked.opset", "operator set version that was asked for"),
        FactType("converter.framework", "framework that converted, with version"),
        FactType("converter.packages", "packages of the conversion, with versions"),
        FactType("converter.call", "converter with configuration and resolved parameters, and the stored script"),
        FactType("environment.host", "operating system, processor, memory, accelerator, Python, threads, seeds"),
        # calibration and quantization
        FactType("calibration.method", "how the range of each activation was set, on which data"),
        FactType("quantizers.transformation", "function from real values to integers"),
        FactType("quantizers.scale", "scale factors with range, levels and formula"),
        FactType("quantization.framework", "framework that quantized, with version"),
        FactType("quantization.packages", "packages of the quantization, with versions"),
        FactType("quantization.call", "all arguments of the quantization with resolved defaults"),
        FactType("asked.precision", "precision that was asked for"),
        FactType("asked.scheme", "scheme that was asked for"),
        FactType("asked.technique", "technique that was asked for"),
        FactType("asked.granularity", "granularity that was asked for"),
        FactType("quantizers.precision", "bits and type of weights, activations and biases in the file"),
        FactType("quantizers.scheme", "symmetric or asymmetric, weights and activations apart"),
        FactType("quantizers.technique", "what the file quantizes: weights, or weights and activations"),
        FactType("quantizers.granularity", "layerwise, channelwise or groupwise, weights and activations apart"),
        FactType("quantizers.float_layers", "layers left in floating point"),
        FactType("quantizers.lost_non_linearities", "activation functions of the float graph that the file lost"),
        FactType("runtime.integer_operators", "operators that the target runtime runs in integers"),
        FactType("runtime.integer_ratio", "share of layers run in integers", "ratio in [0, 1]", "aifsm.integer_ops_ratio"),
        # pruning and recovery
        FactType("zeros.ratio", "share of weights that are zero", "ratio in [0, 1]", "aifsm.zeros"),
        FactType("pruning.framework", "framework that pruned, with version"),
        FactType("pruning.packages", "packages of the pruning, with versions"),
        FactType("pruning.criteria", "criterion and scope of the threshold"),
        FactType("pruning.patterns", "pattern the zeros hold"),
        FactType("pruning.call", "schedule, fine-tuning, layers left out"),
        FactType("recovery.partial", "layers kept in higher precision, and why"),
        FactType("recovery.qat", "quantization-aware training"),
        FactType("recovery.learned", "quantization parameters learned in training"),
        # verification
        FactType("verification.result", "criterion, data and result of the verification"),
        FactType("verification.max_diff", "largest absolute difference of outputs", "output unit", "aifsm.max_diff"),
        FactType("verification.p99_diff", "99th percentile of absolute differences", "output unit", "aifsm.p99_diff"),
        FactType("verification.sqnr_db", "signal to quantization noise ratio of the outputs", "dB", "aifsm.sqnr_db"),
        FactType("verification.flips", "samples whose decision changed", "count", "aifsm.flips"),
        FactType("verification.accuracy", "accuracy of the delivered model", "ratio in [0, 1]", "aifsm.accuracy"),
        FactType("verification.accuracy_drop", "accuracy before minus after", "ratio in [-1, 1]", "aifsm.accuracy_drop"),
        FactType("size.ratio", "size of the delivered file over that of its input", "ratio", "aifsm.size_ratio"),
    )
    return {row.name: row for row in rows}


CATALOGUE: Mapping[str, FactType] = _catalogue()
