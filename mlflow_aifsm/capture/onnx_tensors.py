"""Tensors of an ONNX file, one at a time: their values, and their bytes wherever they lie."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, numpy_helper

from mlflow_aifsm.errors import InputError

PIECE = 1 << 20
"""Bytes of external data read at a time."""

TYPED: dict[int, tuple[str, str]] = {TensorProto.FLOAT: ("float_data", "<f4"), TensorProto.DOUBLE: ("double_data", "<f8")}
TYPED |= {TensorProto.COMPLEX64: ("float_data", "<f4"), TensorProto.COMPLEX128: ("double_data", "<f8")}
TYPED |= {TensorProto.INT64: ("int64_data", "<i8"), TensorProto.UINT64: ("uint64_data", "<u8")}
TYPED |= {TensorProto.UINT32: ("uint64_data", "<u4"), TensorProto.INT32: ("int32_data", "<i4")}
TYPED |= dict.fromkeys(
    (TensorProto.INT16, TensorProto.UINT16, TensorProto.FLOAT16, TensorProto.BFLOAT16), ("int32_data", "<u2")
)
"""Where tensors without raw data hold their values, and how these lie in memory; all other types are bytes in int32_data."""


def tensor(path: Path, initializer: TensorProto) -> npt.NDArray[Any]:
    """The values of one tensor of the model at ``path``, in its own dtype and shape; 4-bit types come unpacked.

    Raises:
        InputError: If its external data is missing or too short.
    """
    if initializer.data_location != TensorProto.EXTERNAL:
        return numpy_helper.to_array(initializer)
    raw = b"".join(pieces(path, initializer))
    return numpy_helper.to_array(TensorProto(data_type=initializer.data_type, dims=initializer.dims, raw_data=raw))


def pieces(path: Path, initializer: TensorProto) -> Iterator[bytes]:
    """The little-endian bytes of one tensor, the same for raw, typed and external data; external data in pieces of 1 MiB.

    Raises:
        InputError: If its external data is missing or too short.
    """
    if initializer.data_location == TensorProto.EXTERNAL:
        yield from _external(path, {entry.key: entry.value for entry in initializer.external_data}, initializer.name)
    elif initializer.HasField("raw_data"):
        yield initializer.raw_data
    elif initializer.data_type == TensorProto.STRING:
        yield from (len(text).to_bytes(8, "little") + text for text in initializer.string_data)
    else:
        name, kind = TYPED.get(initializer.data_type, ("int32_data", "u1"))
        yield np.asarray(getattr(initializer, name)).astype(kind).tobytes()


def type_name(data_type: int) -> str:
    """Name of a tensor element type as NumPy writes it: ``float32``, ``int8``, ``uint4``."""
    name = str(TensorProto.DataType.Name(data_type))
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(name, name.lower())


def data_file(path: Path, location: str) -> Path:
    """The external data file at ``location``, which must be a relative path inside the model's folder, links followed.

    Raises:
        InputError: If it points elsewhere, or is missing.
    """
    remedy = "save the model again with its weights beside it"
    plain = posixpath.normpath(location.replace("\\", "/"))
    if PurePosixPath(plain).is_absolute() or PureWindowsPath(plain).drive or plain.split("/")[0] == "..":
        raise InputError(
            f"{path.name} names weights outside its folder", got=location, expected="a relative path", remedy=remedy
        )
    file = path.parent / location
    if not file.is_file():
        remedy = f"put {location} beside {path.name}, where the exporter wrote it"
        raise InputError(f"weights of {path.name} are missing", got=f"no file {location}", remedy=remedy)
    if not file.resolve().is_relative_to(path.parent.resolve()):
        got = f"{location}, a link to {file.resolve()}"
        raise InputError(f"{path.name} names weights outside its folder", got=got, expected="a file", remedy=remedy)
    return file


def _external(path: Path, place: dict[str, str], name: str) -> Iterator[bytes]:
    file = data_file(path, place.get("location", ""))
    start = int(place.get("offset", 0))
    left = int(place.get("length", file.stat().st_size - start))
    with file.open("rb") as stream:
        stream.seek(start)
        while left and (piece := stream.read(min(left, PIECE))):
            left -= len(piece)
            yield piece
    if left:
        remedy = "copy the file again as a whole"
        raise InputError(f"{file.name} is cut short", got=f"{left} bytes less than {name} needs", remedy=remedy)
