"""Arguments of a call as JSON: what is plain as it is, what is large by kind, shape and digest, never as it prints itself."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from mlflow_aifsm.digests import sha256_bytes
from mlflow_aifsm.facts import Json
from mlflow_aifsm.sources import as_array

ENTRIES = 1000
"""Entries of a list or a mapping that are listed; of a longer one its kind and length are told."""
LONGEST = 1000
"""Characters of a text that are kept; of a longer one its length and digest are told."""
NESTED = 8
"""Levels of containers that are looked into."""
SPOKEN = ("torch.export.dynamic_shapes", "torch")
"""Modules of small values that print themselves in a word: a dimension, a data type, a device."""


def told(value: Any, depth: int = 0) -> Json:
    """``value`` as JSON.

    Enumerations are told by the word that the tool takes, paths by their last part, arrays, tensors and models by kind, shape
    and SHA-256, functions and classes by name, and everything else by its type.

    Args:
        value: An argument of any kind.
        depth: How many containers it lies in.
    """
    if isinstance(value, Enum):  # some are text or numbers, too
        return value.value if isinstance(value.value, str) else value.name
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str | bytes):
        return _text(value)
    if isinstance(value, os.PathLike):
        return Path(os.fsdecode(value)).name
    inner = _container(value, depth)
    return _thing(value) if inner is None else inner


def flattened(arguments: Mapping[str, Json], prefix: str = "") -> dict[str, Json]:
    """Nested arguments as one level with dotted names."""
    flat: dict[str, Json] = {}
    for name, value in arguments.items():
        nested = isinstance(value, Mapping) and value
        flat |= flattened(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return flat


def kind(value: Any) -> str:
    """Type of ``value`` with its module; builtins without."""
    of = type(value)
    return of.__qualname__ if of.__module__ == "builtins" else f"{of.__module__}.{of.__qualname__}"


def _text(value: str | bytes) -> Json:
    if isinstance(value, str) and len(value) <= LONGEST:
        return Path(value).name if Path(value).is_absolute() else value
    content = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    return {"type": type(value).__name__, "length": len(value), "sha256": sha256_bytes(content)}


def _container(value: Any, depth: int) -> Json:
    """What a container holds; None for what is none, is too long or lies too deep."""
    if depth >= NESTED:
        return None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {part.name: told(getattr(value, part.name), depth + 1) for part in dataclasses.fields(value)}
    if isinstance(value, Mapping) and len(value) <= ENTRIES:
        return {str(name): told(part, depth + 1) for name, part in value.items()}
    if isinstance(value, list | tuple) and len(value) <= ENTRIES:
        return [told(part, depth + 1) for part in value]
    if isinstance(value, set | frozenset) and len(value) <= ENTRIES:
        return sorted((told(part, depth + 1) for part in value), key=str)
    return None


def _thing(value: Any) -> Json:
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return f"{value.__module__}.{value.__qualname__}"
    if _is("torch.nn", "Module", value):
        return {"type": kind(value), **_state(value)}
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _array(value)
    if type(value).__module__ in SPOKEN:
        return str(value)
    length = {"length": len(value)} if hasattr(type(value), "__len__") else {}
    return {"type": kind(value), **length} if length else kind(value)


def _state(module: Any) -> dict[str, Json]:
    """Digest and size of a module's parameters; where it holds none to name, nothing."""
    from mlflow_aifsm.capture.torch_module import state_digest
    from mlflow_aifsm.errors import InputError

    try:
        return {"sha256": state_digest(module)}
    except InputError:
        return {}


def _array(value: Any) -> dict[str, Json]:
    shape = [int(length) for length in value.shape]
    found: dict[str, Json] = {"type": kind(value), "dtype": str(value.dtype), "shape": shape}
    for content in _bytes(value):
        found["sha256"] = hashlib.sha256(content).hexdigest()
    return found


def _bytes(value: Any) -> Iterator[bytes]:
    """The bytes of an array in host order; nothing for one without any, as on PyTorch's meta device."""
    try:
        yield as_array(value).tobytes()
    except Exception:  # noqa: BLE001 -- another library's array may refuse in any way
        return


def _is(module: str, name: str, value: Any) -> bool:
    """Whether ``value`` is of a class of a library that may not be imported; then it is not."""
    found = getattr(sys.modules.get(module), name, None)
    return isinstance(found, type) and isinstance(value, found)
