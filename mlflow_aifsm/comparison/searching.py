"""``search_logs``: the logs of experiments as a pandas table, as ``mlflow.search_runs`` gives their runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import pandas as pd

from mlflow_aifsm.comparison.frames import found
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.template import LOGS
from mlflow_aifsm.tracking import search
from mlflow_aifsm.tracking.connection import database_exists


def search_logs(
    experiment_names: Sequence[str] | None = None,
    filter_string: str = "",
    *,
    log: str | None = None,
    order_by: Sequence[str] = (),
    max_results: int | None = None,
) -> pd.DataFrame:
    """The logs that runs of experiments hold, one row each, found page by page without a request for each run.

    Columns: ``run_id``, ``log``, ``log_id``, ``run_name``, ``experiment``, ``status`` (the log's; ``unfinished`` where it was
    begun only), ``made_at`` (UTC), ``model_version``, ``model_uri``, ``responsible``, ``input_id``, ``input_sha256``,
    ``output_sha256``, ``verification``, ``data``, ``data_sha256``, ``runtime``, ``host``, ``template``, ``record_sha256``; then
    the fields that the run holds as params, then the numbers, all by their key without ``aifsm.``: ``ptq.precision``,
    ``accuracy``, ``size``. Text that a log does not have is None, a number that was not measured NaN.

    Args:
        experiment_names: Experiments by name; the active one if None, as for ``mlflow.search_runs``.
        filter_string: Filter of runs in MLflow's own syntax, as ``"tags.`aifsm.optimization.status` = 'complete'"``.
        log: ``conversion`` or ``optimization`` for that kind alone.
        order_by: Columns in MLflow's own syntax, as ``["metrics.`aifsm.accuracy` DESC"]``; the oldest run first if empty.
        max_results: Largest number of rows; all if None.

    Raises:
        InputError: If ``log`` or ``max_results`` is none of these.
        NotFoundError: If there is no experiment of a name.
        TrackingError: If MLflow cannot be reached, or refuses the filter.
    """
    if log is not None and log not in LOGS:
        raise InputError(f"log '{log}'", expected=" or ".join(LOGS))
    if max_results is not None and max_results < 0:
        raise InputError("max_results", got=max_results, expected="a number of rows, or None for all")
    names = [experiment_names] if isinstance(experiment_names, str) else experiment_names
    database_exists()
    places = search.active() if names is None else search.experiments(names)
    return found(list(islice(search.logs(places, filter_string, order_by, log), max_results)))
