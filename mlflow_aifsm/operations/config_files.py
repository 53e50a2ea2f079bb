"""Configs as files, TOML or JSON: ``kind = "Static"``, and the settings of that kind beside it. Their only reader.

What is asked of a freeze, a quantization or a pruning is data: a file of it is what the command line takes, what a project
keeps under version control, and what a record holds to ask for the same again.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any, Literal, overload

from mlflow_aifsm.codec import dumps
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Json
from mlflow_aifsm.operations.config_types import fits, hints, in_words
from mlflow_aifsm.operations.configs import Onnx, Pt2
from mlflow_aifsm.operations.pruning import Gradient, Magnitude
from mlflow_aifsm.operations.quantization import NNCF, ORT, Dynamic, Quantization, Static, WeightOnly

KIND = "kind"
Config = Onnx | Pt2 | Quantization | Magnitude | Gradient
VERBS: Mapping[str, tuple[type, ...]] = {
    "freeze": (Onnx, Pt2),
    "quantize": (Static, Dynamic, WeightOnly, NNCF, ORT),
    "prune": (Magnitude, Gradient),
}
"""The kinds of config that each verb takes."""
KINDS: Mapping[str, type] = {kind.__name__: kind for kinds in VERBS.values() for kind in kinds}
"""Every kind of config by its name in a file."""
FUNCTIONS = ("loss", "fine_tune")
"""Arguments of ``prune`` that are functions."""
IN_PYTHON = "call mlflow_aifsm.prune(model, config, data=..., loss=..., fine_tune=...) in Python"


def read(path: str | Path) -> Config:
    """The config that the file at ``path`` holds.

    Args:
        path: A ``.toml`` or ``.json`` file.

    Raises:
        InputError: If it cannot be read, or holds an unknown kind, an unknown setting or a value that does not fit.
    """
    file = Path(path)
    content = _content(file)
    if not isinstance(content, Mapping):
        raise InputError(f"config {file.name}", got=f"a {type(content).__name__}", expected="a table of settings")
    settings = {name: value for name, value in content.items() if name != KIND}
    if KIND not in content:
        raise InputError(f"config {file.name} has no kind", expected=f"one of {', '.join(KINDS)}", remedy='add kind = "Static"')
    return made(content[KIND], settings, file.name)


@overload
def read_for(verb: Literal["freeze"], path: str | Path) -> Onnx | Pt2: ...
@overload
def read_for(verb: Literal["quantize"], path: str | Path) -> Quantization: ...
@overload
def read_for(verb: Literal["prune"], path: str | Path) -> Magnitude: ...
def read_for(verb: str, path: str | Path) -> Config:
    """The config for ``freeze``, ``quantize`` or ``prune`` of a file alone, without any Python code.

    Raises:
        InputError: If the file holds no config, that of another verb, or one that needs a function.
    """
    config, kinds = read(path), VERBS[verb]
    if not isinstance(config, kinds):
        known, got = ", ".join(kind.__name__ for kind in kinds), type(config).__name__
        other = next(name for name, takes in VERBS.items() if isinstance(config, takes))
        raise InputError(f"config {Path(path).name} is none of {verb}", got=got, expected=known, remedy=f"pass it to {other}")
    if isinstance(config, Gradient):
        what = f"config {Path(path).name}: kind Gradient needs a loss function, which no file can hold"
        raise InputError(what, expected="Magnitude", remedy=IN_PYTHON)
    return config


def made(kind: Any, settings: Mapping[str, Any], where: str) -> Config:
    """The config of ``kind`` with ``settings``.

    Args:
        kind: Name of the kind.
        settings: Its settings as plain data, those that are left out being its defaults.
        where: Where they stand, for errors.

    Raises:
        InputError: If kind or setting is unknown, or a value does not fit.
    """
    if kind not in tuple(KINDS):
        raise InputError(f"unknown kind {kind!r} in {where}", expected=", ".join(KINDS), remedy=_nearest(str(kind), KINDS))
    known = hints(KINDS[kind])
    for name, value in settings.items():
        if name not in known:
            raise _unknown(name, kind, where)
        if not fits(value, known[name]):
            raise InputError(f"setting '{name}' of {kind} in {where}", got=repr(value)[:80], expected=in_words(known[name]))
    given = {name: _with_axes(value) if name == "dynamic_shapes" else value for name, value in settings.items()}
    try:
        config: Config = KINDS[kind](**given)
    except InputError as error:
        what = f"{kind} in {where}: {error.what}"
        raise InputError(what, got=error.got, expected=error.expected, remedy=error.remedy) from error
    return config


def content(config: Config) -> dict[str, Json]:
    """``config`` as plain data: its kind, and all its settings.

    Objects of NNCF are written as the keywords that make them, enumerations as their words, which NNCF and ONNX Runtime's
    quantizers are given as what they stand for.

    Raises:
        InputError: If a setting has no written form, a function for instance.
    """
    name = type(config).__name__
    return {KIND: name, **{one.name: _plain(getattr(config, one.name), f"{name}.{one.name}") for one in fields(config)}}


def written(config: Config, path: str | Path) -> Path:
    """Writes ``config`` to a ``.json`` file that ``read`` reads.

    Raises:
        InputError: If a setting has no written form, or the file cannot be written.
    """
    file = Path(path)
    if file.suffix != ".json":
        raise InputError(f"config {file.name}", got=f"suffix '{file.suffix}'", expected=".json; TOML is read, not written")
    try:
        file.write_bytes(dumps(content(config)))
    except OSError as error:
        raise InputError(f"config {file} cannot be written: {error.strerror}", remedy="name another place") from error
    return file


def _content(file: Path) -> Any:
    loads: Mapping[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".json": _json}
    if file.suffix not in loads:
        raise InputError(f"config {file.name}", got=f"suffix '{file.suffix}'", expected=".toml or .json")
    try:
        return loads[file.suffix](file.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"config {file} cannot be read: {error.strerror}", expected="a .toml or .json file") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"config {file.name} is not {file.suffix[1:].upper()}: {error}") from error


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of two values for one key, JSON would silently keep the last."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"'{name}' stands there twice")
        found[name] = value
    return found


def _unknown(name: str, kind: str, where: str) -> InputError:
    if KINDS[kind] in VERBS["prune"] and name in FUNCTIONS:
        return InputError(f"'{name}' in {where} is a function, which no file can hold", remedy=IN_PYTHON)
    settings = tuple(hints(KINDS[kind]))
    return InputError(f"unknown setting '{name}' of {kind} in {where}", remedy=_nearest(name, settings))


def _nearest(given: str, known: Iterable[str]) -> str:
    words = {word.lower(): word for word in known}
    near = get_close_matches(given.lower(), words, n=1, cutoff=0)
    return f"the nearest known one is '{words[near[0]]}'"


def _with_axes(value: Any) -> Any:
    """Dynamic shapes with axes as numbers: a key of a file is always text."""
    if isinstance(value, Mapping):
        return {int(key) if key.isdecimal() else key: _with_axes(part) for key, part in value.items()}
    return [_with_axes(part) for part in value] if isinstance(value, list) else value


def _plain(value: Any, name: str) -> Json:
    if isinstance(value, Enum):
        # NNCF's own reader takes their values, which are words; ONNX Runtime's, which are numbers, go by name
        return value.value if isinstance(value.value, str) else value.name
    if value is None or isinstance(value, str | int | float):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        parts = {one.name: getattr(value, one.name) for one in fields(value)}
        usual = {one.name: one.default if one.default_factory is MISSING else one.default_factory() for one in fields(value)}
        return {key: _plain(part, f"{name}.{key}") for key, part in parts.items() if part != usual[key]}
    if isinstance(value, Mapping):
        return {str(key): _plain(part, f"{name}.{key}") for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, name) for part in value]
    raise InputError(f"setting {name} has no written form", got=type(value).__name__, expected="plain data")
