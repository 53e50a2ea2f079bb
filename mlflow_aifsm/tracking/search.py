"""Logs found in MLflow by paged searches: what a run's params and tags say of each, and no request per run."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

from mlflow.entities import Experiment, LifecycleStage, Run
from mlflow.store.entities import PagedList

from mlflow_aifsm.catalogue import CATALOGUE
from mlflow_aifsm.codec import loads
from mlflow_aifsm.errors import NotFoundError, RecordError
from mlflow_aifsm.facts import Json
from mlflow_aifsm.record import Status
from mlflow_aifsm.template import LOGS, load
from mlflow_aifsm.tracking.connection import active_experiment, client, speaking
from mlflow_aifsm.tracking.curve import PREFIX
from mlflow_aifsm.tracking.keys import NUMBERS, beside, tag

T = TypeVar("T")

PAGE = 1000
"""Runs of one page, which is held in memory whole."""
NAMED = 200
"""Run ids in one filter, which travels in the request."""
METRICS = frozenset(fact.metric.removeprefix(PREFIX) for fact in CATALOGUE.values() if fact.metric)
"""Names of the numbers that a log may hold."""
UNFINISHED = "unfinished"
"""State of a log that was begun and has no record: its process died, or still runs."""


@dataclass(frozen=True, slots=True)
class FoundLog:
    """One log as the params and tags of its run describe it; keys are those of the run without ``aifsm.``.

    Attributes:
        log: ``conversion`` or ``optimization``.
        run_id: Its run.
        run_name: The run's name.
        experiment: Name of the run's experiment.
        tags: The log's own tags by what stands behind ``aifsm.<log>.``.
        categories: Text of each field of the log that the run holds as a param.
        numbers: The log's own metrics, finite.
    """

    log: str
    run_id: str
    run_name: str = ""
    experiment: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    categories: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def log_id(self) -> str:
        """Id of the log."""
        return self.tags.get("log_id", "")

    @property
    def status(self) -> str:
        """The log's status, or `UNFINISHED`."""
        return self.tags.get("status", UNFINISHED) if self.tags.get("record_sha256") else UNFINISHED

    @property
    def delivered(self) -> bool:
        """Whether the log is finished and its operation did not fail."""
        return self.status not in (UNFINISHED, str(Status.FAILED))


def paged(search: Callable[[str | None], PagedList[T]]) -> Iterator[T]:
    """What all pages of a search hold; ``search`` is given the token of the page to fetch."""
    page = search(None)
    yield from page
    while page.token:
        page = search(page.token)
        yield from page


def experiments(names: Iterable[str] | None = None) -> dict[str, str]:
    """Names of experiments by id: of those named, of all there are if None.

    Raises:
        NotFoundError: If one of the names is none.
        TrackingError: If MLflow cannot be reached.
    """
    with speaking("searching for experiments"):
        if names is None:
            return {
                found.experiment_id: found.name for found in paged(lambda token: client().search_experiments(page_token=token))
            }
        return {found.experiment_id: found.name for found in map(_experiment, names)}


def _experiment(name: str) -> Experiment:
    found = client().get_experiment_by_name(name)
    if found is None:
        raise NotFoundError(f"there is no experiment {name}", remedy="'mlflow experiments search' lists those that there are")
    if found.lifecycle_stage != LifecycleStage.ACTIVE:
        remedy = f"'mlflow experiments restore --experiment-id {found.experiment_id}' brings it back"
        raise NotFoundError(f"experiment {name} is deleted", remedy=remedy)
    return found


def active() -> dict[str, str]:
    """Name by id of the experiment that ``mlflow.search_runs`` looks in where none is named.

    Raises:
        TrackingError: If MLflow cannot be reached.
    """
    with speaking("the active experiment"):
        found = client().get_experiment(active_experiment())
    return {found.experiment_id: found.name}


def runs(
    places: Iterable[str], filter_string: str = "", order_by: Sequence[str] = ("attributes.start_time ASC",)
) -> Iterator[Run]:
    """Runs of the experiments with these ids, page by page.

    Args:
        places: Ids of experiments.
        filter_string: Filter in MLflow's own syntax.
        order_by: Columns in MLflow's own syntax; the oldest run comes first if nothing else is said.

    Raises:
        TrackingError: If MLflow cannot be reached, or refuses the filter.
    """
    wanted = list(places)

    def search(token: str | None) -> PagedList[Run]:
        with _undisturbed():
            return client().search_runs(wanted, filter_string, max_results=PAGE, order_by=list(order_by), page_token=token)

    with speaking("searching for runs"):
        yield from paged(search)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Garbage is not looked for: the objects of a page all live, and going through them takes longer than making them."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def logs(
    places: Mapping[str, str], filter_string: str = "", order_by: Sequence[str] = (), log: str | None = None
) -> Iterator[FoundLog]:
    """The logs of runs in ``places``, conversion before optimization where a run holds both.

    Args:
        places: Names of experiments by id.
        filter_string: Filter of runs in MLflow's own syntax.
        order_by: Columns in MLflow's own syntax.
        log: ``conversion`` or ``optimization`` for that kind only.

    Raises:
        TrackingError: If MLflow cannot be reached, or refuses the filter.
    """
    holds = f"tags.`{tag(log, 'log_id')}` LIKE '%'" if log else ""
    wanted = " AND ".join(filter(None, (filter_string, holds)))
    for run in runs(places, wanted, order_by or ("attributes.start_time ASC",)):
        yield from (found for found in logs_of(run, places) if log in (None, found.log))


def logs_of_runs(run_ids: Iterable[str], places: Mapping[str, str]) -> dict[str, tuple[FoundLog, ...]]:
    """The logs of the runs of these ids, fetched many at a time, by run id; an id of no run is left out."""
    wanted, found = list(dict.fromkeys(run_ids)), dict[str, tuple[FoundLog, ...]]()
    for start in range(0, len(wanted), NAMED):
        listed = ", ".join(map(quoted, wanted[start : start + NAMED]))
        found |= {str(run.info.run_id): tuple(logs_of(run, places)) for run in runs(places, f"attributes.run_id IN ({listed})")}
    return found


def quoted(text: str) -> str:
    """``text`` as a value in a filter."""
    return "'{}'".format(text.replace("'", "\\'"))


def logs_of(run: Run, places: Mapping[str, str]) -> Iterator[FoundLog]:
    """The logs that a run holds, conversion before optimization."""
    tags, held, experiment = run.data.tags, run.data.params, places.get(run.info.experiment_id, run.info.experiment_id)
    for log in LOGS:
        if tag(log, "log_id") in tags:
            head = tag(log, "")
            own = {key.removeprefix(head): text for key, text in tags.items() if key.startswith(head)}
            numbers = _numbers(own.pop(NUMBERS, ""))
            categories = {key.removeprefix(PREFIX): held[key] for key in params(log) if key in held}
            yield FoundLog(log, str(run.info.run_id), str(run.info.run_name or ""), experiment, own, categories, numbers)


@cache
def fields(log: str) -> tuple[str, ...]:
    """Keys of the fields of a log that a run holds as params, in the template's order."""
    return tuple(row.key for row in load(log).fields if row.log_as == "param")


@cache
def params(log: str) -> tuple[str, ...]:
    """Keys of all params of a log: its fields, and what stands beside them."""
    return (*fields(log), *beside(load(log)).values())


def _numbers(text: str) -> dict[str, float]:
    """The log's numbers; none where it wrote none, and nothing that somebody put there and no log measures."""
    try:
        told = loads(text) if text else {}
    except RecordError:
        return {}
    pairs = told.items() if isinstance(told, dict) else ()
    return {name: float(value) for name, value in pairs if name in METRICS and _finite(value)}


def _finite(value: Json) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max
