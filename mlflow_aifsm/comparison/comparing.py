"""``compare``: logs side by side, what differs first, the best ones marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mlflow_aifsm.comparison import frames
from mlflow_aifsm.comparison.table import comparison, names
from mlflow_aifsm.comparison.targets import Gathered, gather
from mlflow_aifsm.errors import InputError, NotFoundError
from mlflow_aifsm.report.comparison import Comparison
from mlflow_aifsm.tracking import search
from mlflow_aifsm.tracking.connection import database_exists
from mlflow_aifsm.tracking.search import FoundLog


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison, and the logs it was made from, in the same order."""

    comparison: Comparison
    logs: tuple[FoundLog, ...]

    @property
    def frame(self) -> pd.DataFrame:
        """The comparison as a pandas table."""
        return frames.compared(self.comparison, self.logs)


def compare(*targets: str, experiment: str | None = None, baseline: str | None = None) -> pd.DataFrame:
    """Logs side by side as a pandas table: identity, what differs, the numbers with their differences, what is best.

    The index ``name`` is the run's name. Columns: those that ``search_logs`` begins with; the categories in which logs differ;
    each number, and beside it ``<number>_delta``, its value minus the baseline's; ``group``, rows of one number being
    comparable, 0 for a row that is not ranked; and ``pareto``, whether no row of the group is at least as good in all of
    quality, size and time, and better in one. Quality is the first one that was measured of ``accuracy``,
    ``agreement`` and ``sqnr_db``; time is ``speedup``, and of two models that were clocked against different ones, or on
    different hosts, neither beats the other.

    Rows are of one group where verification data, runtime and the model they began with are the same. A log that is unfinished,
    has failed, or missed its criterion is shown and not ranked. A number of a verification on other data has no difference, nor
    has one that holds a model against another one than the baseline was made from.

    ``frame.attrs`` holds ``same`` (what all logs have in common, text by key), ``warnings`` (a sentence for each reason why
    rows are not comparable), ``baseline`` (its name) and ``quality``.

    Args:
        targets: Run ids, ``runs:/`` or ``models:/`` URIs, model folders or delivered files; ``models:/<name>`` is all versions
            of a registered model.
        experiment: Name of an experiment instead, for all its logs, the oldest first.
        baseline: The target that differences are taken from, or a row's name or log id; a log that is not among the rows comes
            first. If None, the conversion that most rows were made from, else the first conversion, else the first finished
            log.

    Raises:
        InputError: If neither targets nor an experiment are named, or both.
        NotFoundError: If there is no such target or experiment, or it has no log.
        TrackingError: If MLflow cannot be reached.
    """
    return side_by_side(targets, experiment, baseline).frame


def side_by_side(targets: Sequence[str], experiment: str | None = None, baseline: str | None = None) -> Compared:
    """What `compare` tells, for the writers of documents; see there."""
    if bool(targets) == (experiment is not None):
        remedy = "name runs, models or files, or an experiment"
        raise InputError(
            "targets and an experiment are both named" if targets else "nothing is named to compare", remedy=remedy
        )
    database_exists()
    found = gather(targets) if experiment is None else _of_experiment(experiment)
    logs, place = (found.logs, None) if baseline is None else _with_baseline(found.logs, baseline)
    return Compared(comparison(logs, _title(targets, experiment, len(logs)), found.notes, place), logs)


def _of_experiment(name: str) -> Gathered:
    logs = tuple(search.logs(search.experiments([name])))
    if not logs:
        remedy = "make one with mlflow_aifsm.freeze(…) or mlflow_aifsm.quantize(…)"
        raise NotFoundError(f"no run of experiment {name} has a log", remedy=remedy)
    return Gathered(logs)


def _with_baseline(logs: tuple[FoundLog, ...], wanted: str) -> tuple[tuple[FoundLog, ...], int]:
    """The logs, the baseline among them, and its place; of a run with both logs it is the conversion."""
    for at, (log, name) in enumerate(zip(logs, names(logs), strict=True)):
        if wanted in (name, log.log_id, log.run_id, log.tags.get("model_version"), log.tags.get("model_uri")):
            return logs, at
    named = gather([wanted]).logs[0]
    for at, log in enumerate(logs):
        if (log.run_id, log.log) == (named.run_id, named.log):
            return logs, at
    return (named, *logs), 0


def _title(targets: Sequence[str], experiment: str | None, count: int) -> str:
    if experiment is not None:
        return f"Logs of {experiment}"
    return f"Logs of {targets[0]}" if len(targets) == 1 else f"{count} logs compared"
