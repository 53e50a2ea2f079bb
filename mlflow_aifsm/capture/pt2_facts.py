"""Facts on a delivered pt2 archive: interface, operators, size, digests, zeros, what is left of training.

They are read from the file, loaded again, and have the names and the meaning of those of an ONNX file.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator

import torch
from torch import fx

from mlflow_aifsm.capture import aten
from mlflow_aifsm.capture.aten import Call
from mlflow_aifsm.capture.evaluation_mode import call_arguments, operator_calls
from mlflow_aifsm.capture.graph_facts import SOURCE_PATH
from mlflow_aifsm.capture.pt2_file import Pt2File, inputs_outputs
from mlflow_aifsm.capture.torch_module import state_digest
from mlflow_aifsm.capture.weight_types import precision
from mlflow_aifsm.digests import sha256_bytes
from mlflow_aifsm.facts import Fact, Json, measured, not_applicable, not_recorded

MATRIX = 2
"""Axes from which on a parameter is a weight that multiplies data; biases and scales have one."""


def facts(file: Pt2File) -> list[Fact]:
    """All ``graph.*`` facts and ``zeros.ratio`` of one pt2 archive, each measured from the file."""
    calls = [Call(node.name, str(node.target), call_arguments(node)) for node in operator_calls(file.program.graph_module)]
    inputs, outputs = inputs_outputs(file.program)
    size, digest = file.files[0].size, canonical_digest(file)
    stored = [part for part in (*file.program.state_dict.values(), *file.program.constants.values()) if hasattr(part, "numel")]
    return [
        _interface(file, "graph.inputs", inputs),
        _interface(file, "graph.outputs", outputs),
        not_applicable(
            "graph.opset", "a pt2 archive holds ATen operators, which have no ONNX operator set", source=file.source
        ),
        _producer(file),
        aten.operators(calls, file.source),
        precision(((str(part.dtype).removeprefix("torch."), part.numel()) for part in stored), file.source),
        measured("graph.size", f"{size:,} bytes", size, source=file.source),
        measured("graph.canonical_digest", digest, digest, source=file.source, short=digest[:12]),
        _source_paths(file),
        *aten.eliminations(calls, (*file.program.state_dict, *file.program.constants), file.source),
        _zeros(file),
    ]


def canonical_digest(file: Pt2File) -> str:
    """SHA-256 in hex over what the program computes: its tensors by name, its calls in order, its inputs and outputs.

    Nested graphs are covered where they stand; stack traces and other metadata are left out.
    """
    graphs = [(path, list(_rows(module))) for path, module in _graphs(file)]
    return sha256_bytes(repr((state_digest(file.program), graphs, inputs_outputs(file.program))).encode())


def _graphs(file: Pt2File) -> Iterator[tuple[str, fx.GraphModule]]:
    return ((path, part) for path, part in file.program.graph_module.named_modules() if isinstance(part, fx.GraphModule))


def _rows(module: fx.GraphModule) -> Iterator[tuple[str, ...]]:
    return ((node.op, node.name, str(node.target), str(node.args), str(node.kwargs)) for node in module.graph.nodes)


def _interface(file: Pt2File, name: str, rows: list[dict[str, Json]]) -> Fact:
    text = "; ".join(f"{row['name']} {row['dtype']} [{', '.join(map(str, row['shape']))}]" for row in rows)
    return measured(name, text or "no tensor", rows, source=file.source)


def _producer(file: Pt2File) -> Fact:
    with zipfile.ZipFile(file.path) as archive:
        model = next(name for name in archive.namelist() if name.partition("/")[2].startswith("models/"))
        made_by = json.loads(archive.read(model)).get("torch_version")
    if not made_by:
        return not_recorded("graph.producer", "the archive names no version of PyTorch", "export it with a newer PyTorch")
    return measured("graph.producer", f"PyTorch {made_by}", f"PyTorch {made_by}", source=file.source)


def _source_paths(file: Pt2File) -> Fact:
    nodes = [node for _, module in _graphs(file) for node in module.graph.nodes]
    count = sum(bool(SOURCE_PATH.search(node.meta.get("stack_trace") or "")) for node in nodes)
    if not count:
        return measured(
            "graph.source_paths", "No stack trace with an absolute path in the file", 0, source=file.source, short="none"
        )
    text = f"{count} of {len(nodes)} nodes name absolute source paths in their metadata, which is no part of the model"
    return measured("graph.source_paths", text, count, source=file.source, short="left in the file")


def _zeros(file: Pt2File) -> Fact:
    weights = [tensor for _, tensor in file.program.named_parameters() if tensor.dim() >= MATRIX]
    total = sum(weight.numel() for weight in weights)
    zeros = total - sum(int(torch.count_nonzero(weight)) for weight in weights)
    ratio = zeros / total if total else 0.0
    text = f"{zeros:,} of {total:,} weights are zero" + (f" ({ratio:.1%})" if zeros else "")
    return measured("zeros.ratio", text, ratio, source=file.source, short=f"{ratio:.3f}")
