"""What a runtime's integer kernels need beside integer weights: codes right behind a layer, and a bias in codes.

Nothing here changes a value but for the rounding of biases, at most half a step of an int32 accumulator.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, helper

from mlflow_aifsm.backends.graph_rewrites import drop_unused, without_value_info
from mlflow_aifsm.backends.integer_graph import BIAS, DEQUANTIZE, LAYERS, NORMALIZATION, QUANTIZE, SUFFIX, IntegerGraph
from mlflow_aifsm.sources import Array

CLAMPS = frozenset({"Relu", "Clip"})
"""Operators that cut off values: cutting codes off gives the same codes as coding what is cut off."""
JOIN = "Concat"
MOVES = frozenset({"MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", JOIN, "Identity"})
"""Operators that choose or move values: codes of what they give are what they give of codes."""
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
"""Layers whose kernels on integers give integers; a matrix product on integers may give floats."""
INT32 = np.iinfo(np.int32)


def without_idle_clips(graph: IntegerGraph) -> None:
    """Takes out the Clip that the exporter writes behind a quantizer by channel: codes already end where their type does."""
    for node in [node for node in graph.nodes if node.op_type == "Clip"]:
        maker = graph.maker(node.input[0])
        if maker is not None and maker.op_type == QUANTIZE and graph.alone(maker.output[0]) is not None:
            zero = np.asarray(graph.array(maker.input[2]))
            limits = np.iinfo(zero.dtype)
            if _clamped(graph, node) == (limits.min, limits.max):
                maker.output[0] = node.output[0]
                graph.drop(node)


def with_codes_behind_layers(graph: IntegerGraph) -> None:
    """Quantizes the output of each convolution right behind it where that is exact, so that its kernel can give codes.

    A quantizer behind clamps and moves is repeated in front of them. With codes q(x), values d(q(x)) and a clamp c,
    q(c(d(q(x)))) = q(c(x)) for every x: q and c are monotone, and d(q(x)) lies on the same side of both ends of c as x does, or
    has the code of that end.
    """
    for layer in [node for node in graph.nodes if node.op_type in CONVOLUTIONS]:
        quantizer, passed = _behind(graph, layer)
        if quantizer is None:
            graph.reasons.setdefault(layer.name, _why_not(graph, layer))
        elif passed and not _is_idle(graph, passed, quantizer):
            _repeat(graph, layer, quantizer)
        elif passed and _is_signed(graph, quantizer):
            _pass_by(graph, passed[0])


def _behind(graph: IntegerGraph, layer: NodeProto) -> tuple[NodeProto | None, list[NodeProto]]:
    """The quantizer that a layer's output reaches through clamps and moves alone, and these."""
    passed: list[NodeProto] = []
    node = graph.alone(layer.output[0])
    while node is not None and node.op_type in CLAMPS | MOVES:
        passed.append(node)
        node = graph.alone(node.output[0])
    readers = graph.readers((passed[-1] if passed else layer).output[0])
    return _common(graph, readers), passed


def _common(graph: IntegerGraph, readers: list[NodeProto | None]) -> NodeProto | None:
    """The first of several quantizers that are alike, with one scale for the whole tensor; None if a reader is another node."""
    found = [node for node in readers if node is not None and node.op_type == QUANTIZE]
    alike = len({tuple(node.input[1:3]) for node in found}) == 1 and len(found) == len(readers)
    return found[0] if alike and np.size(np.asarray(graph.array(found[0].input[1]))) == 1 else None


def _why_not(graph: IntegerGraph, layer: NodeProto) -> str:
    readers = sorted({node.op_type for node in graph.users(layer.output[0])})
    if None in graph.readers(layer.output[0]):
        return "its output is an output of the model, which is not quantized"
    if readers == [NORMALIZATION]:
        return "its batch normalization is not folded"
    return f"its output is not quantized before {' and '.join(readers)}"


def _is_idle(graph: IntegerGraph, passed: list[NodeProto], quantizer: NodeProto) -> bool:
    """Whether what lies between does nothing that the quantizer does not do: one clamp whose range holds the quantizer's."""
    if len(passed) != 1 or passed[0].op_type not in CLAMPS:
        return False
    low, high = _represented(graph, quantizer)
    least, most = _clamped(graph, passed[0])
    return least <= low and high <= most


def _is_signed(graph: IntegerGraph, quantizer: NodeProto) -> bool:
    """Whether codes are signed; ONNX Runtime takes an idle clamp away in front of unsigned ones alone."""
    return np.asarray(graph.array(quantizer.input[2])).dtype == np.int8


def _pass_by(graph: IntegerGraph, clamp: NodeProto) -> None:
    """Takes an idle clamp out of the graph."""
    for reader in graph.users(clamp.output[0]):
        reader.input[:] = [clamp.input[0] if name == clamp.output[0] else name for name in reader.input]
    graph.drop(clamp)


def _represented(graph: IntegerGraph, quantizer: NodeProto) -> tuple[float, float]:
    """Smallest and largest value of a quantizer's codes."""
    scale, zero = (np.asarray(graph.array(name)).reshape(-1)[0] for name in quantizer.input[1:3])
    limits = np.iinfo(zero.dtype)
    return (limits.min - int(zero)) * float(scale), (limits.max - int(zero)) * float(scale)


def _clamped(graph: IntegerGraph, clamp: NodeProto) -> tuple[float, float]:
    if clamp.op_type == "Relu":
        return 0.0, np.inf
    low, high = (_number(graph, name) for name in (*clamp.input[1:], "", "")[:2])
    return -np.inf if low is None else low, np.inf if high is None else high


def _number(graph: IntegerGraph, name: str) -> float | None:
    stored = graph.array(name) if name else None
    return None if stored is None or not stored.size else float(stored.reshape(-1)[0])


def _repeat(graph: IntegerGraph, layer: NodeProto, quantizer: NodeProto) -> None:
    """Puts the quantizer's pair right behind the layer too."""
    _insert_pair(graph, graph.users(layer.output[0])[0], layer.output[0], list(quantizer.input[1:3]))


def _insert_pair(graph: IntegerGraph, reader: NodeProto, name: str, settings: list[str]) -> None:
    """Puts a quantizer and its counterpart between a tensor and one node that reads it."""
    stem = f"{name}_for_{reader.name}"
    codes, values = f"{stem}_codes", f"{stem}_values"
    pair = (
        helper.make_node(QUANTIZE, [name, *settings], [codes], f"{stem}_quantize"),
        helper.make_node(DEQUANTIZE, [codes, *settings], [values], f"{stem}_dequantize"),
    )
    graph.insert_before(reader, *pair)
    reader.input[:] = [values if given == name else given for given in reader.input]


def with_codes_before_layers(graph: IntegerGraph) -> None:
    """Quantizes the data of each layer right before it where moves stand between: values that codes stand for stay the same."""
    for layer in [node for node in graph.nodes if node.op_type in LAYERS]:
        name = layer.input[0]
        origins = _origins(graph, name)
        settings = {tuple(node.input[1:3]) for node in origins if node is not None}
        if len(settings) != 1 or None in origins or origins == [graph.maker(name)]:
            continue
        scale, zero = settings.pop()
        if np.size(np.asarray(graph.array(scale))) == 1:
            _insert_pair(graph, layer, name, [scale, zero])


def _origins(graph: IntegerGraph, name: str) -> list[NodeProto | None]:
    """The DequantizeLinear nodes whose values ``name`` holds, moved or joined; None for anything else."""
    maker = graph.maker(name)
    if maker is not None and maker.op_type == JOIN:
        return [origin for one in maker.input for origin in _origins(graph, one)]
    if maker is not None and maker.op_type in MOVES:
        return _origins(graph, maker.input[0])
    return [maker if maker is not None and maker.op_type == DEQUANTIZE else None]


def with_integer_biases(graph: IntegerGraph) -> None:
    """Stores each bias as int32 codes of step (step of the data)·(step of the weight), as integer kernels add it.

    A bias beyond the range of int32 stays in float, as one that has other channels than the weight's scales, and so does the
    layer: a ConvTranspose with several groups has its scales by channel within a group.
    """
    for layer in [node for node in graph.nodes if len(node.input) > BIAS and node.op_type in LAYERS]:
        data, weight = graph.dequantizer(layer.input[0]), graph.weight(layer)
        bias = graph.array(layer.input[BIAS])
        if data is None or weight is None or bias is None or not _plain(layer):
            continue
        steps = np.asarray(graph.array(data.input[1]), np.float32) * np.asarray(graph.array(weight.input[1]), np.float32)
        if steps.size not in {1, bias.size}:
            graph.reasons[layer.name] = f"its bias has {bias.size} channels, its weight {steps.size} scales that groups share"
            continue
        codes = np.rint(bias.astype(np.float64) / steps.astype(np.float64))
        if not bool((np.abs(codes) <= INT32.max).all()):
            graph.reasons[layer.name] = "its bias is too large for int32 at this scale"
            continue
        _store_bias(graph, layer, codes.astype(np.int32), steps.reshape(-1))


def _plain(layer: NodeProto) -> bool:
    """Whether a Gemm has factors of one; other layers have none."""
    return all(one.f == 1.0 for one in layer.attribute if one.name in {"alpha", "beta"})


def _store_bias(graph: IntegerGraph, layer: NodeProto, codes: Array, steps: Array) -> None:
    name = layer.input[BIAS]
    stored = graph.store(name + SUFFIX, codes)
    scale = graph.store(f"{name}_scale", steps if steps.size > 1 else steps[0])
    zero = graph.store(f"{name}_zero_point", np.zeros(np.shape(steps if steps.size > 1 else 0), np.int32))
    made = helper.make_node(DEQUANTIZE, [stored, scale, zero], [f"{stored}_values"], f"{stored}_dequantize", axis=0)
    graph.insert_before(layer, made)
    layer.input[BIAS] = made.output[0]


def cleaned(graph: IntegerGraph) -> ModelProto:
    """The model without stored tensors that nothing reads, without noted shapes of inner tensors, and without idle domains."""
    model = without_value_info(graph.model)
    drop_unused(model.graph)
    domains = {node.domain for node in model.graph.node} | {""}
    for opset in [opset for opset in model.opset_import if opset.domain not in domains]:
        model.opset_import.remove(opset)
    return model
