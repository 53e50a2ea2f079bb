"""The PyTorch model before its conversion: what it is made of, what only training needs, in which mode it was left.

Three kinds are read, none is run: a live ``nn.Module``, a ``torch.export.ExportedProgram``, and the ``GraphModule`` that
``ExportedProgram.module()`` makes. The last two have no Dropout or BatchNorm modules left: there the operators are read.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.nn.utils import parametrize

from mlflow_aifsm.capture.evaluation_mode import call_arguments, flagged, in_training, is_exported, operator_calls
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact, captured, not_recorded

Model: TypeAlias = nn.Module | ExportedProgram
"""What can be read: a module, a graph module of an exported program, or the program itself."""

_STOCHASTIC = re.compile(r"DropPath|StochasticDepth|DropBlock|Noise|Mixup|CutMix", re.IGNORECASE)
_TYPES_SHOWN = 12
_LAYERS = {"aten.dropout.default": "Dropout", "aten.batch_norm.default": "Batch Normalization"}
_FLAGS = {"train": "training flag", "training": "training flag"}
_OTHER = "weight norm, spectral norm, parametrization, pruning mask, stochastic depth or noise, auxiliary head"


@dataclass(frozen=True, slots=True)
class _Reading:
    """A model, seen alike whatever its kind: layers as (path, class), tensors by name, operators where there is a graph."""

    root: nn.Module
    name: str
    source: str
    layers: tuple[tuple[str, str], ...]
    tensors: Mapping[str, torch.Tensor]
    calls: tuple[fx.Node, ...] | None


def facts(model: Model) -> list[Fact]:
    """What the source model holds: architecture, parameter count, mode, and its training-only parts."""
    reading = _read(model)
    return [
        _architecture(reading),
        _parameters(model, reading.source),
        _mode(reading),
        _dropout(reading),
        _batch_normalization(reading),
        _other(reading),
    ]


def state_digest(model: Model) -> str:
    """SHA-256 over the sorted (name, dtype, shape, bytes) of all parameters and buffers, in lower-case hex.

    Bytes are those of the contiguous tensor in host memory, so device and strides do not matter; a quantized tensor is digested
    with its scales and zero points. A tensor under two names counts under both. A module and its exported program agree.

    Raises:
        InputError: If a tensor holds no data (meta device, lazy module), or a frozen TorchScript has none to name.
    """
    if _holds_constants(model):
        raise InputError("a frozen TorchScript holds its weights as constants", remedy="take the digest of its file")
    digest = hashlib.sha256()
    for name, tensor in sorted(_state(model).items()):
        try:
            digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
            for part in _plain(tensor.detach().cpu()):
                digest.update(part.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        except (RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"tensor '{name}' has no bytes to digest", got=error, remedy="load the weights first") from error
    return digest.hexdigest()


def _plain(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    if not tensor.is_quantized:
        return (tensor.to_dense() if tensor.layout is not torch.strided else tensor,)
    if tensor.qscheme() in {torch.per_channel_affine, torch.per_channel_symmetric}:
        return tensor.int_repr(), tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
    return tensor.int_repr(), torch.tensor([tensor.q_scale(), tensor.q_zero_point()], dtype=torch.float64)


def _state(model: Model) -> dict[str, torch.Tensor]:
    if isinstance(model, ExportedProgram):
        constants = {name: value for name, value in model.constants.items() if isinstance(value, torch.Tensor)}
        return {**constants, **model.state_dict}
    return dict((*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)))


def _parameters(model: Model, source: str) -> Fact:
    if _holds_constants(model):
        return not_recorded("model.parameters", "a frozen TorchScript holds its weights as constants", "give the module itself")
    count = sum({(tensor.data_ptr() or id(tensor), tensor.shape): tensor.numel() for tensor in model.parameters()}.values())
    return captured("model.parameters", f"{count:,}", count, source=source)


def _holds_constants(model: Model) -> bool:
    return isinstance(model, torch.jit.ScriptModule) and not _state(model)


def _read(model: Model) -> _Reading:
    root = model.graph_module if isinstance(model, ExportedProgram) else model
    if not is_exported(root):
        return _Reading(root, _class(root), f"module {_class(root)}", tuple(_live_layers(root)), _state(model), None)
    calls = tuple(operator_calls(root))
    stacks = [stack for stack in (list(node.meta.get("nn_module_stack", {}).values()) for node in calls) if stack]
    inner = dict.fromkeys((stack[-1][0].partition("@")[0], _short(stack[-1][1])) for stack in stacks)
    layers = tuple((path, kind) for path, kind in inner if path and not any(other.startswith(f"{path}.") for other, _ in inner))
    name = _short(stacks[0][0][1]) if stacks else "exported program"
    return _Reading(root, name, "exported program", layers, _state(model), calls)


def _short(kind: object) -> str:
    return (kind.__name__ if isinstance(kind, type) else str(kind)).rpartition(".")[2]


def _class(module: nn.Module) -> str:
    if parametrize.is_parametrized(module):
        return parametrize.type_before_parametrizations(module).__name__
    return str(getattr(module, "original_name", type(module).__name__))


def _live_layers(root: nn.Module) -> Iterator[tuple[str, str]]:
    for path, module in root.named_modules():
        children = [name for name, _ in module.named_children() if name != "parametrizations"]
        inside = "parametrizations" in path.split(".")
        if not inside and (not children or next(module.parameters(recurse=False), None) is not None):
            yield path, _class(module)


def _architecture(reading: _Reading) -> Fact:
    layers = Counter(kind for _, kind in reading.layers)
    operators = Counter(str(node.target) for node in reading.calls or ())
    text = f"{reading.name}: {_counts(layers or operators)}"
    data = {"class": reading.name, "layers": layers, "operators": operators}
    return captured("model.architecture", text, data, source=reading.source, short=reading.name)


def _counts(counted: Counter[str], between: str = ", ") -> str:
    shown = [f"{name} ×{count}" for name, count in list(counted.items())[:_TYPES_SHOWN]]
    hidden = len(counted) - len(shown)
    return between.join(shown) + (f" and {hidden} other types" if hidden else "")


def _mode(reading: _Reading) -> Fact:
    if reading.calls is not None:
        flags = flagged(reading.calls)
        text = (
            f"training mode, training flag set in {_counts(Counter(flags))}"
            if flags
            else "evaluation mode, no training flag is set"
        )
        data: dict[str, Any] = {"training": bool(flags), "flags": flags}
    else:
        training, modules = in_training(reading.root)
        text = f"training mode: {training} of {modules} modules" if training else "evaluation mode"
        data = {"training": bool(training), "modules_in_training": training}
    return captured("model.mode", text, data, source=reading.source, short="training" if data["training"] else "evaluation")


def _dropout(reading: _Reading) -> Fact:
    if reading.calls is not None:
        found = list(_operators(reading.calls, "dropout", ("p", "dropout", "dropout_p", "train")))
        return _technique("training.dropout", "dropout", found, reading.source)
    named = _modules(reading.root, "Dropout", ("p",))
    inside = _modules(reading.root, "", ("dropout",))
    found = [*named, *(item for item in inside if isinstance(item.get("dropout"), float) and item["dropout"])]
    return _technique(
        "training.dropout", "dropout", found, reading.source, "functional dropout is not visible in a live module"
    )


def _batch_normalization(reading: _Reading) -> Fact:
    name, called = "training.batch_normalization", "batch normalization"
    if reading.calls is not None:
        found = list(_operators(reading.calls, "batch_norm", ("momentum", "eps", "training")))
        return _technique(name, called, found, reading.source)
    found = list(_modules(reading.root, "BatchNorm", ("momentum", "eps", "track_running_stats")))
    return _technique(name, called, found, reading.source, "functional batch normalization is not visible in a live module")


def _modules(root: nn.Module, word: str, settings: Sequence[str]) -> Iterator[dict[str, Any]]:
    for path, module in root.named_modules():
        if word in _class(module):
            yield _part(path, _class(module), {name: getattr(module, name) for name in settings if hasattr(module, name)})


def _operators(calls: Iterable[fx.Node], word: str, settings: Sequence[str]) -> Iterator[dict[str, Any]]:
    for node in calls:
        arguments = call_arguments(node)
        if word in str(node.target) or arguments.get(word) or arguments.get(f"{word}_p"):
            yield _part(node.name, str(node.target), {name: arguments[name] for name in settings if name in arguments})


def _part(name: str, kind: str, settings: Mapping[str, object]) -> dict[str, Any]:
    plain = {key: value if isinstance(value, int | float | None) else str(value) for key, value in settings.items()}
    return {"name": name, "type": kind, **plain}


def _technique(fact: str, called: str, found: Sequence[dict[str, Any]], source: str, limit: str = "") -> Fact:
    kind = "operator" if source == "exported program" else "module"
    settings: dict[str, list[str]] = {}
    for item in found:
        for name in item.keys() - {"name", "type"}:
            settings.setdefault(_FLAGS.get(name, name), []).append(str(item[name]))
    words = "; ".join(f"{name} {', '.join(dict.fromkeys(values))}" for name, values in sorted(settings.items()))
    operators = ", ".join(dict.fromkeys(item["type"] for item in found if item["type"] in _LAYERS))
    text = _counts(Counter(_LAYERS.get(item["type"], str(item["type"])) for item in found)) + (f" ({words})" if words else "")
    text += f" [{operators}]" if operators else ""
    said = (text if found else f"no {called} {kind}") + (f"; {limit}" if limit else "")
    return captured(fact, said, list(found), source=source, short="present" if found else f"no {kind}")


def _other(reading: _Reading) -> Fact:
    stochastic = [("stochastic layer", path) for path, kind in reading.layers if _STOCHASTIC.search(kind)]
    found = [*_reparametrized(reading), *stochastic, *_auxiliary(reading)]
    data = [{"kind": kind, "name": name} for kind, name in found]
    if not found:
        return captured("training.other", f"none found of: {_OTHER}", data, source=reading.source, short="none found")
    return captured("training.other", _counts(Counter(kind for kind, _ in found), "; "), data, source=reading.source)


def _reparametrized(reading: _Reading) -> Iterator[tuple[str, str]]:
    names = reading.tensors
    for name in names:
        stem, _, end = name.rpartition("_")
        if ".parametrizations." in f".{name}" and re.search(r"\.original0?$", name):
            yield "parametrization", re.sub(r"parametrizations\.|\.original0?$", "", name)
        elif end == "mask" and f"{stem}_orig" in names:
            yield "pruning mask", stem
        elif end == "u" and f"{stem}_orig" in names:
            yield "spectral norm", stem
        elif end == "g" and f"{stem}_v" in names:
            yield "weight norm", stem


def _auxiliary(reading: _Reading) -> Iterator[tuple[str, str]]:
    parts = [name.split(".") for name in (*reading.tensors, *(path for path, _ in reading.layers))]
    heads = (".".join(part[: index + 1]) for part in parts for index, word in enumerate(part) if word.lower().startswith("aux"))
    return (("auxiliary head", head) for head in dict.fromkeys(heads))
