"""Recorder of ``nncf.prune``, which puts masks into a PyTorch module."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from nncf.torch.function_hook.pruning.magnitude.modules import UnstructuredPruningMask

from mlflow_aifsm.autologging import in_memory
from mlflow_aifsm.autologging.call import Call
from mlflow_aifsm.autologging.module_quantizers import hooked
from mlflow_aifsm.autologging.nncf_module import NO_FILE, PACKAGES, enter, without_file, zeros
from mlflow_aifsm.backends.fake_quantized import quantizers
from mlflow_aifsm.capture import torch_module
from mlflow_aifsm.capture.environment import package_fact
from mlflow_aifsm.capture.quantizer_facts import NAMES
from mlflow_aifsm.capture.zero_patterns import Mask, common_pattern
from mlflow_aifsm.facts import Fact, captured, not_applicable
from mlflow_aifsm.hooks.arguments import told
from mlflow_aifsm.hooks.external import ExternalRecording
from mlflow_aifsm.operations import rows
from mlflow_aifsm.recording import Recording

OBJECTS = ("model", "examples_inputs")
"""Arguments that are no settings."""
IN_FILE = ("workload.parameters", "workload.multiply_adds", "workload.compressed")
"""Facts of a pruning that only a file tells."""
CRITERIA: Mapping[str, tuple[str, str]] = {
    "unstructured_magnitude_local": ("Weight magnitude |w|, local threshold, one for each layer", "weight_magnitude_local"),
    "unstructured_magnitude_global": ("Weight magnitude |w|, global threshold", "weight_magnitude_global"),
    "unstructured_regularization_based": (
        "Regularization: a learned mask for each weight, from which training takes its zeros",
        "regularization",
    ),
}
"""Modes of ``nncf.prune`` in the template's words, and in one word."""


def pruned(log: ExternalRecording, call: Call) -> Generator[None, None, None]:
    """Records ``nncf.prune``: criterion and amount as asked, zeros as the masks hold them."""
    arguments = call.arguments
    enter(log, arguments["model"])
    yield
    model = call.result
    masks = {path: hook.binary_mask for path, hook in hooked(model, UnstructuredPruningMask)}
    word = str(told(arguments["mode"]))
    text, short = CRITERIA.get(word, (f"Mode {word} of {call.function}", word))
    source = f"arguments of {call.function}"
    log.add(captured("pruning.framework", f"NNCF {version('nncf')}", version("nncf"), source="installed packages"))
    log.add(package_fact("pruning.packages", PACKAGES), zeros(model, masks))
    log.add(captured("pruning.criteria", text, {"mode": word, "ratio": arguments["ratio"]}, source=source, short=short))
    log.add(_pattern([mask.detach().cpu().numpy() == 0 for mask in masks.values()], log, type(model).__name__))
    done = "Nothing was done in this call to recover accuracy"
    log.add(captured("pruning.recovery", done, source=f"call of {call.function}", short="none"))
    log.call("pruning.call", call.function, *call.settings(OBJECTS))
    log.note(NO_FILE)
    log.add(*without_file(IN_FILE), *_unquantized(call.function, len(quantizers(model))))
    log.add(*rows.not_quantized(log.facts))
    sha256 = torch_module.state_digest(model)
    yield
    in_memory.remember(log, model, sha256, call.function, ())


def _unquantized(function: str, standing: int) -> list[Fact]:
    """The rows of quantizers; ``standing`` is the number of those that an earlier call put into the module."""
    reason = f"this call puts no quantizer into the module; among its hooks stand {standing or 'none'}"
    return [not_applicable(f"quantizers.{name}", reason, {}, source=f"call of {function}") for name in NAMES]


def _pattern(zero: Sequence[Mask], log: Recording, name: str) -> Fact:
    """``pruning.patterns`` of the masks, output channels first, as PyTorch's layers store their weights."""
    source = f"masks of module {name} in memory"
    holding: list[Any] = [mask for mask in zero if mask.any()]
    if not holding:
        return not_applicable("pruning.patterns", f"no zero in {len(zero)} masks yet", [], source=source)
    pattern = common_pattern(holding)
    counted = log.facts.get("zeros.ratio")
    text = f"{pattern.definition[:1].upper()}{pattern.definition[1:]} in {len(holding)} of {len(zero)} weights"
    text += f"; with the masks, {counted.value.text}" if counted is not None else ""
    return captured("pruning.patterns", text, {"pattern": pattern.word}, source=source, short=pattern.word)
