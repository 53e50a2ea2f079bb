"""What kind a frozen file is: told by its first bytes, checked against its name, before anything of it is loaded."""

from __future__ import annotations

import zipfile
from enum import StrEnum
from pathlib import Path

from mlflow_aifsm.errors import InputError

ZIP = b"PK\x03\x04"
PICKLE = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
"""First bytes of a pickle since protocol 2; no ONNX file begins with them, because no protobuf field has such a tag."""


class FileKind(StrEnum):
    """The formats a frozen file may have."""

    ONNX = "onnx"
    PT2 = "pt2"
    TORCHSCRIPT = "torchscript"


SUFFIXES = {
    FileKind.ONNX: frozenset({".onnx"}),
    FileKind.PT2: frozenset({".pt2"}),
    FileKind.TORCHSCRIPT: frozenset({".pt", ".pth", ".ts", ".torchscript"}),
}
"""How files of each kind are called."""
FIXED_NAMES = {FileKind.PT2: "model.pt2", FileKind.TORCHSCRIPT: "model.pth"}
"""The names under which ``mlflow.pytorch`` looks for an archive in a model's folder; frozen ones are delivered so."""


def kind_of(path: Path) -> FileKind:
    """The kind of the file at ``path``: a PyTorch archive by what it holds, any other file an ONNX file.

    Raises:
        InputError: If the file cannot be read, holds a pickled Python object, or is of another kind than its name says.
    """
    try:
        with path.open("rb") as stream:
            first = stream.read(4)
    except OSError as error:
        raise InputError(f"cannot read {path}", got=error.strerror, remedy="give the path of a frozen file") from error
    if first[:2] in PICKLE:
        raise InputError(f"{path} is a pickle, no frozen model", remedy="a pickle is never loaded; export the model again")
    kind = _archive(path) if first == ZIP else FileKind.ONNX
    named = next((other for other, suffixes in SUFFIXES.items() if path.suffix.lower() in suffixes), kind)
    if named is not kind:
        held = f"a {kind} archive" if first == ZIP else "no archive of PyTorch"
        raise InputError(
            f"{path} is damaged or no {named} file", got=held, remedy="export it again, or copy it again as a whole"
        )
    return kind


def _archive(path: Path) -> FileKind:
    """The kind of a zip: a pt2 says so in a record of its own, a TorchScript has code besides its constants."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = [name.partition("/") for name in archive.namelist()]
            inner = {rest: root for root, _, rest in parts}
            if "archive_format" in inner and archive.read(f"{inner['archive_format']}/archive_format") == b"pt2":
                return FileKind.PT2
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise InputError(f"{path} is a damaged zip archive", got=error, remedy="copy it again as a whole") from error
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return FileKind.TORCHSCRIPT
    if "data.pkl" in inner:
        remedy = "a pickle is never loaded as a frozen model; load the module yourself and pass it to freeze"
        raise InputError(f"{path} holds a pickled Python object, no frozen model", remedy=remedy)
    raise InputError(f"{path} is a zip archive, no frozen model", remedy="give the file that the exporter wrote")
