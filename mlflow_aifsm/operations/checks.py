"""Checks of what a config holds: one line that says what, got, expected, and the nearest known word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from mlflow_aifsm.errors import InputError


def one_of(name: str, given: Any, known: tuple[Any, ...]) -> None:
    """Raises an error that names the nearest known word where ``given`` is none of ``known``.

    Raises:
        InputError: If it is none.
    """
    if any(given is word or (type(given) is type(word) and given == word) for word in known):
        return
    near = get_close_matches(str(given), [str(word) for word in known], 1)
    expected = ", ".join(repr(word) for word in known)
    raise InputError(name, got=repr(given), expected=expected, remedy=f"did you mean '{near[0]}'?" if near else "")


def check_parts(name: str, given: str | Mapping[str, str], known: tuple[str, ...], parts: tuple[str, ...]) -> None:
    """Raises an error unless ``given`` is a known word, or known words by name of a part.

    Raises:
        InputError: If it is neither.
    """
    for part, word in (given if isinstance(given, Mapping) else {"": given}).items():
        if part:
            one_of(f"key of {name}", part, parts)
        one_of(f"{name} of {part}" if part else name, word, known)


def positive(name: str, given: Any) -> None:
    """Raises an error unless ``given`` is a positive integer.

    Raises:
        InputError: If it is none.
    """
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise InputError(name, got=repr(given), expected="a positive integer")


def between(name: str, given: Any, low: float, high: float) -> None:
    """Raises an error unless ``low < given <= high``, or ``given < high`` where ``high`` is 1.

    Raises:
        InputError: If it is not.
    """
    inside = isinstance(given, int | float) and not isinstance(given, bool) and low < given <= high
    if not inside or (high == 1 and given == 1):
        raise InputError(name, got=repr(given), expected=f"a number between {low} and {high}")


def names(name: str, given: Any) -> tuple[str, ...]:
    """``given`` as a tuple of names; a single one may stand alone.

    Raises:
        InputError: If it holds something that is no name.
    """
    alone = isinstance(given, str) or not isinstance(given, Iterable)
    listed = (given,) if alone else tuple(given)
    if not all(isinstance(part, str) and part for part in listed):
        raise InputError(name, got=repr(given), expected="names, patterns or operator types")
    return listed
