"""Which training-specific operations a delivered file still holds: one fact for each row of the template's elimination group.

Nodes count, imported operator sets do not: some tools import the training domains without using them. A node is looked at
wherever it stands, also in a subgraph or a model-local function.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sized
from pathlib import Path

from onnx import NodeProto

from mlflow_aifsm.capture.onnx_graph import OnnxFile, Scope, integer, node_name, opened
from mlflow_aifsm.facts import Fact, Finding, measured

TRAINING_DOMAINS = frozenset({"ai.onnx.training", "ai.onnx.preview.training"})
OPTIMIZERS = frozenset({"Gradient", "Adam", "Momentum", "Adagrad"})
LOSSES = frozenset(
    {"SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropy", "SoftmaxCrossEntropyLossInternal"}
)
RANDOM = frozenset({"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"})
FOLDED = "FuseBatchNormIntoConv"
"""Name of the exporter's rewrite rule that folds BatchNormalization into the convolution before it."""

STATE = re.compile(
    r"(^|[._/])((exp_avg(_sq)?|max_exp_avg_sq|momentum_buffer|square_avg|optimizer|lr_schedulers?|scheduler)($|[._/])|lr$)"
)
"""Names under which optimizers and schedulers of the frameworks keep their state."""

REPARAMETRIZED = re.compile(r"(_orig|(weight|bias)[^.]*_mask|weight_g|weight_v|weight_u|parametrizations[.].*)$")
"""Names that pruning masks, weight norm, spectral norm and parametrizations give to tensors."""


def eliminations(source: Path | OnnxFile) -> list[Fact]:
    """Facts on Dropout, BatchNormalization, gradient clipping, learning-rate schedule, weight regularization and the rest.

    Each says how it was shown. ``short`` is ``eliminated``, ``inert``, ``folded``, ``frozen`` or ``left in the file``; the last
    carries a finding ``training_operation_left`` (PhIMT0002, Elimination of Training-Specific Operations; ED-324 6.4.3.6h).

    Raises:
        InputError: If the file cannot be read.
    """
    file = opened(source)
    return [
        _dropout(file),
        _batch_normalization(file),
        _gradient_clipping(file),
        _lr_scheduling(file),
        _weight_regularization(file),
        _other(file),
    ]


def _dropout(file: OnnxFile) -> Fact:
    found = [(scope, node) for scope in file.scopes for node in scope.nodes if node.op_type == "Dropout"]
    active = [node for scope, node in found if not _inert(file, scope, node)]
    if active:
        effect = "outputs are random wherever a runtime obeys training_mode"
        return _left(file, "graph.dropout", active, "Dropout with training_mode true or not constant", effect)
    if found:
        names = _names(node for _, node in found)
        text = f"Inert, training_mode is absent or false in {_some(names)}, so the input passes unchanged"
        return measured("graph.dropout", text, names, source=file.source, short="inert")
    return _eliminated(file, "graph.dropout", f"no Dropout node among {_all(file)}")


def _inert(file: OnnxFile, scope: Scope, node: NodeProto) -> bool:
    """Dropout drops only where its third input, or before opset 7 ``is_test`` 0, says so."""
    training_mode = next(iter(node.input[2:]), "")
    if not training_mode:
        return not any(item.name == "is_test" and not item.i for item in node.attribute)
    constant = scope.initializer(training_mode)
    return constant is not None and not file.array(constant).any()


def _batch_normalization(file: OnnxFile) -> Fact:
    name = "graph.batch_normalization"
    found = [node for node in file.nodes if node.op_type == "BatchNormalization"]
    training = [node for node in found if integer(node, "training_mode", 0) or len([out for out in node.output if out]) > 1]
    if training:
        effect = "the output of a sample depends on the other samples of its batch"
        return _left(file, name, training, "BatchNormalization that computes batch statistics", effect)
    folded = [node for node in file.nodes if FOLDED in _rules(node)]
    if not found and not folded:
        return _eliminated(file, name, f"no BatchNormalization node among {_all(file)}")
    data = {"frozen": _names(found), "folded": _names(folded)}
    into = f"into {_plural(folded, 'convolution')} by the exporter's rule {FOLDED} ({_named(folded)})"
    if not found:
        text = f"Folded {into}; no BatchNormalization node among {_all(file)}"
        return measured(name, text, data, source=file.source, short="folded")
    text = f"Frozen, {_named(found)} with training_mode 0 and one output use running statistics" + (
        f"; others folded {into}" if folded else ""
    )
    return measured(name, text, data, source=file.source, short="frozen")


def _gradient_clipping(file: OnnxFile) -> Fact:
    found = [node for node in file.nodes if node.op_type in OPTIMIZERS or node.op_type.endswith("Grad")]
    if found:
        return _left(file, "graph.gradient_clipping", found, "gradient or optimizer operators", "the file trains when it runs")
    clips = [node for node in file.nodes if node.op_type == "Clip"]
    beside = (
        f"; {_plural(clips, 'Clip node')} as activation function (ReLU6, hardtanh), not as gradient clipping" if clips else ""
    )
    return _eliminated(file, "graph.gradient_clipping", f"no gradient or optimizer node among {_all(file)}{beside}")


def _lr_scheduling(file: OnnxFile) -> Fact:
    weights = _weights(file)
    found = [weight for weight in weights if STATE.search(weight.lower())]
    if found:
        effect = "the file ships state of the training loop"
        return _left_weights(file, "graph.lr_scheduling", found, "optimizer or schedule state", effect)
    return _eliminated(file, "graph.lr_scheduling", f"no name of optimizer or schedule state among {len(weights)} initializers")


def _weight_regularization(file: OnnxFile) -> Fact:
    name = "graph.weight_regularization"
    losses = [node for node in file.nodes if node.op_type in LOSSES]
    if losses:
        return _left(file, name, losses, "loss operators", "the file computes a training loss")
    weights = _weights(file)
    found = [weight for weight in weights if REPARAMETRIZED.search(weight)]
    if found:
        effect = "weights are computed from a reparametrization at run time"
        return _left_weights(file, name, found, "reparametrized weights", effect)
    text = f"no loss node among {_all(file)}, no name of a mask or reparametrization among {len(weights)} initializers"
    return _eliminated(file, name, text)


def _other(file: OnnxFile) -> Fact:
    found = [
        node
        for node in file.nodes
        if node.op_type in RANDOM or (node.domain in TRAINING_DOMAINS and node.op_type not in OPTIMIZERS)
    ]
    if found:
        effect = "outputs are random, or the file trains when it runs"
        return _left(file, "graph.other", found, "random or training-domain operators", effect)
    return _eliminated(file, "graph.other", f"no random and no training-domain node among {_all(file)}")


def _eliminated(file: OnnxFile, name: str, shown: str) -> Fact:
    return measured(name, f"Eliminated, {shown}", [], source=file.source, short="eliminated")


def _left(file: OnnxFile, name: str, found: list[NodeProto], what: str, effect: str) -> Fact:
    text = f"{what}: {_named(found)}"
    return _left_fact(file, name, text, _names(found), effect)


def _left_weights(file: OnnxFile, name: str, found: list[str], what: str, effect: str) -> Fact:
    return _left_fact(file, name, f"{what}: {_some(found)}", found, effect)


def _left_fact(file: OnnxFile, name: str, text: str, names: list[str], effect: str) -> Fact:
    finding = Finding("training_operation_left", asked="no training-specific operation", measured=text, effect=effect)
    return measured(name, f"Left in the file: {text}", names, source=file.source, short="left in the file", findings=[finding])


def _rules(node: NodeProto) -> str:
    return next((item.value for item in node.metadata_props if item.key == "pkg.onnxscript.rewriter.rule_name"), "")


def _weights(file: OnnxFile) -> list[str]:
    return [name for scope in file.scopes for name in scope.initializers]


def _all(file: OnnxFile) -> str:
    return _plural(file.nodes, "node")


def _plural(found: Sized, what: str) -> str:
    return f"{len(found)} {what}{'' if len(found) == 1 else 's'}"


def _names(found: Iterable[NodeProto]) -> list[str]:
    return [node_name(node) for node in found]


def _named(found: Iterable[NodeProto]) -> str:
    return _some(_names(found))


def _some(names: list[str], most: int = 5) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
