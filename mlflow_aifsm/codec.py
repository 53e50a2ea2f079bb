"""Frozen dataclasses as JSON and back: deterministic bytes out, nothing guessed on the way in."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import is_dataclass
from enum import Enum
from functools import cache, partial
from typing import Any, TypeVar, get_args, get_origin

import cattrs

from mlflow_aifsm.errors import RecordError
from mlflow_aifsm.facts import Json

T = TypeVar("T")


def dumps(content: Json) -> bytes:
    """Deterministic, readable UTF-8 JSON.

    A lone surrogate, which UTF-8 cannot hold, is escaped and survives; JSON reads a high one followed by a low one as the one
    character they stand for.

    Raises:
        RecordError: If a value has no JSON form.
    """
    try:
        text = json.dumps(content, ensure_ascii=False, sort_keys=True, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RecordError(f"no JSON form: {error}") from error
    return (text + "\n").encode("utf-8", "backslashreplace")


def loads(data: bytes | str) -> Json:
    """The content of JSON ``data``.

    Raises:
        RecordError: If it is no JSON.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not JSON: {error}", remedy="restore the file from where it was logged") from error


def structure(content: Json, kind: type[T], name: str) -> T:
    """``content`` as the frozen dataclass ``kind``, without guessing: a wrong type or an unknown name is an error.

    Raises:
        RecordError: If it does not fit; the message names the place.
    """
    if is_dataclass(kind) and not isinstance(content, dict):
        raise RecordError(f"the {name} is no JSON object", got=type(content).__name__)
    try:
        return converter().structure(content, kind)
    except (cattrs.BaseValidationError, TypeError) as error:
        raise RecordError(f"the {name} does not fit: {'; '.join(cattrs.transform_error(error))}") from error


def unstructure(value: object) -> Json:
    """A frozen dataclass as plain JSON data."""
    return converter().unstructure(value)


@cache
def converter() -> cattrs.Converter:
    """Plain data into frozen dataclasses without guessing: a wrong type or an unknown name is an error."""
    strict = cattrs.Converter(forbid_extra_keys=True)
    for kind in (str, int, bool):
        strict.register_structure_hook(kind, _exact)
    strict.register_structure_hook(float, _number)
    strict.register_structure_hook_factory(_is_tuple, _array)
    return strict


def _exact(value: Any, kind: type) -> Any:
    # a hook for str is taken for the enums that derive from it, too
    if issubclass(kind, Enum):
        return kind(value)
    if type(value) is not kind:
        raise TypeError(f"{kind.__name__} expected, got {type(value).__name__}")
    return value


def _number(value: Any, _: type) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"number expected, got {type(value).__name__}")
    return float(value)


def _is_tuple(kind: Any) -> bool:
    origin: Any = get_origin(kind)
    return origin is tuple


def _array(kind: Any, strict: cattrs.Converter) -> Callable[[Any, Any], Any]:
    """Tuples, all of one type, from lists alone: a text is iterable, too, and a table is."""
    args = get_args(kind)
    items = list[args[0]]  # type: ignore[valid-type]
    return partial(_as_tuple, strict.get_structure_hook(items), items, None if Ellipsis in args else len(args))


def _as_tuple(hook: Any, items: Any, length: int | None, value: Any, _: Any) -> tuple[Any, ...]:
    if not isinstance(value, list) or length not in (None, len(value)):
        raise TypeError(f"list{f' of {length}' if length else ''} expected, got {type(value).__name__}")
    return tuple(hook(value, items))
