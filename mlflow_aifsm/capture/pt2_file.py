"""A pt2 archive of ``torch.export.save`` as it lies on disk: checked record by record, then loaded without unpickling.

``torch.export.load`` unpickles whatever weights, constants or example inputs an archive holds as pickles, and opens compiled
libraries it bundles. So the archive is looked through first. Weights and constants must be raw bytes; example inputs, which
``torch.export.save`` pickles, must be such that PyTorch's restricted unpickler (``weights_only=True``) takes them: tensors and
plain containers.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, TensorArgument
from torch.utils import _pytree as pytree

from mlflow_aifsm.digests import FileDigest, file_digest
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Json

_PLAIN = re.compile(r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|models/[^/]+\.json|extra/.+")
_CONFIG = re.compile(r"data/(weights|constants)/[^/]+_config\.json")
_RAW = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
_EXAMPLE = re.compile(r"data/sample_inputs/[^/]+\.pt")


@dataclass(frozen=True, slots=True, eq=False)
class Pt2File:
    """A pt2 archive that was checked and loaded: where it lies, its digest, its program."""

    path: Path
    files: tuple[FileDigest, ...]
    program: ExportedProgram

    @property
    def source(self) -> str:
        """How facts name this file: ``model.pt2 (sha256 0123456789ab…)``."""
        return f"{self.path.name} (sha256 {self.files[0].sha256[:12]}…)"


def opened(path: Path) -> Pt2File:
    """The archive at ``path`` with its program and its digest.

    Raises:
        InputError: If it cannot be read, is damaged, or holds a pickle or a library.
    """
    return Pt2File(path, (file_digest(path),), load(path))


def load(path: Path) -> ExportedProgram:
    """The program of the archive at ``path``; nothing but tensors and plain containers of an example is ever unpickled.

    Raises:
        InputError: If it cannot be read, is damaged, or holds a pickle or a library.
    """
    check(path)
    try:
        return torch.export.load(path)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        got = f"{type(error).__name__}: {reason[:200]}"
        raise InputError(f"{path} cannot be loaded", got=got, remedy="export it again, with this version of PyTorch") from error


def check(path: Path) -> None:
    """Looks through the records of an archive, loading none of them as a model.

    Raises:
        InputError: If a record is a pickle, a library or of no known purpose, is compressed, or stands twice.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist()]
            for info in archive.infolist():
                _check_record(path, archive, info)
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise InputError(f"{path} is a damaged pt2 archive", got=error, remedy="copy it again as a whole") from error
    if len(set(names)) != len(names):
        raise InputError(f"{path} holds a record twice", remedy="export it again")


def inputs_outputs(program: ExportedProgram) -> tuple[list[dict[str, Json]], list[dict[str, Json]]]:
    """Inputs that a caller feeds, and outputs, tensors only: each as ``name``, ``dtype`` as NumPy writes it, and ``shape``.

    A dimension is its size, or the name of its symbol.
    """
    signature = program.graph_signature
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    fed = [spec.arg for spec in signature.input_specs if spec.kind is InputKind.USER_INPUT]
    made = [spec.arg for spec in signature.output_specs if spec.kind is OutputKind.USER_OUTPUT]
    return _tensors(fed, values), _tensors(made, values)


def function(program: ExportedProgram) -> Callable[..., Any]:
    """The program as a function of its input tensors in order; inputs that it was exported with as constants are filled in.

    Raises:
        InputError: If an input is a number that is fed, which an array of samples cannot hold.
    """
    module, form = program.module(), program.call_spec.in_spec
    inputs = [spec.arg for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
    for arg in inputs:
        if not isinstance(arg, TensorArgument | ConstantArgument):
            raise InputError(f"input '{arg.name}' is no tensor", expected="tensors, or constants of the program")

    def call(*tensors: torch.Tensor) -> Any:
        fed = iter(tensors)
        leaves = [arg.value if isinstance(arg, ConstantArgument) else next(fed) for arg in inputs]
        args, kwargs = pytree.tree_unflatten(leaves, form)
        return module(*args, **kwargs)

    return call


def _tensors(args: Iterable[Any], values: Mapping[str, Any]) -> list[dict[str, Json]]:
    return [_described(arg.name, values[arg.name]) for arg in args if isinstance(arg, TensorArgument)]


def _described(name: str, value: Any) -> dict[str, Json]:
    shape = [size if isinstance(size, int) else str(size) for size in value.shape]
    return {"name": name, "dtype": str(value.dtype).removeprefix("torch."), "shape": shape}


def _check_record(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    record = info.filename.partition("/")[2]
    if info.compress_type != zipfile.ZIP_STORED:
        raise InputError(
            f"record {info.filename} of {path} is compressed", remedy="torch.export.save compresses none; export it again"
        )
    if _PLAIN.fullmatch(record) or _RAW.fullmatch(record):
        return
    if _CONFIG.fullmatch(record):
        _check_config(path, info.filename, archive.read(info))
    elif _EXAMPLE.fullmatch(record):
        _check_example(path, info.filename, archive.read(info))
    else:
        remedy = "a frozen model needs neither pickles nor libraries; save it with torch.export.save"
        raise InputError(f"{path} holds a record that is not needed", got=info.filename, remedy=remedy)


def _check_config(path: Path, name: str, content: bytes) -> None:
    """Weights listed here as pickles are unpickled when the archive is loaded, whatever they hold."""
    for weight, entry in _entries(path, name, content):
        place = entry.get("path_name") if isinstance(entry, dict) else None
        raw = isinstance(place, str) and re.fullmatch(r"(weight|tensor)_\d+", place)
        if not raw or entry.get("use_pickle") is not False:
            remedy = "save it with torch.export.save, weights as plain tensors"
            raise InputError(f"{path} holds '{weight}' as a pickle, which is never loaded", remedy=remedy)


def _entries(path: Path, name: str, content: bytes) -> Iterator[tuple[str, Any]]:
    try:
        yield from json.loads(content)["config"].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"record {name} of {path} is damaged", remedy="copy the file again as a whole") from error


def _check_example(path: Path, name: str, content: bytes) -> None:
    try:
        if content:
            torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        remedy = "save the program without example inputs"
        raise InputError(f"{path} holds Python objects in {name}, which are never unpickled", remedy=remedy) from error
