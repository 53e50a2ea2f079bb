"""What a freeze starts from: a module, an exported program, or an MLflow PyTorch model saved either way, ready to be exported.

An MLflow model saved as pt2 comes back as an exported program: it has no Dropout or BatchNorm modules and its ``eval()``
raises, so its mode is read from, and put right on, the flags of its graph.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from mlflow_aifsm import flavor, lineage
from mlflow_aifsm.capture import pt2_file, torch_module
from mlflow_aifsm.capture.evaluation_mode import evaluation_copy, to_evaluation
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact
from mlflow_aifsm.lineage import Relation, VerifiedModel

PT2 = "model.pt2"

Outputs = Sequence[np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class SourceModel:
    """A model in evaluation mode with what was read from it.

    Attributes:
        model: What is exported.
        args: Example inputs by position; tensors, or containers and plain values as the model takes them.
        kwargs: Example inputs by name, in the order of the model's signature.
        facts: What was read from the model as it was given.
        notes: What was changed to bring it into evaluation mode.
        sha256: Digest of parameters and buffers as they were given.
    """

    model: nn.Module | ExportedProgram
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    facts: tuple[Fact, ...]
    notes: tuple[str, ...]
    sha256: str

    @property
    def names(self) -> list[str]:
        """A name for each input tensor, in order: that of its argument, numbered where an argument holds several."""
        if isinstance(self.model, ExportedProgram):
            return [str(name) for name in self.model.graph_signature.user_inputs]
        bound = inspect.signature(self.model.forward).bind(*self.args, **self.kwargs)
        held = {
            name: sum(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(part))
            for name, part in bound.arguments.items()
        }
        return [name if count == 1 else f"{name}_{index}" for name, count in held.items() for index in range(count)]

    @property
    def reference(self) -> Callable[[Mapping[str, np.ndarray[Any, Any]]], Outputs]:
        """The model as a function from input arrays ``[n, …]``, in the order of its inputs, to its outputs, flattened."""
        exported = isinstance(self.model, ExportedProgram)
        module = self.model.module() if isinstance(self.model, ExportedProgram) else self.model
        return as_function(module, (self.args, self.kwargs), least=2 if exported else 1)


def as_function(module: nn.Module, example: Any, *, least: int = 1) -> Callable[[Mapping[str, np.ndarray[Any, Any]]], Outputs]:
    """A module as a function from input arrays ``[n, …]``, in the order of its inputs, to its outputs, flattened.

    Args:
        module: The module, in the mode it shall run in.
        example: Its example inputs ``(args, kwargs)``; their tensors are replaced by the arrays.
        least: Fewest samples it takes at a time.
    """
    return lambda batch: _run(module, example, batch, least)


def opened(model: Any, example_inputs: Any, verified: VerifiedModel | None) -> SourceModel:
    """The source behind ``model``.

    Args:
        model: A module, an exported program, or a URI, then resolved as ``verified``.
        example_inputs: Arrays or tensors by position, or by name; the model's own example if None.
        verified: The resolved model where ``model`` is a URI.

    Raises:
        InputError: If the model is none of these, or the example is missing or does not fit.
    """
    given = loaded(verified) if isinstance(model, str) and verified else model
    example = example_inputs if example_inputs is not None or verified is None else lineage.input_example(verified)
    if isinstance(given, ExportedProgram):
        return _program(given, example)
    if not isinstance(given, nn.Module):
        expected = "a torch.nn.Module, an exported program, a models:/ or runs:/ URI of one, or the path of a frozen file"
        raise InputError(f"cannot freeze a {type(model).__name__}", expected=expected)
    if example is None:
        raise InputError("no example inputs", remedy="pass example_inputs=, or log the model with input_example=")
    args, kwargs = _bound(example, inspect.signature(given.forward))
    copy, notes = evaluation_copy(given)
    _fits(copy, args, kwargs)
    return SourceModel(copy, args, kwargs, tuple(torch_module.facts(given)), notes, torch_module.state_digest(given))


def _program(program: ExportedProgram, example: Any) -> SourceModel:
    evaluated, notes = to_evaluation(program)
    args, kwargs = _program_example(program, example)
    _fits(evaluated.module(), args, kwargs)
    facts = tuple(torch_module.facts(program))
    return SourceModel(evaluated, args, kwargs, facts, notes, torch_module.state_digest(program))


def _program_example(program: ExportedProgram, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The example in the form the program was exported with; its own where none is given."""
    if example is None and program.example_inputs is None:
        raise InputError("no example inputs", remedy="pass example_inputs=: the program was saved without its own")
    if example is None:
        args, kwargs = program.example_inputs
        return tuple(args), dict(kwargs)
    names = [str(name) for name in program.graph_signature.user_inputs]
    if isinstance(example, Mapping) and set(example) != set(names):
        raise InputError("example inputs do not fit the model", got=sorted(example), expected=", ".join(names))
    parts = [example[name] for name in names] if isinstance(example, Mapping) else pytree.tree_leaves(example)
    spec = program.call_spec.in_spec
    if spec is None or spec.num_leaves != len(parts):
        raise InputError("example inputs do not fit the model", got=f"{len(parts)} inputs", expected=", ".join(names))
    args, kwargs = pytree.tree_unflatten([_tensor(part) for part in parts], spec)
    return tuple(args), dict(kwargs)


def loaded(verified: VerifiedModel) -> nn.Module | ExportedProgram:
    """The PyTorch model behind a resolved URI, as MLflow saved it.

    Raises:
        InputError: If it is no PyTorch model, or a pickle where those are forbidden.
    """
    entry = verified.flavors.get("pytorch")
    if entry is None or verified.folder is None:
        raise InputError(
            f"model {verified.uri}", got=f"flavors {', '.join(verified.flavors)}", expected="a model of flavor pytorch"
        )
    archive = verified.folder / Path(str(entry.get("model_data", "data"))) / PT2
    return pt2_file.load(archive) if archive.is_file() else flavor.load_pytorch(verified.folder)


def copied(module: nn.Module) -> nn.Module:
    """A deep copy of a module, which alone is changed.

    Raises:
        InputError: If the module holds what cannot be copied: an open file, a lock, a profiler's record.
    """
    try:
        return deepcopy(module)
    except Exception as error:
        what = f"{type(module).__name__} cannot be copied, and the caller's module is not changed"
        got = " ".join(str(error).split())
        raise InputError(what, got=got, remedy="load it anew, or freeze it and work on the file") from error


def registered_state(verified: VerifiedModel) -> str:
    """Digest of parameters and buffers of a registered pt2 model; empty for a pickled one, which is not loaded for this."""
    entry = verified.flavors.get("pytorch")
    archive = verified.folder / str(entry.get("model_data", "data")) / PT2 if entry and verified.folder else None
    return torch_module.state_digest(pt2_file.load(archive)) if archive and archive.is_file() else ""


def related(verified: VerifiedModel, sha256: str) -> VerifiedModel:
    """``verified``, with how a module relates to its files.

    Args:
        verified: The verified model.
        sha256: Digest of the parameters and buffers of the module.
    """
    registered = registered_state(verified)
    if not registered:
        return verified
    return replace(verified, relation=Relation.SAME if registered == sha256 else Relation.DIFFERENT)


def _bound(example: Any, signature: inspect.Signature) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Example inputs as tensors, by position and, where the signature takes them only so, by name."""
    parts = pytree.tree_map(_tensor, example)
    if not isinstance(parts, Mapping):
        return (tuple(parts) if isinstance(parts, tuple | list) else (parts,)), {}
    try:
        bound = signature.bind(**parts)
    except TypeError as error:
        raise InputError(f"example inputs do not fit the model: {error}", got=sorted(parts)) from error
    return bound.args, bound.kwargs


def _tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _fits(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Runs the example once: the exporter's own complaint about a wrong one is pages long."""
    try:
        with torch.no_grad():
            module(*args, **kwargs)
    except Exception as error:
        parts = pytree.tree_leaves((args, dict(kwargs)))
        shapes = [list(part.shape) if isinstance(part, torch.Tensor) else type(part).__name__ for part in parts]
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"example inputs do not fit the model: {reason}", got=f"shapes {shapes}") from error


def _run(module: nn.Module, example: Any, batch: Mapping[str, np.ndarray[Any, Any]], least: int) -> Outputs:
    arrays = list(batch.values())
    count = len(arrays[0])
    # an exported program with a dynamic batch refuses a batch of one, so a lone sample is run twice
    padded = [np.concatenate([array, array]) if count < least else array for array in arrays]
    args, kwargs = _like(example, padded)
    with torch.no_grad():
        outputs = module(*args, **kwargs)
    leaves = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
    return [_array(leaf)[:count] for leaf in leaves]


def _like(example: Any, arrays: Sequence[np.ndarray[Any, Any]]) -> Any:
    """``example`` with its tensors replaced by ``arrays`` in order; what is no tensor is a constant of the frozen file."""
    leaves, spec = pytree.tree_flatten(example)
    if sum(isinstance(leaf, torch.Tensor) for leaf in leaves) != len(arrays):
        raise InputError("the frozen file and its source differ in inputs", got=len(arrays), expected=f"{len(leaves)} tensors")
    fed = iter(arrays)
    filled = [_fed(next(fed), leaf) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
    return pytree.tree_unflatten(filled, spec)


def _fed(array: np.ndarray[Any, Any], like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(like.dtype)


def _array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    # NumPy has no bfloat16; every value of it is a float32
    plain = tensor.detach().cpu()
    return (plain.float() if plain.dtype is torch.bfloat16 else plain).numpy()
