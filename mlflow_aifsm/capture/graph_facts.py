"""Facts on the graph of a delivered ONNX file: interface, operators, size, digests, what is left of training."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

from mlflow_aifsm.capture.canonical import canonical_digest
from mlflow_aifsm.capture.eliminations import eliminations
from mlflow_aifsm.capture.onnx_graph import OnnxFile, initializers, inputs_outputs, opened
from mlflow_aifsm.capture.onnx_tensors import type_name
from mlflow_aifsm.capture.weight_types import precision
from mlflow_aifsm.facts import Fact, Json, measured, not_recorded

SOURCE_PATH = re.compile(r"""File ["'](/|[A-Za-z]:[\\/])""")
"""An absolute path as a Python stack trace writes it."""


def facts(source: Path | OnnxFile) -> list[Fact]:
    """All ``graph.*`` facts of one ONNX file, each measured from the file.

    Raises:
        InputError: If the file cannot be read.
    """
    file = opened(source)
    inputs, outputs = inputs_outputs(file)
    return [
        _interface(file, "graph.inputs", inputs),
        _interface(file, "graph.outputs", outputs),
        _opset(file),
        _producer(file),
        _operators(file),
        precision(((type_name(item.data_type), math.prod(item.dims)) for item in initializers(file.model)), file.source),
        _size(file),
        measured("graph.canonical_digest", digest := canonical_digest(file), digest, source=file.source, short=digest[:12]),
        _source_paths(file),
        *eliminations(file),
    ]


def _interface(file: OnnxFile, name: str, rows: list[dict[str, Json]]) -> Fact:
    text = "; ".join(f"{row['name']} {row['dtype']} [{', '.join(map(str, row['shape']))}]" for row in rows)
    return measured(name, text or "no tensor", rows, source=file.source)


def _opset(file: OnnxFile) -> Fact:
    versions = {item.domain or "ai.onnx": item.version for item in file.model.opset_import}
    used = {node.domain or "ai.onnx" for node in file.nodes} - {"ai.onnx"}
    shown = [domain for domain in ("ai.onnx", *sorted(used)) if domain in versions]
    text = ", ".join(f"{domain} {versions[domain]}" for domain in shown)
    return measured("graph.opset", text, versions.get("ai.onnx"), source=file.source, short=str(versions.get("ai.onnx", "")))


def _producer(file: OnnxFile) -> Fact:
    text = f"{file.model.producer_name} {file.model.producer_version}".strip()
    if not text:
        return not_recorded("graph.producer", "the file names no producer", "export it with a tool that writes its name")
    return measured("graph.producer", text, text, source=file.source)


def _operators(file: OnnxFile) -> Fact:
    counts = dict(sorted(Counter(node.op_type for node in file.nodes).items(), key=lambda item: (-item[1], item[0])))
    text = ", ".join(f"{name} {count}" for name, count in counts.items())
    return measured("graph.operators", text or "no node", counts, source=file.source, short=f"{len(file.nodes)} nodes")


def _size(file: OnnxFile) -> Fact:
    size = sum(item.size for item in file.files)
    parts = f" in {len(file.files)} files" if len(file.files) > 1 else ""
    return measured("graph.size", f"{size:,} bytes{parts}", size, source=file.source)


def _source_paths(file: OnnxFile) -> Fact:
    written = ((node, (node.doc_string, *(item.value for item in node.metadata_props))) for node in file.nodes)
    found = [node for node, texts in written if any(map(SOURCE_PATH.search, texts))]
    name, count = "graph.source_paths", len(found)
    if not found:
        return measured(name, "No stack trace with an absolute path in the file", 0, source=file.source, short="none")
    text = f"{count} of {len(file.nodes)} nodes name absolute source paths in their metadata, which is no part of the model"
    return measured(name, text, count, source=file.source, short="left in the file")
