"""A TorchScript archive as it lies on disk, and the facts on it.

``torch.jit.load`` reads the archive with PyTorch's own reader, which knows tensors and compiled classes only: no Python object
is unpickled and no Python module imported. The file names the inputs, but neither their element types nor their shapes.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.jit import ScriptModule

from mlflow_aifsm.capture import aten
from mlflow_aifsm.capture.aten import Call
from mlflow_aifsm.capture.torch_module import state_digest
from mlflow_aifsm.capture.weight_types import precision
from mlflow_aifsm.digests import FileDigest, file_digest, sha256_bytes
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact, Json, measured, not_applicable, not_recorded

_ARGUMENT = re.compile(r"(\w+)(?:=[^,()]*)?(?=[,)])")
"""The name of an argument in an operator's schema: what stands before its default, a comma or the end."""
_VALUE = re.compile(r"%[\w.]+")
_SOURCE = re.compile(rb"(/|[A-Za-z]:\\)[\w./\\ -]+\.py\b")


@dataclass(frozen=True, slots=True, eq=False)
class TorchScriptFile:
    """A TorchScript archive that was loaded: where it lies, its digest, its module."""

    path: Path
    files: tuple[FileDigest, ...]
    module: ScriptModule

    @property
    def source(self) -> str:
        """How facts name this file: ``model.pt (sha256 0123456789ab…)``."""
        return f"{self.path.name} (sha256 {self.files[0].sha256[:12]}…)"


def opened(path: Path) -> TorchScriptFile:
    """The archive at ``path`` with its module and its digest.

    Raises:
        InputError: If it is damaged.
    """
    return TorchScriptFile(path, (file_digest(path),), load(path))


def load(path: Path) -> ScriptModule:
    """The module of the archive at ``path``, on the CPU.

    Raises:
        InputError: If it is damaged.
    """
    try:
        module: ScriptModule = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise InputError(
            f"{path} is damaged or no TorchScript archive", got=reason, remedy="copy it again as a whole"
        ) from error
    return module


def inputs_outputs(module: ScriptModule) -> tuple[list[dict[str, Json]], list[dict[str, Json]]]:
    """Inputs by their names in ``forward``, outputs by position; element types and shapes are not in the file.

    Raises:
        InputError: If it takes or returns anything but tensors and tuples of them.
    """
    schema: Any = module.forward.schema  # type: ignore[attr-defined]
    fed = [(argument.name, argument.type) for argument in schema.arguments[1:]]
    made = [leaf for result in schema.returns for leaf in _leaves(result.type)]
    for name, kind in (*fed, *(("its output", kind) for kind in made)):
        if str(kind) != "Tensor":
            raise InputError(
                f"the TorchScript takes or returns no tensor as {name}", got=str(kind), expected="tensors, or tuples of them"
            )
    outputs = ["output"] if len(made) == 1 else [f"output_{index}" for index in range(len(made))]
    return [_untyped(name) for name, _ in fed], [_untyped(name) for name in outputs]


def facts(file: TorchScriptFile) -> list[Fact]:
    """The ``graph.*`` facts of a TorchScript archive as far as the file tells them, and the number of its parameters."""
    module, source = file.module, file.source
    calls, size = list(_calls(module)), file.files[0].size
    inputs, outputs = inputs_outputs(module)
    held = (*module.named_parameters(), *module.named_buffers())
    named, stored = [name for name, _ in held], [part for _, part in held]
    return [
        _interface("graph.inputs", inputs, source),
        _interface("graph.outputs", outputs, source),
        not_applicable("graph.opset", "a TorchScript holds ATen operators, which have no ONNX operator set", source=source),
        not_recorded("graph.producer", "a TorchScript archive names no producer", "name the tool with record.declare"),
        aten.operators(calls, source),
        precision(((str(part.dtype).removeprefix("torch."), part.numel()) for part in stored), source),
        measured("graph.size", f"{size:,} bytes", size, source=source),
        _source_paths(file),
        *aten.eliminations(calls, named, source),
        *_weights(module, source),
    ]


def _weights(module: ScriptModule, source: str) -> list[Fact]:
    """Parameter count and canonical digest; a module that ``torch.jit.freeze`` made names none of its weights."""
    count = sum(parameter.numel() for parameter in module.parameters())
    if not count:
        reason, remedy = (
            "the archive holds its weights, if any, as constants without names",
            "deliver it without torch.jit.freeze",
        )
        return [not_recorded(name, reason, remedy) for name in ("model.parameters", "graph.canonical_digest")]
    digest = _canonical_digest(module)
    return [
        measured("model.parameters", f"{count:,}", count, source=source),
        measured("graph.canonical_digest", digest, digest, source=source, short=digest[:12]),
    ]


def _source_paths(file: TorchScriptFile) -> Fact:
    with zipfile.ZipFile(file.path) as archive:
        debug = [name for name in archive.namelist() if name.endswith(".debug_pkl")]
        count = sum(bool(_SOURCE.search(archive.read(name))) for name in debug)
    if not count:
        return measured(
            "graph.source_paths", "No stack trace with an absolute path in the file", 0, source=file.source, short="none"
        )
    text = f"{count} of {len(debug)} debug records name absolute source paths, which are no part of the model"
    return measured("graph.source_paths", text, count, source=file.source, short="left in the file")


def _canonical_digest(module: ScriptModule) -> str:
    """SHA-256 over the tensors by name and the inlined graph, values numbered in order, source positions left out."""
    numbers: dict[str, str] = {}
    lines = (line.partition(" # ")[0] for line in str(module.inlined_graph).splitlines())
    graph = [_VALUE.sub(lambda found: numbers.setdefault(found[0], f"%{len(numbers)}"), line) for line in lines]
    return sha256_bytes(repr((state_digest(module), graph)).encode())


def _interface(name: str, rows: list[dict[str, Json]], source: str) -> Fact:
    text = ", ".join(f"{row['name']} (tensor, element type and shape not in the file)" for row in rows)
    return measured(name, text or "no tensor", rows, source=source)


def _untyped(name: str) -> dict[str, Json]:
    return {"name": name, "dtype": "untyped", "shape": ["?"]}


def _leaves(kind: Any) -> Iterator[Any]:
    if kind.kind() == "TupleType":
        for element in kind.elements():
            yield from _leaves(element)
    else:
        yield kind


def _calls(module: ScriptModule) -> Iterator[Call]:
    """All calls of ATen operators, branches and loops included, with those arguments that are constants or attributes."""
    for node in _nodes(module.inlined_graph):
        schema = node.schema()
        if node.kind().startswith("aten::") and schema != "(no schema)":
            names = _ARGUMENT.findall(schema.partition("(")[2].partition(") -> ")[0] + ")")
            values = (_constant(value, module) for value in node.inputs())
            name = next((value.debugName() for value in node.outputs()), node.kind())
            yield Call(name, node.kind().replace("::", "."), dict(zip(names, values, strict=False)))


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _constant(value: Any, module: ScriptModule) -> object:
    """A number or flag that is a constant of the graph, or an attribute of a module as ``training`` is; None for all others."""
    made_by = value.node()
    found = value.toIValue() if made_by.kind() == "prim::Constant" else _owned(value, module)
    return found if isinstance(found, bool | int | float) else None


def _owned(value: Any, module: ScriptModule) -> object:
    made_by = value.node()
    if made_by.kind() == "prim::GetAttr":
        return getattr(_owned(made_by.input(), module), made_by.s("name"), None)
    return module if made_by.kind() == "prim::Param" else None
