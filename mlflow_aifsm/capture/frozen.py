"""What every frozen file has, whatever its kind: a set of files, and an interface."""

from __future__ import annotations

import shutil
from pathlib import Path

from mlflow_aifsm.capture import onnx_graph
from mlflow_aifsm.capture.file_kind import FIXED_NAMES, FileKind, kind_of
from mlflow_aifsm.digests import FileDigest, file_digest
from mlflow_aifsm.facts import Json

Interface = tuple[list[dict[str, Json]], list[dict[str, Json]]]
"""Inputs and outputs, each as ``name``, ``dtype`` and ``shape``."""


def file_set(path: Path) -> tuple[FileDigest, ...]:
    """Digest of each file that the frozen file at ``path`` is made of, itself first, paths relative to its folder.

    Raises:
        InputError: If one of them cannot be read, or it is no frozen file.
    """
    return onnx_graph.file_set(path) if kind_of(path) is FileKind.ONNX else (file_digest(path),)


def delivery_name(path: Path) -> str:
    """The name under which the file at ``path`` is delivered: its own, or the one by which MLflow finds such an archive.

    Raises:
        InputError: If it is no frozen file.
    """
    return FIXED_NAMES.get(kind_of(path), path.name)


def copied(path: Path, folder: Path) -> Path:
    """A copy of the file set in ``folder``, byte for byte, under the name of its delivery.

    Raises:
        InputError: If one of its files cannot be read, or it is no frozen file.
    """
    delivered = folder / delivery_name(path)
    for file in file_set(path):
        target = delivered if file.path == path.name else folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path.parent / file.path, target)
    return delivered


def interface(path: Path) -> Interface | None:
    """Inputs and outputs with element types and shapes; None for a TorchScript, whose file tells neither.

    Raises:
        InputError: If the file cannot be read, or is no frozen file.
    """
    kind = kind_of(path)
    if kind is FileKind.ONNX:
        return onnx_graph.inputs_outputs(path)
    if kind is FileKind.TORCHSCRIPT:
        return None
    # PyTorch takes seconds to import, and an ONNX file does not need it
    from mlflow_aifsm.capture import pt2_file

    return pt2_file.inputs_outputs(pt2_file.load(path))
