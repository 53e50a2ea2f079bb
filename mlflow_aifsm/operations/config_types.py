"""What a setting of a config may hold in a file, read from the types of its class."""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

WORDS: Mapping[Any, str] = {str: "a text", int: "an integer", float: "a number", bool: "true or false"}
"""How the plain types are called."""


@cache
def hints(kind: type) -> Mapping[str, Any]:
    """The settings of a config class with their types."""
    return get_type_hints(kind)


def fits(value: Any, hint: Any) -> bool:
    """Whether ``value``, as a file gives it, is of the type ``hint``."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return any(type(value) is type(word) and value == word for word in parts)
    if origin is tuple:
        # a single name may stand alone
        alone = parts[0] is str and isinstance(value, str)
        return alone or (isinstance(value, list | tuple) and all(fits(part, parts[0]) for part in value))
    if origin is Mapping:
        return isinstance(value, Mapping) and all(fits(part, parts[1]) for part in value.values())
    return _is_plain(value) if hint is Any else _is(value, hint)


def in_words(hint: Any) -> str:
    """The type ``hint`` as a file's author calls it; that a setting may be left out goes without saying."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        return " or ".join(in_words(part) for part in parts if part is not types.NoneType)
    if origin is Literal:
        return " or ".join(repr(word) for word in parts)
    if origin is tuple:
        return f"a list, each {in_words(parts[0])}"
    if origin is Mapping:
        return f"a table, each value {in_words(parts[1])}"
    return WORDS.get(hint, "texts, numbers, lists or tables")


def _is(value: Any, hint: Any) -> bool:
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is hint


def _is_plain(value: Any) -> bool:
    """Whether JSON can hold it; TOML has dates besides."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)
