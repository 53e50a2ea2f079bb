"""Numbers that a step at a time yields, as stepped metrics of a run: a curve in the UI beside the user's own."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from mlflow.entities import Metric

from mlflow_aifsm.errors import AifsmError, InputError
from mlflow_aifsm.tracking.connection import client, speaking

PREFIX = "aifsm."
"""What every key of ours begins with: the run is the user's."""
BATCH = 1000
"""Metrics that MLflow takes in one request."""

_logger = logging.getLogger(__name__)
_warned: set[str] = set()


@dataclass(frozen=True, slots=True)
class Point:
    """One number of a curve: metric key, value in the key's own unit, and the step it belongs to."""

    key: str
    value: float
    step: int


def log_curve(run_id: str, points: Iterable[Point]) -> bool:
    """Logs the points, in one request for each 1,000.

    What is being trained must not fail because a server does: if MLflow refuses, there is one warning for the run, and the
    caller keeps its numbers for the record.

    Args:
        run_id: The run, finished or not.
        points: What to log; keys begin with ``aifsm.``. A training that diverges is shown as it does: NaN is a value.

    Returns:
        Whether all points are in the run.

    Raises:
        InputError: If a key begins with something else, or a value is no number.
    """
    now = int(time.time() * 1000)
    metrics = [Metric(_checked(point).key, float(point.value), now, point.step) for point in points]
    try:
        with speaking(f"metrics of run {run_id}"):
            for start in range(0, len(metrics), BATCH):
                client().log_batch(run_id, metrics=metrics[start : start + BATCH])
    except AifsmError as error:
        _warn(run_id, error)
        return False
    return True


def log_point(run_id: str, key: str, value: float, step: int) -> bool:
    """Logs one number; see ``log_curve``."""
    return log_curve(run_id, [Point(key, value, step)])


def _checked(point: Point) -> Point:
    if not point.key.startswith(PREFIX):
        raise InputError("metric key", got=repr(point.key), expected=f"a name that begins with '{PREFIX}'")
    if isinstance(point.value, bool) or not isinstance(point.value, int | float):
        raise InputError(f"metric {point.key} at step {point.step}", got=repr(point.value), expected="a number")
    return point


def _warn(run_id: str, error: AifsmError) -> None:
    if run_id not in _warned:
        _warned.add(run_id)
        _logger.warning("stepped metrics are kept in the record only: %s", error)
