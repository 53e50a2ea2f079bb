"""Runs an ONNX file so that it hands out tensors from inside its graph, as fast as it runs when deployed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.samples import Batch
from mlflow_aifsm.sources import Array
from mlflow_aifsm.verification.augmented import AugmentedSession


class Activations(AugmentedSession):
    """A graph whose outputs are the asked tensors; inputs of the graph among them are not handed out.

    The runtime may optimize it as it does when deployed. It writes into the same arrays at every run of the same shape, so
    what ``run`` returns holds until the next run: fresh arrays for all activations would cost more time than counting them.

    Args:
        path: The ``.onnx`` file.
        tensors: Names of float tensors of the main graph.

    Raises:
        InputError: If a tensor is unknown or holds no floats.
    """

    def __init__(self, path: Path, tensors: Sequence[str]) -> None:
        super().__init__(path, tensors, optimize=True)
        types = dict(zip(self.outputs, self.output_types, strict=True))
        for name in tensors:
            if not types[name].startswith("float"):
                raise InputError(f"tensor '{name}' cannot be calibrated", got=types[name], expected="floating point values")
        fed = {spec.name for spec in self.inputs}
        self.outputs = tuple(name for name in self.outputs if name not in fed)
        self.output_types = tuple(types[name] for name in self.outputs)
        self._binding = self._session.io_binding()
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._buffers: Batch = {}

    def run(self, batch: Mapping[str, Array]) -> Batch:
        """The tensors by name for ``batch``, of the length of a fixed batch axis, as some tensors have none to be joined by.

        Raises:
            InputError: If the batch does not fit.
        """
        return self._run(self.fit(batch))

    def _run(self, batch: Batch) -> Batch:
        shapes = {name: array.shape for name, array in batch.items()}
        if shapes != self._shapes:
            self._shapes, self._buffers = shapes, super()._run(batch)
            self._bind()
            return self._buffers
        for name, array in batch.items():
            self._binding.bind_cpu_input(name, np.ascontiguousarray(array))
        self._session.run_with_iobinding(self._binding)
        return self._buffers

    def _bind(self) -> None:
        self._binding.clear_binding_outputs()
        self._buffers = {name: np.require(array, requirements=("C", "W", "O")) for name, array in self._buffers.items()}
        for name, array in self._buffers.items():
            self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
