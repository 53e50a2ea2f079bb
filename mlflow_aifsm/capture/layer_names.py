"""Layers of an ONNX graph under the names that people know them by.

A node is known by its name, by its operator, and by the path of the module it was exported from. The path is that of its weight
(``layer4.conv2`` for ``layer4.conv2.weight``): the exporter's own note names the batch normalization that was folded into a
convolution. A node without a weight takes the exporter's note.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from onnx import NodeProto

from mlflow_aifsm.capture.onnx_graph import OnnxFile, Scope
from mlflow_aifsm.errors import InputError

SCOPES = "pkg.torch.onnx.name_scopes"
"""Metadata of a node in which PyTorch's exporter writes the modules around it, from the outermost to the operator itself."""

WEIGHT = ".weight"


def selected(file: OnnxFile, patterns: Iterable[str], what: str) -> dict[str, tuple[str, ...]]:
    """Names of the nodes that each pattern means, in the graph's order.

    Args:
        file: The float file; its nodes have names.
        patterns: Module paths, which mean all that is inside, node names, or operator types; ``*`` and ``?`` are wildcards.
        what: The argument that holds them, for the message.

    Raises:
        InputError: If a pattern means no node; the nearest names are told.
    """
    known = {node.name: names_of(file.scopes[0], node) for node in file.scopes[0].nodes if node.op_type != "Constant"}
    return matching(known, patterns, what)


def matching(known: Mapping[str, Sequence[str]], patterns: Iterable[str], what: str) -> dict[str, tuple[str, ...]]:
    """Names of the layers that each pattern means, in the order of ``known``.

    Args:
        known: What each layer goes by.
        patterns: As those of ``selected``.
        what: The argument that holds them, for the message.

    Raises:
        InputError: If a pattern means no layer; the nearest names are told.
    """
    return {pattern: _matching(known, pattern, what) for pattern in patterns}


def names_of(scope: Scope, node: NodeProto) -> tuple[str, ...]:
    """Names a node goes by: the module's path first where it has one, then its own, then its operator."""
    path = module_path(scope, node)
    return tuple(filter(None, (path, node.name, node.op_type)))


def module_path(scope: Scope, node: NodeProto) -> str:
    """Path of the module that a node was exported from; empty where the file does not tell."""
    stored = [name for name in node.input if scope.initializer(name) is not None]
    weight = next((name for name in stored if name.endswith(WEIGHT)), "")
    if weight:
        return weight.removesuffix(WEIGHT)
    noted = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "")
    try:
        scopes = ast.literal_eval(noted) if noted else []
    except (SyntaxError, ValueError):
        return ""
    modules = [str(part) for part in scopes[:-1]] if isinstance(scopes, list) else []
    return modules[-1] if modules else ""


def _matching(known: Mapping[str, Sequence[str]], pattern: str, what: str) -> tuple[str, ...]:
    found = tuple(name for name, aliases in known.items() if any(_means(pattern, alias) for alias in aliases))
    if found:
        return found
    everything = sorted({alias for aliases in known.values() for alias in aliases})
    near = ", ".join(get_close_matches(pattern, everything, 3, 0.4)) or ", ".join(everything[:3])
    expected = "a module path, a node name or an operator type of the model"
    raise InputError(f"{what} names no layer", got=repr(pattern), expected=expected, remedy=f"nearest: {near}")


def _means(pattern: str, alias: str) -> bool:
    plain = pattern.replace("[", "[[]")  # * and ? alone are wildcards; names of nodes may have brackets
    return fnmatchcase(alias, plain) or fnmatchcase(alias, f"{plain}.*")
