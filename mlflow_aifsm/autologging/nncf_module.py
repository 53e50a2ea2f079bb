"""NNCF's calls on a PyTorch module: no file is made, so that what its quantizers hold is read from the module in memory."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from mlflow_aifsm.autologging import in_memory, quantized_file
from mlflow_aifsm.autologging.call import Call
from mlflow_aifsm.autologging.compared import optimized_module, take_module
from mlflow_aifsm.autologging.delivered import unread
from mlflow_aifsm.autologging.module_quantizers import InMemory, decompressors, fake_quantizers
from mlflow_aifsm.autologging.nncf_onnx import OBJECTS, PARAMETERS, asked, unset
from mlflow_aifsm.autologging.watched import Watched, dataset
from mlflow_aifsm.backends import nncf
from mlflow_aifsm.backends.fake_quantized import STORAGE, Example
from mlflow_aifsm.calibration.facts import method_fact
from mlflow_aifsm.capture import quantizer_facts, quantizer_table, torch_module
from mlflow_aifsm.capture.environment import package_fact
from mlflow_aifsm.capture.evaluation_mode import is_exported
from mlflow_aifsm.capture.quantizer import WEIGHT, Quantizer
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact, Json, State, captured, not_applicable, not_recorded
from mlflow_aifsm.hooks.external import ExternalRecording
from mlflow_aifsm.operations import rows
from mlflow_aifsm.operations.verbatim import nncf_bias
from mlflow_aifsm.recording import Recording

PACKAGES = ("nncf", "torch")
NO_FILE = (
    "No file was delivered by this call: what it changed is a module in memory. Freeze it, or export it: the log of the file "
    "supersedes this one."
)
REMEDY = "record its ONNX file with record_optimization"
IN_FILE = (
    "quantizers.weight_codes",
    "quantizers.lost_non_linearities",
    "graph.canonical_digest",
    "runtime.integer_operators",
)
"""Facts of a quantization that only a file tells."""
MATRIX = 2
"""Axes of a parameter from which on it is a weight of a layer, and no bias."""


@dataclass(frozen=True, slots=True)
class _Called:
    """A call as the facts of bias correction see it."""

    function: str
    arguments: Mapping[str, Json]


def quantized(log: ExternalRecording, call: Call) -> Generator[None, None, None]:
    """Records ``nncf.quantize`` of a module."""
    arguments = call.arguments
    enter(log, arguments["model"])
    data, subset = arguments["calibration_dataset"], arguments["subset_size"]
    watched = Watched(data, _inputs(arguments["model"]), {})
    call.hand_over("calibration_dataset", dataset(data, watched))
    yield
    said, shown = call.settings(OBJECTS, unset())
    named = {PARAMETERS.get(name, name): value for name, value in said.items()}
    log.add(_method(call.function, watched, subset, named), nncf_bias(_Called(call.function, named)))
    _tell_data(log, watched)
    log.call("quantization.call", call.function, said, shown)
    sha256 = _tell(log, call, lambda model: fake_quantizers(model, _example(watched.first)))
    yield
    in_memory.remember(log, call.result, sha256, call.function, quantized_file.FACTS)


def compressed(log: ExternalRecording, call: Call) -> Generator[None, None, None]:
    """Records ``nncf.compress_weights`` of a module."""
    arguments = call.arguments
    enter(log, arguments["model"])
    data = arguments["dataset"]
    watched = None if data is None else Watched(data, _inputs(arguments["model"]), {})
    if watched is not None:
        call.hand_over("dataset", dataset(data, watched))
    yield
    reason = "no calibration: activations stay in floating point"
    none = captured(
        "recovery.bias_correction", f"No bias correction: {call.function} has none", source=call.function, short="none"
    )
    log.add(not_applicable("calibration.method", reason, source=f"call of {call.function}"), none)
    log.add(*asked(arguments, call.function))
    if watched is not None:
        _tell_data(log, watched)
    log.call("quantization.call", call.function, *call.settings(OBJECTS))
    sha256 = _tell(log, call, decompressors)
    yield
    in_memory.remember(log, call.result, sha256, call.function, quantized_file.FACTS)


def enter(log: ExternalRecording, module: nn.Module) -> None:
    """Tells the log which module goes in, by the digest of its parameters and buffers, and whether it is the verified one."""
    sha256 = torch_module.state_digest(module)
    take_module(log, module, sha256)
    optimized_module(log, sha256)


def without_file(names: Iterable[str]) -> list[Fact]:
    """The facts that only a file tells."""
    return [not_recorded(name, "no file was delivered by this call", "freeze the module, or record its file") for name in names]


def zeros(module: nn.Module, masks: Mapping[str, Any]) -> Fact:
    """``zeros.ratio`` of a module: of each weight, or of what a mask leaves of it."""
    weights = {name: value.detach() for name, value in module.named_parameters() if _is_weight(name, value)}
    total = sum(value.numel() for value in weights.values())
    kept = sum(
        int(((value != 0) & (masks[name] != 0) if name in masks else value != 0).sum()) for name, value in weights.items()
    )
    share = (total - kept) / total if total else 0.0
    text = f"{total - kept:,} of {total:,} weights are zero"
    return captured("zeros.ratio", text, share, source=f"module {type(module).__name__} in memory", short=f"{share:.3f}")


def _is_weight(name: str, value: Any) -> bool:
    return value.dim() >= MATRIX and not name.startswith(STORAGE)


def _inputs(module: nn.Module) -> list[str]:
    """Inputs that ``forward`` cannot do without: where it takes several, a tuple holds them, and no label."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(module.forward).parameters.values()
    return [one.name for one in parameters if one.default is inspect.Parameter.empty and one.kind in kinds]


def _method(function: str, watched: Watched, subset: int, arguments: Mapping[str, Json]) -> Fact:
    words, short = nncf.estimator(arguments)
    if watched.problem:
        return unread(function, words, short, watched)
    phrase = f"{words}; a sample of NNCF's is a batch of {watched.batch} here" if watched.batch > 1 else words
    source = f"arguments of {function}, and the samples it read"
    asked_for = subset * watched.batch
    return method_fact(phrase, short, watched.seen, watched.samples, asked_for, preprocess="", source=source)


def _tell_data(log: Recording, watched: Watched) -> None:
    log.note(*watched.notes)
    if not watched.problem:
        log.data(watched.samples.name, watched.samples.digest, "calibration", watched.samples.sample_digests)


def _example(item: Any) -> Example:
    """An item of the data set as arguments of the module."""
    if isinstance(item, Mapping):
        return (), dict(item)
    return (tuple(item) if isinstance(item, tuple) else (item,)), {}


def _tell(log: Recording, call: Call, read: Callable[[nn.Module], tuple[Quantizer, ...]]) -> str:
    """What the module that the call made holds, and which rows did not happen; the digest of the module as it was made."""
    model = call.result
    sha256 = torch_module.state_digest(model)
    log.add(captured("quantization.framework", f"NNCF {version('nncf')}", version("nncf"), source="installed packages"))
    log.add(package_fact("quantization.packages", PACKAGES), *rows.not_trained(call.function), zeros(model, {}))
    log.add(*rows.not_pruned(log.facts), _unpruned(log), *without_file(IN_FILE))
    log.note(NO_FILE)
    source = f"module {type(model).__name__} in memory, after {call.function}"
    try:
        found = _unexported(read, model)
    except Exception as error:  # noqa: BLE001 -- the caller's forward may raise anything
        reason = f"the quantizers of the module could not be read: {type(error).__name__}: {' '.join(str(error).split())}"
        log.add(*(not_recorded(f"quantizers.{name}", reason) for name in quantizer_facts.NAMES))
        return sha256
    log.add(*_held(source, found), _partial(model, found, source))
    if found:
        log.tables({"quantizers": quantizer_table.table(found)})
    return sha256


def _unexported(read: Callable[[nn.Module], tuple[Quantizer, ...]], model: nn.Module) -> tuple[Quantizer, ...]:
    """The quantizers of a live module; NNCF writes those of an exported one as operators into its graph."""
    if is_exported(model):
        raise InputError("an exported graph", expected="a module with NNCF's hooks", remedy=REMEDY)
    with _left_as_it_is(model):
        return read(model)


@contextmanager
def _left_as_it_is(model: nn.Module) -> Iterator[None]:
    """Takes back what one more forward pass leaves behind: numbers that it drew, and buffers that it counted on."""
    before = {name: value.clone() for name, value in model.named_buffers()}
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.no_grad():
        try:
            yield
        finally:
            for name, value in model.named_buffers():
                if name in before and before[name].shape == value.shape:
                    value.copy_(before[name])


def _unpruned(log: Recording) -> Fact:
    counted = log.facts.get("zeros.ratio")
    text = counted.value.text if counted is not None else ""
    return not_applicable("pruning.patterns", f"no pruning in this call: {text}", [], source="module in memory")


def _held(source: str, found: tuple[Quantizer, ...]) -> list[Fact]:
    """The rows of the quantizers, captured: the module in memory cannot be read again."""
    if not found:
        reason = "no quantizer among the hooks of the module"
        return [not_applicable(f"quantizers.{name}", reason, {}, source=source) for name in quantizer_facts.NAMES]
    facts = {fact.name: _captured(fact) for fact in quantizer_facts.of_rows(InMemory(source), found)}
    weights = sum(row.kind == WEIGHT for row in found)
    word = "integer quantization (static)" if len(found) > weights else "weight quantization"
    how = "simulated in the module" if len(found) > weights else "codes in the module"
    text = f"{word.capitalize()}, {how}: {weights} weights, {len(found) - weights} activations"
    return [
        *{**facts, "quantizers.technique": captured("quantizers.technique", text, word, source=source, short=word)}.values()
    ]


def _captured(fact: Fact) -> Fact:
    """A fact of a module in the words of one: what is read from memory cannot be read again."""
    text = fact.value.text.replace("of the file", "of the module")
    return replace(fact, state=State.CAPTURED, value=replace(fact.value, text=text))


def _partial(model: nn.Module, found: tuple[Quantizer, ...], source: str) -> Fact:
    """``recovery.partial``: weights of layers that have no quantizer."""
    known = {row.tensor for row in found if row.kind == WEIGHT}
    weights = [name for name, value in model.named_parameters() if _is_weight(name, value)]
    left = [name for name in weights if name not in known]
    text = f"{len(left)} of {len(weights)} weights in float"
    if not left:
        return not_applicable("recovery.partial", f"no layer is kept in higher precision: {text}", [], source=source)
    return captured("recovery.partial", f"Partial quantization: {text} ({', '.join(left)})", left, source=source, short=text)
