"""An ONNX file as it lies on disk: its graph without its weights, one tensor at a time, all files it is made of.

Weights are never loaded as a whole: the graph is read without external data, and a tensor's bytes are fetched when they are
asked for. Names are looked up as ONNX scopes them: a subgraph sees the graph around it, a model-local function only itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from mlflow_aifsm.capture.file_kind import FileKind, kind_of
from mlflow_aifsm.capture.onnx_check import check_graph, check_tensor
from mlflow_aifsm.capture.onnx_tensors import data_file, tensor, type_name
from mlflow_aifsm.digests import FileDigest, file_digest
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Json

MEANINGLESS = frozenset({"Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "CastLike"})
"""Operators that move or rename a tensor and leave its values as they are."""


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """One graph, subgraph or function body, with the names it defines; ``parent`` is the graph around a subgraph."""

    nodes: tuple[NodeProto, ...]
    initializers: dict[str, TensorProto]
    producers: dict[str, NodeProto]
    parent: Scope | None = None
    consumers: dict[str, list[NodeProto]] = field(default_factory=dict)

    def initializer(self, name: str) -> TensorProto | None:
        """The weight or constant called ``name``, also where a Constant node holds it; None if it is computed or fed."""
        owner = self.owner(name)
        if owner is None or name in owner.initializers:
            return owner.initializers[name] if owner else None
        node = owner.producers[name]
        held = attribute(node, "value") if node.op_type == "Constant" else None
        return held.t if held is not None else None

    def producer(self, name: str) -> NodeProto | None:
        """The node that computes ``name``; None for inputs and initializers."""
        owner = self.owner(name)
        return owner.producers.get(name) if owner else None

    def origin(self, name: str) -> str:
        """The tensor that ``name`` is a reshaped, transposed or cast copy of; ``name`` itself if it is none."""
        seen: set[str] = set()
        # a subgraph may give a name of the graph around it to a copy of a copy of it, which would go round for ever
        while name not in seen and (made_by := self.producer(name)) is not None and made_by.op_type in MEANINGLESS:
            seen.add(name)
            name = made_by.input[0]
        return name

    def used_by(self, name: str) -> list[NodeProto]:
        """The nodes that read ``name``, those in subgraphs included."""
        return (self.owner(name) or self).consumers.get(name, [])

    def link(self) -> None:
        """Enters this scope's nodes as readers, each where the name it reads is defined."""
        for node in self.nodes:
            for name in filter(None, node.input):
                (self.owner(name) or self).consumers.setdefault(name, []).append(node)

    def owner(self, name: str) -> Scope | None:
        """The scope that defines ``name``: this one or one around it; None for inputs."""
        if name in self.initializers or name in self.producers:
            return self
        return self.parent.owner(name) if self.parent else None


@dataclass(frozen=True, slots=True, eq=False)
class OnnxFile:
    """An ONNX file that was read once: where it lies, its graph, its scopes, the digests of all its files."""

    path: Path
    model: ModelProto
    scopes: tuple[Scope, ...]
    files: tuple[FileDigest, ...]

    @property
    def source(self) -> str:
        """How facts name this file: ``model.onnx (sha256 0123456789ab…)``."""
        return f"{self.path.name} (sha256 {self.files[0].sha256[:12]}…)"

    @property
    def nodes(self) -> tuple[NodeProto, ...]:
        """All nodes, those of subgraphs and functions included."""
        return tuple(node for scope in self.scopes for node in scope.nodes)

    def array(self, initializer: TensorProto) -> npt.NDArray[Any]:
        """The values of one initializer, in its own dtype and shape.

        Raises:
            InputError: If its external data is missing or too short.
        """
        return tensor(self.path, initializer)


def opened(source: Path | OnnxFile) -> OnnxFile:
    """``source`` read with its graph, scopes and digests; a file that was read already is handed back.

    Raises:
        InputError: If it cannot be read, or is no ONNX file, or names data outside its folder.
    """
    if isinstance(source, OnnxFile):
        return source
    model = read(source)
    scopes = _scopes(model)
    for scope in scopes:
        scope.link()
    return OnnxFile(source, model, scopes, _digests(source, model))


def read(path: Path) -> ModelProto:
    """The graph of an ONNX file, external data left where it is, checked against what its files can hold.

    Raises:
        InputError: If the file is missing, cut short, or no ONNX file; if external data is missing, too short or outside its
            folder; if a tensor declares another size than it has, or the graph has a cycle or is not sorted.
    """
    if (kind := kind_of(path)) is not FileKind.ONNX:
        raise InputError(f"{path} is a {kind} archive, no ONNX file", remedy="give the path of an ONNX file")
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except OSError as error:
        raise InputError(f"cannot read {path}", got=error.strerror, remedy="give the path of an ONNX file") from error
    except (DecodeError, ValueError) as error:
        raise InputError(f"{path} is damaged or no ONNX file", remedy="export it again, or copy it again as a whole") from error
    if not model.ir_version or not model.opset_import or not model.graph.output:
        raise InputError(f"{path} holds no whole ONNX graph", remedy="give the file that the exporter wrote")
    check_graph(path, model)
    for item in _tensors(model):
        check_tensor(path, item)
    return model


def file_set(path: Path) -> tuple[FileDigest, ...]:
    """Digest of the ``.onnx`` file and of each external data file it names, paths relative to its folder.

    Raises:
        InputError: If one of them cannot be read.
    """
    return _digests(path, read(path))


def nodes(model: ModelProto) -> Iterator[NodeProto]:
    """All nodes of a model, those of subgraphs (If, Loop, Scan) and of model-local functions included."""
    for scope in _scopes(model):
        yield from scope.nodes


def inputs_outputs(source: Path | OnnxFile) -> tuple[list[dict[str, Json]], list[dict[str, Json]]]:
    """Inputs that a caller feeds, and outputs: each as ``name``, ``dtype`` as NumPy writes it, and ``shape``.

    A dimension is its size, its name, or ``?``. Older files list their weights among the inputs too; these are left out.

    Raises:
        InputError: If the file cannot be read.
    """
    graph = (source.model if isinstance(source, OnnxFile) else read(source)).graph
    held = {item.name for item in graph.initializer}
    return [_described(value) for value in graph.input if value.name not in held], [_described(value) for value in graph.output]


def attribute(node: NodeProto, name: str) -> AttributeProto | None:
    """The attribute called ``name``, or None."""
    return next((found for found in node.attribute if found.name == name), None)


def integer(node: NodeProto, name: str, default: int) -> int:
    """The integer attribute called ``name``, or ``default``."""
    found = attribute(node, name)
    return default if found is None else int(found.i)


def node_name(node: NodeProto) -> str:
    """The node's name; its operator and first output where the exporter gave it none."""
    return node.name or f"{node.op_type} {next(iter(node.output), '')}".strip()


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs among a node's attributes, in order."""
    for found in node.attribute:
        if found.type == AttributeProto.GRAPH:
            yield found.g
        yield from found.graphs


def initializers(model: ModelProto) -> Iterator[TensorProto]:
    """All initializers of a model, those of subgraphs included."""
    for scope in _scopes(model):
        yield from scope.initializers.values()


def _described(value: ValueInfoProto) -> dict[str, Json]:
    if not value.type.HasField("tensor_type"):
        return {"name": value.name, "dtype": value.type.WhichOneof("value") or "untyped", "shape": ["?"]}
    kind = value.type.tensor_type
    sizes = [size.dim_value if size.HasField("dim_value") else size.dim_param or "?" for size in kind.shape.dim]
    return {"name": value.name, "dtype": type_name(kind.elem_type), "shape": sizes if kind.HasField("shape") else ["?"]}


def _scopes(model: ModelProto) -> tuple[Scope, ...]:
    return (*_nested(model.graph, None), *(scope for function in model.functions for scope in _nested(function, None)))


def _nested(graph: GraphProto | FunctionProto, parent: Scope | None) -> Iterator[Scope]:
    held = {item.name: item for item in graph.initializer} if isinstance(graph, GraphProto) else {}
    scope = Scope(tuple(graph.node), held, {name: node for node in graph.node for name in node.output if name}, parent)
    yield scope
    for node in scope.nodes:
        for inner in subgraphs(node):
            yield from _nested(inner, scope)


def _digests(path: Path, model: ModelProto) -> tuple[FileDigest, ...]:
    return (file_digest(path), *(file_digest(data_file(path, location), location) for location in _locations(model)))


def _locations(model: ModelProto) -> list[str]:
    external = (item for item in _tensors(model) if item.data_location == TensorProto.EXTERNAL)
    return sorted({entry.value for item in external for entry in item.external_data if entry.key == "location"})


def _tensors(model: ModelProto) -> Iterable[TensorProto]:
    yield from initializers(model)
    for node in nodes(model):
        yield from (found.t for found in node.attribute if found.type == AttributeProto.TENSOR)
