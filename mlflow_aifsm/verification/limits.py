"""Limits by name: which number each one limits, from which side, and what does not hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from mlflow_aifsm.errors import InputError

AT_LEAST = frozenset({"sqnr_db", "agreement", "worst_class_recall"})
"""Limits from below; all others are limits from above."""
BY_CLASS = ("worst_class_drop", "worst_class_recall")
"""Limits of what a single class may lose."""
LIMITS: Mapping[str, str] = {
    **{name: f"{name}_diff" for name in ("max", "p999", "p99", "mean")},
    **{name: name for name in ("sqnr_db", "flips", "flip_upper_95", "agreement", "accuracy_drop", "slice_drop")},
    **{name: name for name in BY_CLASS},
}
"""Names of limits, and the number each one limits; ``<metric>_drop`` of a given metric besides."""


def number_of(limit: str) -> str:
    """The name of the number that ``limit`` limits."""
    return LIMITS.get(limit, limit)


def measured(limits: Mapping[str, float], numbers: Mapping[str, Any]) -> dict[str, float]:
    """The limits whose number is among ``numbers``."""
    return {name: limit for name, limit in limits.items() if number_of(name) in numbers}


def bound(name: str, limit: float) -> str:
    """One limit as an inequality: ``accuracy_drop ≤ 0.01``."""
    return f"{name} {'≥' if name in AT_LEAST else '≤'} {limit:g}"


def miss(name: str, number: float | None, limit: float) -> str:
    """Why the limit does not hold, as a phrase; empty where it does."""
    if number is None:
        return f"{name} could not be measured"
    holds = number >= limit if name in AT_LEAST else number <= limit
    return "" if holds else f"{name} is {number:.4g}, limit {limit:g}"


def is_number(value: Any, least: float = -math.inf) -> bool:
    """Whether ``value`` is a finite number of at least ``least``; a bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= least


def check(limits: Mapping[str, float], metrics: Iterable[str]) -> None:
    """Raises an error where a limit has no number, or is none itself.

    Args:
        limits: Limits by name.
        metrics: Names of the caller's own metrics, whose ``<name>_drop`` can be limited too.

    Raises:
        InputError: If a name is unknown, or a limit is no finite number.
    """
    known = {*LIMITS, *(f"{name}_drop" for name in metrics)}
    for name, limit in limits.items():
        if name not in known:
            nearest = get_close_matches(str(name), known, 1)
            raise InputError(f"unknown limit '{name}'", expected=f"'{nearest[0]}'" if nearest else ", ".join(sorted(known)))
        if not is_number(limit):
            raise InputError(f"limit '{name}'", got=limit, expected="a finite number")
