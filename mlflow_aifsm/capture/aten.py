"""Operator calls of a PyTorch graph, whatever file they stand in, and what they tell about training.

An exported program and a TorchScript call the same ATen operators. Each call is read with its arguments under the names of the
operator's schema, because training is an argument there (``train``, ``training``, ``use_input_stats``, ``dropout_p``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mlflow_aifsm.capture.eliminations import REPARAMETRIZED, STATE
from mlflow_aifsm.facts import Fact, Finding, measured

BACKWARD = re.compile(r"_backward\b|_fused_(adam|sgd|adagrad)|_foreach_")
LOSS = re.compile(r"_loss(_\w+)?\b|^aten\.kl_div")
RANDOM = re.compile(
    r"^aten\.(rand|randn|randint|randperm|random|bernoulli|multinomial|normal|uniform|poisson|exponential)(_\w*)?\b"
)
_NORM_FLAGS = ("training", "use_input_stats")
_MOST = 5


@dataclass(frozen=True, slots=True)
class Call:
    """One call: name of its result, operator as ``aten.dropout.default``, arguments by name as far as they are constants."""

    name: str
    operator: str
    arguments: Mapping[str, object] = field(default_factory=dict)

    @property
    def training(self) -> bool:
        """Whether an argument sets this call to training."""
        return bool(any(self.arguments.get(name) for name in ("train", *_NORM_FLAGS)) or self.dropped)

    @property
    def dropped(self) -> bool:
        """Whether attention drops weights: ``dropout_p`` has no flag beside it."""
        return bool(self.arguments.get("dropout_p"))


def eliminations(calls: Sequence[Call], tensors: Iterable[str], source: str) -> list[Fact]:
    """The facts that ``mlflow_aifsm.capture.eliminations`` measures on an ONNX file, for a graph of ATen operators.

    Args:
        calls: All calls of the file, those of nested graphs included.
        tensors: Names of its parameters, buffers and constants.
        source: The file, as facts name it.
    """
    names = sorted(tensors)
    return [
        _dropout(calls, source),
        _batch_normalization(calls, source),
        _operators(calls, "graph.gradient_clipping", BACKWARD, "backward or optimizer operator", source),
        _state(names, source),
        _weight_regularization(calls, names, source),
        _operators(calls, "graph.other", RANDOM, "random operator", source),
    ]


def operators(calls: Iterable[Call], source: str) -> Fact:
    """Number of calls by operator, most frequent first."""
    found = Counter(call.operator for call in calls)
    counts = dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
    text = ", ".join(f"{name} {count}" for name, count in counts.items())
    return measured("graph.operators", text or "no operator", counts, source=source, short=f"{found.total()} nodes")


def _dropout(calls: Sequence[Call], source: str) -> Fact:
    name, normalizing = "graph.dropout", [call for call in calls if "norm" in call.operator]
    holding = [call for call in calls if _drops(call)]
    active = [call for call in holding if call.training and call not in normalizing]
    if active:
        effect = "outputs are random when the file runs"
        return _left(name, active, "dropout that is set to training", effect, source)
    if holding:
        text = f"Inert, {_named(holding)} set to evaluation, so the input passes unchanged"
        return measured(name, text, [call.name for call in holding], source=source, short="inert")
    return _eliminated(name, f"no dropout among {len(calls)} operator calls", source)


def _drops(call: Call) -> bool:
    rate = call.arguments.get("dropout")
    return "dropout" in call.operator or bool(isinstance(rate, float) and rate) or call.dropped


def _batch_normalization(calls: Sequence[Call], source: str) -> Fact:
    name = "graph.batch_normalization"
    found = [call for call in calls if "batch_norm" in call.operator]
    training = [call for call in found if call.training]
    if training:
        effect = "the output of a sample depends on the other samples of its batch"
        return _left(name, training, "batch normalization that computes batch statistics", effect, source)
    if not found:
        return _eliminated(name, f"no batch normalization among {len(calls)} operator calls", source)
    text = f"Frozen, {_named(found)} set to evaluation use running statistics"
    data = {"frozen": [call.name for call in found], "folded": []}
    return measured(name, text, data, source=source, short="frozen")


def _operators(calls: Sequence[Call], name: str, pattern: re.Pattern[str], what: str, source: str) -> Fact:
    found = [call for call in calls if pattern.search(call.operator)]
    if found:
        return _left(name, found, f"{what}s", "outputs are random, or the file trains when it runs", source)
    return _eliminated(name, f"no {what} among {len(calls)} operator calls", source)


def _state(tensors: Sequence[str], source: str) -> Fact:
    name, found = "graph.lr_scheduling", [tensor for tensor in tensors if STATE.search(tensor.lower())]
    if found:
        return _left_named(name, found, "optimizer or schedule state", "the file ships state of the training loop", source)
    return _eliminated(name, f"no name of optimizer or schedule state among {len(tensors)} tensors", source)


def _weight_regularization(calls: Sequence[Call], tensors: Sequence[str], source: str) -> Fact:
    name, losses = "graph.weight_regularization", [call for call in calls if LOSS.search(call.operator)]
    if losses:
        return _left(name, losses, "loss operators", "the file computes a training loss", source)
    found = [tensor for tensor in tensors if REPARAMETRIZED.search(tensor)]
    if found:
        effect = "weights are computed from a reparametrization at run time"
        return _left_named(name, found, "reparametrized weights", effect, source)
    text = f"no loss among {len(calls)} operator calls, no name of a mask or reparametrization among {len(tensors)} tensors"
    return _eliminated(name, text, source)


def _eliminated(name: str, shown: str, source: str) -> Fact:
    return measured(name, f"Eliminated, {shown}", [], source=source, short="eliminated")


def _left(name: str, found: Sequence[Call], what: str, effect: str, source: str) -> Fact:
    return _left_named(name, [f"{call.name} ({call.operator})" for call in found], what, effect, source)


def _left_named(name: str, found: Sequence[str], what: str, effect: str, source: str) -> Fact:
    text = f"{what}: {_some(found)}"
    finding = Finding("training_operation_left", asked="no training-specific operation", measured=text, effect=effect)
    return measured(name, f"Left in the file: {text}", list(found), source=source, short="left in the file", findings=[finding])


def _named(found: Sequence[Call]) -> str:
    return _some([f"{call.name} ({call.operator})" for call in found])


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST
    return ", ".join(names[:_MOST]) + (f" and {more} more" if more > 0 else "")
