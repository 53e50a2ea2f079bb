"""Runs frozen PyTorch files in PyTorch, on the CPU, as they lie on disk: pt2 archives and TorchScript archives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from mlflow_aifsm.capture import pt2_file, torchscript_file
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Json
from mlflow_aifsm.samples import Batch
from mlflow_aifsm.sources import Array
from mlflow_aifsm.verification.session import InputSpec, Session


class TorchSession(Session):
    """A function of tensors with names for what goes in and out.

    Arrays are fed in the element type of their input, or, where the file tells none, floats in that of the weights.

    Args:
        function: From tensors in the order of ``inputs`` to whatever nests the output tensors.
        outputs: Name, dtype and shape of each output.
        form: What was loaded, for the description.
    """

    _types: Mapping[str, torch.dtype]
    _floats: torch.dtype = torch.float32

    def __init__(self, function: Callable[..., Any], outputs: Sequence[dict[str, Json]], form: str) -> None:
        self._function = function
        self.outputs = tuple(row["name"] for row in outputs)
        self.output_types = tuple(row["dtype"] for row in outputs)
        self.description = f"PyTorch {torch.__version__}, {form}, CPU"

    def _run(self, batch: Batch) -> Batch:
        with torch.no_grad():
            results = self._function(*(self._tensor(spec.name, batch[spec.name]) for spec in self.inputs))
        leaves = [leaf for leaf in pytree.tree_leaves(results) if isinstance(leaf, torch.Tensor)]
        if len(leaves) != len(self.outputs):
            expected = f"{len(self.outputs)}: {', '.join(self.outputs)}"
            raise InputError("outputs differ in number", got=len(leaves), expected=expected)
        return {name: _array(leaf) for name, leaf in zip(self.outputs, leaves, strict=True)}

    def _tensor(self, name: str, array: Array) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor.to(self._types.get(name, self._floats if tensor.is_floating_point() else tensor.dtype))


class Pt2Session(TorchSession):
    """A pt2 archive, loaded again from its file.

    Args:
        path: The archive.

    Raises:
        InputError: If it is damaged, holds a pickle, or takes anything but tensors.
    """

    def __init__(self, path: Path) -> None:
        program = pt2_file.load(path)
        inputs, outputs = pt2_file.inputs_outputs(program)
        self.inputs = tuple(_spec(row) for row in inputs)
        self._types = {row["name"]: getattr(torch, row["dtype"]) for row in inputs}
        super().__init__(pt2_file.function(program), outputs, "exported program")


class TorchScriptSession(TorchSession):
    """A TorchScript archive.

    Its file tells neither element types nor shapes of inputs: arrays are fed as they are, floats in the type of the weights.

    Args:
        path: The archive.

    Raises:
        InputError: If it is damaged, or takes or returns anything but tensors.
    """

    def __init__(self, path: Path) -> None:
        module = torchscript_file.load(path)
        inputs, outputs = torchscript_file.inputs_outputs(module)
        self._types = {}
        self._floats = next((weight.dtype for weight in module.parameters() if weight.is_floating_point()), torch.float32)
        self.inputs = tuple(InputSpec(row["name"], np.dtype(np.float32), ()) for row in inputs)
        typed = [{**row, "dtype": str(self._floats).removeprefix("torch.")} for row in outputs]
        super().__init__(module, typed, "TorchScript")

    @property
    def fixed_batch(self) -> None:
        """The file does not tell, so samples run in the batches they come in."""
        return

    @property
    def ranks(self) -> dict[str, int]:
        """Empty: the file does not tell."""
        return {}

    def fit(self, batch: Mapping[str, Array]) -> Batch:
        """``batch`` as it is; the module itself refuses what does not fit.

        Raises:
            InputError: If an input is missing.
        """
        self._check_names(batch)
        return dict(batch)


def _array(tensor: torch.Tensor) -> Array:
    """The values of a tensor; bfloat16, which NumPy does not know, as float32, which holds every value of it."""
    plain = tensor.detach().cpu()
    return np.asarray((plain.float() if plain.dtype is torch.bfloat16 else plain).numpy())


def _spec(row: dict[str, Json]) -> InputSpec:
    kind = "float32" if row["dtype"] == "bfloat16" else row["dtype"]
    return InputSpec(row["name"], np.dtype(kind), tuple(size if isinstance(size, int) else None for size in row["shape"]))
