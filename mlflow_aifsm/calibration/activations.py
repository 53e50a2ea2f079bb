"""Runs an ONNX file so that it hands out tensors from inside its graph."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from mlflow_aifsm import scratch
from mlflow_aifsm.capture.onnx_graph import initializers, read
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.samples import Batch
from mlflow_aifsm.verification.session import OnnxSession


class Activations(OnnxSession):
    """A graph whose outputs are the asked tensors.

    The runtime may optimize it as it does when deployed. It writes into the same arrays at every run of the same shape, so
    what ``run`` returns holds until the next run: fresh arrays for all activations would cost more time than counting them.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, optimize=True)
        self._binding = self._session.io_binding()
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._buffers: Batch = {}

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


@contextmanager
def activations(path: Path, tensors: Sequence[str]) -> Iterator[Activations]:
    """A session of the ONNX file ``path`` that hands out ``tensors``; the graph's inputs among them are not handed out.

    A copy of the graph is written to a folder of its own, beside links to the external data, and removed at the end.

    Raises:
        InputError: If a tensor is unknown or holds no floats.
    """
    model = read(path)
    fed = _inputs(model)
    _check_names(model, fed, tensors)
    if wanted := [name for name in dict.fromkeys(tensors) if name not in fed]:
        del model.graph.output[:]
        model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in wanted)
    folder = scratch.folder()
    try:
        session = Activations(_written(model, path, folder))
        _check_types(session, tensors)
        yield session
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _written(model: onnx.ModelProto, path: Path, folder: Path) -> Path:
    located = {ExternalDataInfo(item).location for item in initializers(model) if uses_external_data(item)}
    for location in located:
        (folder / location).parent.mkdir(parents=True, exist_ok=True)
        _link(folder / location, (path.parent / location).resolve())
    onnx.save(model, folder / "activations.onnx")
    return folder / "activations.onnx"


def _link(link: Path, file: Path) -> None:
    """Another name of ``file``, or a copy if it is on another disk; the runtime follows no symbolic link out of a folder."""
    try:
        link.hardlink_to(file)
    except OSError:
        shutil.copyfile(file, link)


def _inputs(model: onnx.ModelProto) -> set[str]:
    """What a caller feeds; older files list their weights among the inputs too."""
    return {value.name for value in model.graph.input} - {item.name for item in model.graph.initializer}


def _check_names(model: onnx.ModelProto, fed: set[str], tensors: Sequence[str]) -> None:
    held = fed | {name for node in model.graph.node for name in node.output}
    if unknown := next((name for name in tensors if name not in held), None):
        close = get_close_matches(unknown, held, 1)
        raise InputError(f"the graph has no tensor '{unknown}'", expected=f"'{close[0]}'" if close else "a name of the graph")


def _check_types(session: Activations, tensors: Sequence[str]) -> None:
    types = dict(zip(session.outputs, session.output_types, strict=True))
    types |= {spec.name: str(spec.dtype) for spec in session.inputs}
    for name in tensors:
        if not types[name].startswith("float"):
            raise InputError(f"tensor '{name}' cannot be calibrated", got=types[name], expected="floating point values")
