"""Found logs and comparisons as pandas tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from mlflow_aifsm.report.comparison import Comparison
from mlflow_aifsm.template import LOGS
from mlflow_aifsm.tracking.curve import PREFIX
from mlflow_aifsm.tracking.search import FoundLog, params

TAGS = (
    "model_version",
    "model_uri",
    "responsible",
    "input_id",
    "input_sha256",
    "output_sha256",
    "verification",
    "data",
    "data_sha256",
    "runtime",
    "host",
    "template",
    "record_sha256",
)
"""Tags of a log that are columns of their own name."""
IDENTITY = ("run_id", "log", "log_id", "run_name", "experiment", "status", "made_at", *TAGS)
"""Columns that every table of logs begins with."""
DELTA = "_delta"
"""Ends the name of a column that holds a number minus the baseline's."""


def found(logs: Sequence[FoundLog]) -> pd.DataFrame:
    """A row for each log: `IDENTITY`, then its categories in the templates' order, then its numbers by name.

    Categories are text, ``None`` where a log does not have them; numbers are float64, NaN where they were not measured;
    ``made_at`` is a UTC timestamp.
    """
    held = {key for log in logs for key in log.categories}
    categories = [key for kind in LOGS for name in params(kind) if (key := name.removeprefix(PREFIX)) in held]
    numbers = sorted({name for log in logs for name in log.numbers})
    columns: dict[str, Any] = _identity(logs)
    columns |= {key: _texts([log.categories.get(key) for log in logs]) for key in categories}
    columns |= {name: _floats([log.numbers.get(name) for log in logs]) for name in numbers}
    return pd.DataFrame(columns, index=pd.RangeIndex(len(logs)))


def compared(made: Comparison, logs: Sequence[FoundLog]) -> pd.DataFrame:
    """A comparison as a table, its rows by name; see ``mlflow_aifsm.compare`` for the columns."""
    columns: dict[str, Any] = _identity(logs)
    columns |= {key: _texts([row.categories.get(key) for row in made.rows]) for key in made.differing if key not in columns}
    for name in made.numbers:
        columns[name] = _floats([row.numbers.get(name) for row in made.rows])
        columns[f"{name}{DELTA}"] = _floats([made.delta(row, name) for row in made.rows])
    columns["group"] = pd.Series([row.group for row in made.rows], dtype="int64")
    columns["pareto"] = pd.Series([row.best for row in made.rows], dtype="bool")
    frame = pd.DataFrame(columns)
    frame.index = pd.Index([row.name for row in made.rows], name="name")
    frame.attrs |= {
        "same": dict(made.same),
        "warnings": made.warnings,
        "baseline": made.rows[made.baseline].name,
        "quality": made.quality,
    }
    return frame


def _identity(logs: Sequence[FoundLog]) -> dict[str, Any]:
    own = {name: _texts([getattr(log, name) for log in logs]) for name in IDENTITY[:6]}
    dates = pd.Series([log.tags.get("date") for log in logs], dtype=object)
    moments = pd.to_datetime(dates, utc=True, format="ISO8601", errors="coerce")
    return {**own, "made_at": moments, **{name: _texts([log.tags.get(name) for log in logs]) for name in TAGS}}


def _texts(values: Sequence[str | None]) -> pd.Series:
    return pd.Series(values, dtype=object)


def _floats(values: Sequence[float | None]) -> pd.Series:
    return pd.Series(values, dtype="float64")
