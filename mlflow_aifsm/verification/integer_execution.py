"""Which layers ONNX Runtime really runs in integers, read from the graph it has optimized for this processor.

A file full of quantizers does not say so: a runtime without a kernel for a type or a granularity dequantizes and computes in
float. The optimized graph is what runs.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as states

from mlflow_aifsm.capture.float_layers import FLOAT_LAYERS, INTEGER_LAYERS, WEIGHT_ONLY_LAYERS, integer_layers
from mlflow_aifsm.capture.onnx_graph import OnnxFile, node_name, nodes, opened, read
from mlflow_aifsm.facts import Fact, Finding, measured, not_recorded

INTEGER = INTEGER_LAYERS | {"QLinearConvTranspose", "QAttention", "DynamicQuantizeLSTM", "NhwcConvInteger"}
FLOAT = FLOAT_LAYERS | {"NhwcFusedConv", "TransposeMatMul", "Attention", "MultiHeadAttention"}

PROVIDER = "CPUExecutionProvider"

ERROR_ONLY = 3
"""ONNX Runtime's severity from which on it writes to the log; below, it warns that an optimized graph fits this host alone."""

SHARE = 0.5
"""Part of the layers in integers from which on a runtime is said not to run them so.

A few in float are usual, a matrix product with a float bias at the end of the graph for instance; the text names them all.
"""

NAMED = 5
"""Layers that a finding names."""

REFUSALS: tuple[type[Exception], ...] = (states.Fail, states.InvalidGraph, states.InvalidProtobuf, states.InvalidArgument)
REFUSALS += (states.NotImplemented, states.RuntimeException, states.NoModel, states.NoSuchFile, states.EPFail)


def facts(source: Path | OnnxFile) -> list[Fact]:
    """``runtime.integer_operators`` and ``runtime.integer_ratio`` for ONNX Runtime's CPU provider at its default level.

    Layers are convolutions, matrix products and recurrent cells; the ratio is the share of them that compute on integers.
    A layer with weights as integers and data as float (MatMulNBits) computes in float. A file that the runtime refuses has no
    value and a finding ``runtime_refuses``; where most layers with quantized data and weights run in float, there is a finding
    ``runs_in_float``. Layers that stay in float in the file itself, or have weights alone quantized, are not asked to be
    integers.

    Raises:
        InputError: If the file cannot be read.
    """
    file = opened(source)
    try:
        found = _optimized(file.path)
    except REFUSALS as error:
        return _refused(file.path, " ".join(str(error).split()))
    operators = Counter(op_type for op_type, _ in found)
    ran = {name: count for name, count in operators.items() if name in INTEGER}
    kept = {name: count for name, count in operators.items() if name in FLOAT}
    unpacked = {name: count for name, count in operators.items() if name in WEIGHT_ONLY_LAYERS}
    in_float = {name for op_type, name in found if op_type in FLOAT}
    return _counted(ran, kept, unpacked, _runs_in_float(integer_layers(file), in_float))


def float_layers(path: Path) -> list[str]:
    """Names of the layers that ONNX Runtime computes in float on this host; empty where it refuses the file, as ``facts`` says.

    Raises:
        InputError: If the file cannot be read.
    """
    try:
        return [name for op_type, name in _optimized(path) if op_type in FLOAT]
    except REFUSALS:
        return []


def _optimized(path: Path) -> list[tuple[str, str]]:
    """Operator and name of each node of the graph that ONNX Runtime made of the file for this host."""
    with tempfile.TemporaryDirectory(prefix="aifsm-") as folder:
        target = Path(folder) / "optimized.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERROR_ONLY
        options.optimized_model_filepath = str(target)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
        onnxruntime.InferenceSession(str(path), options, providers=[PROVIDER])
        return [(node.op_type, node_name(node)) for node in nodes(read(target))]


def _runs_in_float(asked: list[str], in_float: set[str]) -> list[Finding]:
    """The finding that most of the layers ``asked`` are among those that the runtime runs ``in_float``.

    The runtime leaves a layer that it computes in float its name.
    """
    found = [name for name in asked if name in in_float]
    if len(found) <= SHARE * len(asked):
        return []
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    layers = "layers with quantized data and weights"
    measured = f"{len(found)} of {len(asked)} {layers} run in float: {', '.join(found[:NAMED])}{more}"
    effect = "this runtime turns the integers back into floats: they gain no speed, and its outputs are not integer arithmetic"
    return [Finding("runs_in_float", asked=f"integers in {len(asked)} {layers}", measured=measured, effect=effect)]


def _counted(ran: dict[str, int], kept: dict[str, int], unpacked: dict[str, int], findings: list[Finding]) -> list[Fact]:
    source = f"ONNX Runtime {onnxruntime.__version__} (CPU)"
    integers, total = sum(ran.values()), sum((*ran.values(), *kept.values(), *unpacked.values()))
    groups = {": ": ran, "; in float: ": kept, "; in float with integer weights: ": unpacked}
    parts = [
        f"{label}{', '.join(f'{name} {count}' for name, count in group.items())}" for label, group in groups.items() if group
    ]
    text = f"{source} runs {integers} of {total} layers in integers{''.join(parts)}"
    data = {"integer": ran, "float": kept, "weight_only": unpacked}
    operators = measured(
        "runtime.integer_operators",
        text,
        data,
        source=f"optimized graph of {source}",
        short=f"{integers} of {total}",
        findings=findings,
    )
    if not total:
        return [
            operators,
            not_recorded("runtime.integer_ratio", "no convolution, matrix product or recurrent cell in the file"),
        ]
    ratio = integers / total
    fact = measured("runtime.integer_ratio", f"{ratio:.0%} of {total} layers", ratio, source=f"optimized graph of {source}")
    return [operators, fact]


def _refused(path: Path, why: str) -> list[Fact]:
    source = f"ONNX Runtime {onnxruntime.__version__}"
    effect = "the file cannot be used with this runtime"
    finding = Finding("runtime_refuses", asked=f"a file that {source} runs", measured=why, effect=effect)
    reason = f"{source} refuses {path.name}: {why}"
    remedy = "quantize with settings that the runtime supports"
    return [
        not_recorded("runtime.integer_operators", reason, remedy, [finding]),
        not_recorded("runtime.integer_ratio", reason, remedy),
    ]
