"""The fact ``pruning.patterns``: which tiles the zeros of a delivered file fill, and what is wrong with these zeros."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from onnx import NodeProto

from mlflow_aifsm.capture.layer_weights import INPUTS
from mlflow_aifsm.capture.moves import DECODING, traced
from mlflow_aifsm.capture.onnx_graph import OnnxFile, Scope, node_name
from mlflow_aifsm.capture.patterns import ELEMENT, N_OF_M, Pattern
from mlflow_aifsm.capture.sparsity import NOTABLE, Zeros, counted
from mlflow_aifsm.capture.zero_patterns import common_pattern, holds
from mlflow_aifsm.facts import Fact, Finding, measured, not_applicable, not_recorded

NAME = "pruning.patterns"

ONE_WEIGHT = frozenset({"Conv", "ConvTranspose", "Gemm"})
"""Operators whose second input is a weight; that of MatMul may be data."""

NAMED = 5
"""Layers that a text names; the data has all."""


def pruning_patterns(file: OnnxFile, zeros: Sequence[Zeros], *, pruning_logged: bool = False) -> Fact:
    """The pattern that the zeros of all pruned layers have in common, and each layer's own where it is coarser.

    Findings: ``zeros_without_pruning`` where notable zeros stand in a file that no log says was pruned; ``zeros_lost`` where
    zeros of the float weights are zero no more; ``masks_left`` where the file multiplies weights with masks when it runs.

    Args:
        file: The delivered file.
        zeros: Zeros of its weights.
        pruning_logged: Whether a pruning step is on record; all zeros beyond rounding are its work then.
    """
    pruned = [row for row in zeros if row.notable and row.mask is not None]
    few = [row for row in zeros if not row.notable and row.mask is not None] if pruning_logged or pruned else []
    computed = _computed(file)
    unseen = f"the weights of {', '.join(computed)} are computed when the file runs, so their zeros are not in it"
    findings = (*_masks_left(file), *_zeros_lost(zeros, pruning_logged=pruning_logged))
    if pruned or few:
        fact = _found(file, pruned or few, few if pruned else [], f"{counted(zeros)}{f'; {unseen}' if computed else ''}")
        worst = max(pruned or few, key=lambda row: row.ratio)
        said = f"{counted(zeros)}, {worst.ratio:.1%} in {worst.tensor}"
        return replace(fact, findings=(*findings, *(() if pruning_logged else _unexplained(said))))
    if computed:
        return not_recorded(NAME, unseen, "remove masks and reparametrizations before the export", findings)
    rounding = ", no more than rounding makes" if any(row.ratio >= NOTABLE for row in zeros) else ""
    return not_applicable(NAME, f"no pruning: {counted(zeros)}{rounding}", [], source=file.source, findings=findings)


def breaking(zeros: Sequence[Zeros], pattern: Pattern) -> tuple[Zeros, ...]:
    """The weights whose zeros do not hold ``pattern``; zeros that rounding made are left out of the question."""
    return tuple(row for row in zeros if row.mask is not None and not holds(row.mask, pattern))


def _found(file: OnnxFile, pruned: Sequence[Zeros], few: Sequence[Zeros], told: str) -> Fact:
    common = common_pattern([row.mask for row in pruned if row.mask is not None])
    astray = breaking(few, common)
    rows = [*pruned, *(row for row in few if row not in astray)]
    names = _names([*rows, *astray])
    words = {name: row.pattern for name, row in zip(names, [*rows, *astray], strict=True)}
    parts = [_definition(common, len(rows), len(words)), *_coarser(words, common, names[len(rows) :]), *_besides(rows)]
    others = [f"{row.zeros:,} in {name}" for name, row in zip(names[len(rows) :], astray, strict=True)]
    parts += [f"zeros that fill no such tiles: {_listed(others)}"] if others else []
    data = {"pattern": common.word, "layers": words}
    return measured(NAME, "; ".join([*parts, told]), data, source=file.source, short=common.word)


def _definition(common: Pattern, held: int, total: int) -> str:
    definition = common.definition[0].upper() + common.definition[1:]
    layers = f"{held} of {total} pruned layer{'' if total == 1 else 's'}"
    if common.kind == ELEMENT:
        return f"{definition}, zeros of {layers} fill no larger tiles in common"
    return f"{definition}, in {layers}" if common.kind == N_OF_M else f"{definition}, zeros of {layers} fill whole tiles"


def _coarser(words: dict[str, str], common: Pattern, astray: Sequence[str]) -> Iterator[str]:
    """Layers that hold a pattern of their own, by pattern."""
    own: dict[str, list[str]] = {}
    for name, word in words.items():
        if word != common.word and name not in astray:
            own.setdefault(word, []).append(name)
    for word, names in own.items():
        yield f"{_listed(names)} even {Pattern.of(word).definition}"


def _besides(rows: Sequence[Zeros]) -> Iterator[str]:
    """What is known of the zeros beside their places: how many the float weights had, how many rounding made."""
    before, kept = sum(row.before or 0 for row in rows), sum(row.kept for row in rows)
    if before:
        yield f"{kept:,} of {before:,} zeros of the float weights are zero in the file"
    if rounded := sum(row.rounded for row in rows):
        yield f"{rounded:,} more by rounding"


def _names(rows: Sequence[Zeros]) -> list[str]:
    """A name for each row: module or layer where it has one such weight, else the tensor."""
    called = [row.module or row.layer for row in rows]
    often = Counter(called)
    return [name if often[name] == 1 else row.tensor for name, row in zip(called, rows, strict=True)]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _unexplained(text: str) -> tuple[Finding, ...]:
    effect = "somebody removed weights, and the log does not say how"
    return (Finding("zeros_without_pruning", asked="a pruning step on record", measured=text, effect=effect),)


def _zeros_lost(zeros: Sequence[Zeros], *, pruning_logged: bool) -> tuple[Finding, ...]:
    rows = [row for row in zeros if row.lost and (pruning_logged or (row.before or 0) >= NOTABLE * row.size)]
    if not rows:
        return ()
    told = _listed([f"{row.lost:,} of {row.before:,} in {row.tensor}" for row in rows])
    effect = "weights that were pruned are back, and nothing says why"
    return (Finding("zeros_lost", asked="the zeros of the float weights", measured=f"zero no more: {told}", effect=effect),)


def _masks_left(file: OnnxFile) -> tuple[Finding, ...]:
    masked = [node_name(node) for scope in file.scopes for node in scope.nodes if _is_masked(file, scope, node)]
    if not masked:
        return ()
    effect = "the file carries training-only masks, its zeros can come back"
    told = f"weights multiplied with masks when the file runs: {_listed(masked)}"
    return (Finding("masks_left", asked="weights with their zeros in them", measured=told, effect=effect),)


def _is_masked(file: OnnxFile, scope: Scope, node: NodeProto) -> bool:
    """Whether an operand is the product of two stored tensors of which one has zeros and ones alone."""
    read = [node.input[index] for index in INPUTS.get(node.op_type, ()) if index < len(node.input)]
    makers = [scope.producer(traced(file, scope, name).origin) for name in read]
    for maker in (maker for maker in makers if maker is not None and maker.op_type == "Mul"):
        held = [scope.initializer(traced(file, scope, name).origin) for name in maker.input]
        stored = [tensor for tensor in held if tensor is not None]
        if len(stored) == len(held) and any(np.isin(file.array(tensor), (0, 1)).all() for tensor in stored):
            return True
    return False


def _computed(file: OnnxFile) -> list[str]:
    """Layers whose weight is neither stored nor decoded from stored codes, as behind a mask or a reparametrization."""
    found = []
    for scope in file.scopes:
        for node in (node for node in scope.nodes if node.op_type in ONE_WEIGHT):
            made_by = scope.producer(origin := scope.origin(node.input[1]))
            if made_by is not None and made_by.op_type not in DECODING and scope.initializer(origin) is None:
                found.append(node_name(node))
    return found
