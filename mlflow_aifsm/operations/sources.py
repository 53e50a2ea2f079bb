"""What a freeze starts from: a module, an exported program, or an MLflow PyTorch model saved either way, ready to be exported.

An MLflow model saved as pt2 comes back as an exported program: it has no Dropout or BatchNorm modules and its ``eval()`` raises, so
its mode is read from, and put right on, the flags of its graph.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from mlflow_aifsm import flavor, lineage
from mlflow_aifsm.capture import torch_module
from mlflow_aifsm.capture.evaluation_mode import evaluation_copy, to_evaluation
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact
from mlflow_aifsm.lineage import VerifiedModel

PT2 = "model.pt2"


@dataclass(frozen=True, slots=True)
class SourceModel:
    """A model in evaluation mode with what was read from it.

    Attributes:
        model: What is exported.
        args: Example inputs, tensors by position.
        facts: What was read from the model as it was given.
        notes: What was changed to bring it into evaluation mode.
        sha256: Digest of parameters and buffers as they were given.
    """

    model: nn.Module | ExportedProgram
    args: tuple[Any, ...]
    facts: tuple[Fact, ...]
    notes: tuple[str, ...]
    sha256: str

    @property
    def reference(self) -> Callable[[Mapping[str, np.ndarray[Any, Any]]], Sequence[np.ndarray[Any, Any]]]:
        """The model as a function from input arrays ``[n, …]``, in the order of its inputs, to its outputs."""
        module = self.model.module() if isinstance(self.model, ExportedProgram) else self.model
        least = 2 if isinstance(self.model, ExportedProgram) else 1
        return lambda batch: _run(module, batch, least)


def opened(model: Any, example_inputs: Any, verified: VerifiedModel | None) -> SourceModel:
    """The source behind ``model``.

    Args:
        model: A module, an exported program, or a URI, then resolved as ``verified``.
        example_inputs: Arrays or tensors by position, or by name; the model's own example if None.
        verified: The resolved model where ``model`` is a URI.

    Raises:
        InputError: If the model is none of these, or the example is missing or does not fit.
    """
    loaded = _loaded(verified) if isinstance(model, str) and verified else model
    example = example_inputs if example_inputs is not None or verified is None else lineage.input_example(verified)
    if isinstance(loaded, ExportedProgram):
        args = _positional(example, None) if example is not None else tuple(loaded.example_inputs[0])
        return _program(loaded, args, torch_module.facts(loaded))
    if not isinstance(loaded, nn.Module):
        expected = "a torch.nn.Module, a torch.export.ExportedProgram, or a models:/ or runs:/ URI of one"
        raise InputError(f"cannot freeze a {type(model).__name__}", expected=expected)
    if example is None:
        raise InputError("no example inputs", remedy="pass example_inputs=, or log the model with input_example=")
    args = _positional(example, loaded)
    copy, notes = evaluation_copy(loaded)
    _fits(copy, args)
    return SourceModel(copy, args, tuple(torch_module.facts(loaded)), notes, torch_module.state_digest(loaded))


def _program(program: ExportedProgram, args: tuple[Any, ...], facts: Sequence[Fact]) -> SourceModel:
    evaluated, notes = to_evaluation(program)
    _fits(evaluated.module(), args)
    return SourceModel(evaluated, args, tuple(facts), notes, torch_module.state_digest(program))


def _loaded(verified: VerifiedModel) -> nn.Module | ExportedProgram:
    entry = verified.flavors.get("pytorch")
    if entry is None or verified.folder is None:
        raise InputError(f"model {verified.uri}", got=f"flavors {', '.join(verified.flavors)}", expected="a model of flavor pytorch")
    archive = verified.folder / Path(str(entry.get("model_data", "data"))) / PT2
    return torch.export.load(archive) if archive.is_file() else flavor.load_pytorch(verified.folder)


def _positional(example: Any, module: nn.Module | None) -> tuple[Any, ...]:
    """Example inputs as tensors in the order of ``forward``."""
    if isinstance(example, Mapping):
        if module is None:
            return tuple(_tensor(value) for value in example.values())
        try:
            example = inspect.signature(module.forward).bind(**example).args
        except TypeError as error:
            raise InputError(f"example inputs do not fit the model: {error}", got=sorted(example)) from error
    parts = example if isinstance(example, tuple | list) else (example,)
    return tuple(_tensor(part) for part in parts)


def _tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _fits(module: nn.Module, args: tuple[Any, ...]) -> None:
    """Runs the example once: the exporter's own complaint about a wrong one is pages long."""
    try:
        with torch.no_grad():
            module(*args)
    except Exception as error:
        shapes = [list(part.shape) if isinstance(part, torch.Tensor) else type(part).__name__ for part in args]
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"example inputs do not fit the model: {reason}", got=f"shapes {shapes}") from error


def _run(module: nn.Module, batch: Mapping[str, np.ndarray[Any, Any]], least: int) -> list[np.ndarray[Any, Any]]:
    arrays = list(batch.values())
    count = len(arrays[0])
    # an exported program with a dynamic batch refuses a batch of one, so a lone sample is run twice
    padded = [np.concatenate([array, array]) if count < least else array for array in arrays]
    with torch.no_grad():
        outputs = module(*(torch.from_numpy(np.ascontiguousarray(array)) for array in padded))
    leaves = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
    return [leaf.detach().cpu().numpy()[:count] for leaf in leaves]
