"""What a file costs: weights, multiply-adds for one sample, bytes when compressed; each with and without its zeros.

Multiply-adds follow from the shapes that ONNX infers from the graph alone: nothing is run. Every element of a weight is
multiplied as often as its layer has output positions, so a zero saves as many multiply-adds, on hardware that can skip it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper, shape_inference

from mlflow_aifsm.capture.layer_weights import LayerWeight
from mlflow_aifsm.capture.onnx_graph import OnnxFile
from mlflow_aifsm.capture.sparsity import Zeros
from mlflow_aifsm.facts import Fact, Json, measured, not_recorded

Shape = tuple[int, ...]

LEVEL = 6
"""Level of zlib, its default."""

PIECE = 1 << 20
"""Bytes compressed at a time."""

SMALL = 1024
"""Elements up to which a constant may say a shape; larger ones are weights, whose values tell no shape."""

BY_INPUT = frozenset({"ConvTranspose", "LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"})
"""Operators that multiply each weight once for each position of their input; all others for each of their output."""

NAMED = 5


def uses(file: OnnxFile, weights: Sequence[LayerWeight]) -> dict[str, int]:
    """How often each element of a weight is multiplied for one sample, by tensor; weights of unknown shapes are left out.

    A sample is one step along the first axis of the first input. Padding is counted as if it were data.
    """
    shapes, batch = _shapes(file)
    main = {id(node) for node in file.scopes[0].nodes}
    found = {}
    for weight in weights:
        # what stands in a subgraph or a function has shapes of its own
        counts = [_positions(node, weight, shapes) if id(node) in main else None for node in weight.nodes]
        known = [count for count in counts if count is not None]
        if len(known) == len(counts):
            found[weight.label] = sum(known) // batch
    return found


def facts(
    file: OnnxFile, zeros: Sequence[Zeros], times: Mapping[str, int], before: OnnxFile | None, *, pruning_logged: bool
) -> list[Fact]:
    """``workload.parameters``, ``workload.multiply_adds`` and, where a pruning step is on record, ``workload.compressed``.

    Args:
        file: The delivered file.
        zeros: Zeros of its weights.
        times: What ``uses`` tells of them.
        before: The float file it was made from.
        pruning_logged: Whether a pruning step is on record; files are only compressed then, because it takes seconds.
    """
    made = [_parameters(file, zeros), _multiply_adds(file, zeros, times)]
    return [*made, _compressed(file, before)] if pruning_logged else made


def columns(row: Zeros, times: Mapping[str, int]) -> dict[str, Json]:
    """Columns of the sparsity table: multiply-adds for one sample, and those of weights that are not zero; None: not known."""
    count = times.get(row.tensor)
    alive = None if count is None else count * (row.size - row.zeros)
    return {"multiply_adds": None if count is None else count * row.size, "nonzero_multiply_adds": alive}


def compressed_size(file: OnnxFile) -> int:
    """Bytes of the file set when each of its files is compressed by zlib at level 6, read in pieces."""
    return sum(_deflated(file.path.parent / part.path) for part in file.files)


def _parameters(file: OnnxFile, zeros: Sequence[Zeros]) -> Fact:
    size, alive = sum(row.size for row in zeros), sum(row.size - row.zeros for row in zeros)
    before = _before(zeros, dict.fromkeys((row.tensor for row in zeros), 1))
    text = f"{size:,} weights, {alive:,} of them not zero{'' if before is None else f' (before: {before:,})'}"
    return measured("workload.parameters", text, alive, source=file.source)


def _multiply_adds(file: OnnxFile, zeros: Sequence[Zeros], times: Mapping[str, int]) -> Fact:
    name = "workload.multiply_adds"
    counted = [row for row in zeros if row.tensor in times]
    missing = [row.layer for row in zeros if row.tensor not in times]
    if not counted:
        reason = (
            "the file has no weight that is multiplied with data" if not zeros else "the shapes of its layers are not known"
        )
        return not_recorded(name, reason, "export with input sizes that are fixed but for the batch")
    every, alive = (sum(times[row.tensor] * count(row) for row in counted) for count in (_all, _alive))
    before = _before(counted, times)
    text = f"{every:,} multiply-adds a sample, {alive:,} of them with weights that are not zero"
    text += "" if before is None else f" (before: {before:,})"
    text += f"; not counted, shapes not known: {_listed(missing)}" if missing else ""
    data: Json = {"multiply_adds": every, "nonzero": alive, "not_counted": missing} if missing else alive
    return measured(name, text, data, source=file.source)


def _compressed(file: OnnxFile, before: OnnxFile | None) -> Fact:
    name = "workload.compressed"
    after, whole = compressed_size(file), sum(part.size for part in file.files)
    text = f"{after:,} bytes of {whole:,} (zlib, level {LEVEL})"
    if before is None:
        return measured(name, text, source=file.source)
    earlier, size = compressed_size(before), sum(part.size for part in before.files)
    return measured(name, f"{text}; before {earlier:,} of {size:,}", after / earlier, source=file.source)


def _all(row: Zeros) -> int:
    return row.size


def _alive(row: Zeros) -> int:
    return row.size - row.zeros


def _before(zeros: Sequence[Zeros], times: Mapping[str, int]) -> int | None:
    """Multiplications of weights that were not zero in the float file; None where it does not tell of each."""
    known = [(row.size - row.before) * times[row.tensor] for row in zeros if row.before is not None]
    return sum(known) if known and len(known) == len(zeros) else None


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _deflated(path: Path) -> int:
    packer, size = zlib.compressobj(LEVEL), 0
    with path.open("rb") as stream:
        while piece := stream.read(PIECE):
            size += len(packer.compress(piece))
    return size + len(packer.flush())


def _positions(node: NodeProto, weight: LayerWeight, shapes: Mapping[str, Shape]) -> int | None:
    """How often a node multiplies each element of its weight, for the whole batch."""
    by_input = node.op_type in BY_INPUT
    shape = shapes.get(node.input[0] if by_input else node.output[0])
    if not shape or not weight.size:
        return None
    if not by_input:
        return math.prod(shape) // weight.outputs
    channels = shape[1] if node.op_type == "ConvTranspose" else shape[-1]
    return math.prod(shape) // channels if channels else None


def _shapes(file: OnnxFile) -> tuple[dict[str, Shape], int]:
    """Shapes of all tensors of the main graph that are known for a batch, and the size of that batch: 1 where it is open."""
    graph = file.model.graph
    held = {item.name for item in graph.initializer}
    fed = [value for value in graph.input if value.name not in held]
    first = fed[0].type.tensor_type.shape.dim[:1] if fed else []
    batch = first[0].dim_value if first and first[0].dim_value > 0 else 1
    open_sizes = {size.dim_param for value in fed for size in value.type.tensor_type.shape.dim[:1] if size.dim_param}
    light = ModelProto(
        ir_version=max(file.model.ir_version, 4), opset_import=file.model.opset_import, functions=file.model.functions
    )
    light.graph.CopyFrom(_light(file, graph, open_sizes))
    inferred = _inferred(light)
    known = [*graph.value_info, *graph.output, *inferred.value_info, *inferred.output, *inferred.input]
    return {value.name: shape for value in known if (shape := _sizes(value, open_sizes)) is not None}, batch


def _inferred(light: ModelProto) -> GraphProto:
    try:
        return shape_inference.infer_shapes(light, data_prop=True).graph
    except shape_inference.InferenceError:
        # an operator of an unknown domain stops it; what the exporter wrote down is told all the same
        return GraphProto()


def _light(file: OnnxFile, graph: GraphProto, open_sizes: set[str]) -> GraphProto:
    """The graph with weights as inputs, which have a shape and no values, and the batch's open sizes set to 1."""
    small = [_inline(file, item) for item in graph.initializer if math.prod(item.dims) <= SMALL]
    large = [item for item in graph.initializer if math.prod(item.dims) > SMALL]
    held = {item.name for item in graph.initializer}
    fed = [_fixed(value, open_sizes) for value in graph.input if value.name not in held]
    fed += [helper.make_tensor_value_info(item.name, item.data_type, list(item.dims)) for item in large]
    return GraphProto(
        name=graph.name,
        node=graph.node,
        input=fed,
        output=[ValueInfoProto(name=one.name) for one in graph.output],
        initializer=small,
    )


def _inline(file: OnnxFile, item: TensorProto) -> TensorProto:
    external = item.data_location == TensorProto.EXTERNAL
    return numpy_helper.from_array(file.array(item), item.name) if external else item


def _fixed(value: ValueInfoProto, open_sizes: set[str]) -> ValueInfoProto:
    fixed = ValueInfoProto()
    fixed.CopyFrom(value)
    for place, size in enumerate(fixed.type.tensor_type.shape.dim):
        if size.dim_param in open_sizes or (not place and not size.dim_value):
            size.dim_value = 1
    return fixed


def _sizes(value: ValueInfoProto, open_sizes: set[str]) -> Shape | None:
    kind = value.type.tensor_type
    sizes = [size.dim_value or (1 if size.dim_param in open_sizes else 0) for size in kind.shape.dim]
    return tuple(sizes) if kind.HasField("shape") and all(sizes) else None
