"""Pruning of a frozen ONNX file by the magnitude of its weights: zeros are written into the stored tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
from onnx import TensorProto, load_external_data_for_model, numpy_helper

from mlflow_aifsm.backends.pruned import Applied, LeftOut, check
from mlflow_aifsm.backends.quantized import saved
from mlflow_aifsm.capture import quantizers
from mlflow_aifsm.capture.layer_weights import LayerWeight, layer_weights
from mlflow_aifsm.capture.onnx_graph import OnnxFile, opened
from mlflow_aifsm.capture.patterns import Array, Pattern
from mlflow_aifsm.capture.tiles import select
from mlflow_aifsm.errors import InputError

LAYERS = frozenset({"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"})
"""Operators whose stored weight can be pruned."""

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})
FUNCTION = "mlflow_aifsm.backends.onnx_prune.prune_file"


def prunable(source: Path | OnnxFile) -> tuple[LayerWeight, ...]:
    """The stored float weights of convolutions and matrix products, each once, in the order of the file's nodes.

    Raises:
        InputError: If the file cannot be read, holds quantizers, or has two weights of one name.
    """
    file = opened(source)
    if rows := quantizers.read(file):
        got = f"{len(rows)} quantizers in {file.path.name}"
        raise InputError("cannot prune a quantized file", got=got, expected="a float file", remedy="prune before quantizing")
    found = tuple(one for one in layer_weights(file, ()) if one.op in LAYERS and one.held.data_type in FLOATS and one.size)
    if twice := [name for name, count in Counter(one.tensor for one in found).items() if count > 1]:
        raise InputError("weights share a name, in graphs inside each other", got=", ".join(twice), expected="one name each")
    return found


def left_out(source: Path | OnnxFile) -> LeftOut:
    """Stored float tensors with at least two axes longer than one that no prunable layer reads, as those of LSTM and Gather.

    Raises:
        InputError: If the file cannot be read, or holds quantizers.
    """
    file = opened(source)
    held = {one.tensor: one.size for one in prunable(file)}
    stored = {name: one for scope in file.scopes for name, one in scope.initializers.items() if one.data_type in FLOATS}
    matrices = {name: one for name, one in stored.items() if sum(size > 1 for size in one.dims) > 1}
    sizes = {name: prod(one.dims) for name, one in matrices.items() if name not in held}
    return LeftOut(sizes, sum(sizes.values()) + sum(held.values()))


def aliases(weight: LayerWeight) -> tuple[str, ...]:
    """Names a weight goes by: module path, tensor, nodes that read it, operator."""
    return tuple(filter(None, (weight.module, weight.tensor, weight.layer, *weight.shared, weight.op)))


def prune_file(
    source: Path | OnnxFile, tensors: Sequence[str], pattern: Pattern, amount: float, scope: str
) -> tuple[Path, Applied]:
    """Writes a copy of the file in which the tiles with the smallest mean magnitude are zero.

    Zeros that are in the file already have magnitude 0: they are the first to be selected, and count.

    Args:
        source: A float ONNX file; a graph that was read already stays as it is.
        tensors: Names of the weights to prune, as ``prunable`` tells them.
        pattern: The tiles.
        amount: Share of these weights to prune, ratio in (0, 1); not used for n:m, which says it itself.
        scope: ``global`` for one threshold over all of them, ``local`` for one each.

    Returns:
        The copy, in a folder of its own, and what was done.

    Raises:
        InputError: If the file or the pruning cannot be had, or a weight is not finite.
    """
    path = source.path if isinstance(source, OnnxFile) else source
    file = opened(path)  # a graph of its own, which is changed
    known = {one.tensor: one for one in prunable(file)}
    if missing := [name for name in tensors if name not in known]:
        raise InputError(f"{path.name} holds no such weight", got=", ".join(missing), expected="weights that prunable tells")
    weights = [known[name] for name in dict.fromkeys(tensors)]
    scores = {one.tensor: _magnitude(file, one) for one in weights}
    check({name: (len(score), score.size // len(score)) for name, score in scores.items()}, pattern, amount, scope)
    chosen = select(scores, pattern, amount, scope)
    masks = {name: mask != 0 for name, mask in chosen.masks.items()}
    for one in weights:
        _clear(file, one, masks[one.tensor])
    load_external_data_for_model(file.model, str(path.parent))
    asked = {"tensors": list(masks), "pattern": pattern.word, "amount": amount, "scope": scope}
    return saved(file.model, path.name), Applied(FUNCTION, asked, masks, chosen.thresholds)


def _magnitude(file: OnnxFile, weight: LayerWeight) -> Array:
    values = np.abs(weight.values(file))
    scores = values if values.dtype == np.float64 else values.astype(np.float32)
    if not np.isfinite(scores).all():
        raise InputError(f"weight {weight.tensor} is not finite", expected="numbers", remedy="name it in keep_dense")
    return scores


def _clear(file: OnnxFile, weight: LayerWeight, mask: Array) -> None:
    """Zeros where the mask is False, in the file's graph in memory: type, name and layout stay."""
    values = file.array(weight.held).copy()
    values[~weight.stored(mask)] = 0
    weight.held.CopyFrom(numpy_helper.from_array(values, weight.held.name))
