"""The JSON Schema (2020-12) of ``record.json`` and of the JSON report, made from the code that reads them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from mlflow_aifsm.facts import Json
from mlflow_aifsm.record import SCHEMA_VERSION
from mlflow_aifsm.report.json import Report

PLAIN: Mapping[Any, Json] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
    Any: {},
}

ATTRIBUTE = re.compile(r"^    (\w+): (.+(?:\n {8,}.+)*)", re.MULTILINE)
"""One line of a docstring's list of attributes, with the lines that go on with it."""


def schema() -> Json:
    """The schema: ``record.json`` is its root; ``#/$defs/Report`` is the JSON report."""
    kinds = list(dict.fromkeys(_reached(Report)))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:mlflow-aifsm:record:{SCHEMA_VERSION}",
        "title": "Model Conversion Log or Model Optimization Log",
        "$ref": "#/$defs/Record",
        "$defs": {kind.__name__: _definition(kind) for kind in kinds},
    }


def _reached(kind: Any) -> Iterator[Any]:
    """Every dataclass and enumeration that a value of ``kind`` can hold."""
    if is_dataclass(kind):
        yield kind
        for inner in get_type_hints(kind).values():
            yield from _reached(inner)
    elif isinstance(kind, type) and issubclass(kind, StrEnum):
        yield kind
    for argument in get_args(kind):
        yield from _reached(argument)


def _definition(kind: Any) -> Json:
    words, _, listed = inspect.cleandoc(kind.__doc__ or "").partition("\nAttributes:\n")
    about = {"description": " ".join(words.split())}
    if not is_dataclass(kind):
        return {**about, "enum": [str(member) for member in kind]}
    told = {name: " ".join(text.split()) for name, text in ATTRIBUTE.findall(listed)}
    hints = get_type_hints(kind)
    return {
        **about,
        "type": "object",
        "properties": {name: {**_form(hint), **_told(told, name)} for name, hint in hints.items() if name in _names(kind)},
        "required": [each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING],
        "additionalProperties": False,
    }


def _names(kind: Any) -> set[str]:
    return {each.name for each in fields(kind)}


def _told(told: Mapping[str, str], name: str) -> Json:
    return {"description": told[name]} if name in told else {}


def _form(hint: Any) -> Json:
    """The schema of a type: what `codec` reads into it."""
    if hint in PLAIN:
        return dict(PLAIN[hint])
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return {"anyOf": [_form(argument) for argument in arguments]}
    if origin is tuple:
        return _array(arguments)
    if origin is not None:
        return {"type": "object", "additionalProperties": _form(arguments[1])}
    return {"$ref": f"#/$defs/{hint.__name__}"}


def _array(arguments: tuple[Any, ...]) -> Json:
    if Ellipsis in arguments:
        return {"type": "array", "items": _form(arguments[0])}
    forms = [_form(argument) for argument in arguments]
    return {"type": "array", "prefixItems": forms, "items": False, "minItems": len(forms)}
