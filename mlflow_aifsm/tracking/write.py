"""Writing a log into a run: two batches, one folder of artifacts, one logged model. The number of requests is constant."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.record import Status
from mlflow_aifsm.tracking.connection import client, server, speaking
from mlflow_aifsm.tracking.description import Paragraphs, described
from mlflow_aifsm.tracking.keys import CLAIM, STEP, folder, tag

PARENT = "mlflow.parentRunId"
TABLES = "mlflow.loggedArtifacts"
"""Tag that lists a run's tables for MLflow's UI and ``mlflow.load_table``."""


@dataclass(frozen=True, slots=True)
class UsedData:
    """A data set as a run lists it: name, SHA-256, what it was used for (``verification``, ``calibration``)."""

    name: str
    sha256: str
    context: str


@dataclass(frozen=True, slots=True)
class Place:
    """The run that a log is written to.

    Attributes:
        run_id: Its id.
        experiment_id: Its experiment.
        started: Whether it was started for this log and must be ended with it.
        parent: The run it is nested in, if any.
    """

    run_id: str
    experiment_id: str
    started: bool
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a log's last batch writes into its run.

    Attributes:
        tags: The tags that say that the log is whole.
        description: Paragraphs of Markdown for the run's page, where nobody wrote one.
        params: Those that were not written before, where no model needs them.
        metrics: Numbers by key.
        model_id: The logged model that the numbers belong to; None if there is none.
        tables: Names of the log's tables.
    """

    tags: Mapping[str, str]
    description: Paragraphs
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    model_id: str | None = None
    tables: tuple[str, ...] = ()


def place(log: str, run_id: str | None, nested: bool | None) -> Place:
    """Finds the run for a log: the named one, the active one, a child where that one holds such a log already, or a new one.

    Args:
        log: ``conversion`` or ``optimization``.
        run_id: A run to write to, finished or not.
        nested: True for a child run always, False for never, None for where it is needed.

    Raises:
        InputError: If the run holds such a log already and ``nested`` is False.
        NotFoundError: If there is no run of that id.
        TrackingError: If MLflow cannot be reached.
    """
    active = mlflow.active_run()
    if run_id is None and active is None:
        with speaking("starting a run"):
            started = mlflow.start_run()
        return Place(started.info.run_id, started.info.experiment_id, started=True)
    joined = run_id or (active.info.run_id if active else "")
    with speaking(f"run {joined}", missing="'mlflow runs list --experiment-id ID' lists those that do"):
        run = client().get_run(joined)
    taken = tag(log, "log_id") in run.data.tags
    if taken and nested is False:
        raise occupied(log, joined)
    return _child(run, log) if nested or taken else Place(joined, run.info.experiment_id, started=False)


def _child(parent: Run, log: str) -> Place:
    with speaking(f"starting a run nested in {parent.info.run_id}"):
        names = {PARENT: parent.info.run_id, "mlflow.runName": f"{parent.info.run_name} · {log}"}
        run = client().create_run(parent.info.experiment_id, tags=names)
    return Place(run.info.run_id, run.info.experiment_id, started=True, parent=parent.info.run_id)


def occupied(log: str, run_id: str) -> InputError:
    """What is said where a run holds a log of that template already and no child run is wanted."""
    return InputError(f"run {run_id} holds a {log} log already", remedy="pass nested=True, or another run_id=")


def claim(log: str, run_id: str, log_id: str) -> bool:
    """Marks the run as holding a log that is not finished: a process that dies leaves ``failed`` behind, not silence.

    Of two processes that claim one run at once at most one succeeds: each sets a tag of its own before it looks for the
    other's, so that the later one always sees the earlier one. If both see each other, neither takes the run.

    Returns:
        Whether the run was free.
    """
    own = tag(log, f"{CLAIM}{secrets.token_hex(8)}")
    with speaking(f"run {run_id}"):
        client().set_tag(run_id, own, log_id)
        others = client().get_run(run_id).data.tags.keys() - {own}
        free = not any(key == tag(log, "log_id") or key.startswith(tag(log, CLAIM)) for key in others)
        if free:
            tags = [RunTag(tag(log, "log_id"), log_id), RunTag(tag(log, "status"), str(Status.FAILED))]
            client().log_batch(run_id, tags=tags)
        client().delete_tag(run_id, own)
    return free


def params(run_id: str, values: Mapping[str, str]) -> None:
    """First batch: the params, before the model is logged, so that the Models page has them too."""
    with speaking(f"params of run {run_id}"):
        client().log_batch(run_id, params=[Param(key, value) for key, value in values.items()])


def conclusion(run_id: str, log: str, last: Conclusion) -> None:
    """Last batch: metrics, linked to the logged model, and the tags that say that the log is whole."""
    now = int(time.time() * 1000)
    with speaking(f"metrics and tags of run {run_id}"):
        held = client().get_run(run_id).data.tags
        tags = {**last.tags, **_shown(held, log, last.tables), **described(held, log, last.description)}
        client().log_batch(
            run_id,
            metrics=[Metric(key, value, now, STEP[log], model_id=last.model_id) for key, value in last.metrics.items()],
            params=[Param(key, value) for key, value in last.params.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )


def _shown(held: Mapping[str, str], log: str, tables: Iterable[str]) -> dict[str, str]:
    """The log's tables, beside those that are listed already, as ``log_table`` lists them, so that the UI shows them.

    ``log_table`` itself would write each one after the manifest, with requests of its own for each.
    """
    shown = [{"path": f"{folder(log)}/{name}.json", "type": "table"} for name in tables]
    listed = json.loads(held.get(TABLES, "[]")) if shown else []
    return {TABLES: json.dumps([*listed, *(entry for entry in shown if entry not in listed)])} if shown else {}


def artifacts(run_id: str, log: str, staged: Path) -> None:
    """The log's folder."""
    with speaking(f"artifacts of run {run_id}"):
        client().log_artifacts(run_id, str(staged), folder(log))


def inputs(run_id: str, data: Iterable[UsedData], model_ids: Iterable[str]) -> None:
    """Data sets with their context, and the logged models that went in; both show as inputs of the run."""
    listed = [_dataset(used) for used in data]
    models = [LoggedModelInput(model_id) for model_id in model_ids]
    if listed or models:
        with speaking(f"inputs of run {run_id}"):
            _log_inputs(run_id, listed, models)


def _log_inputs(run_id: str, datasets: list[DatasetInput], models: list[LoggedModelInput]) -> None:
    try:
        client().log_inputs(run_id, datasets=datasets or None, models=models or None)
    except MlflowException as error:
        if not any(word in str(error) for word in ("IntegrityError", "UniqueViolation")):
            raise
        # of two processes that list the same new data set at once MLflow refuses one; the second time it finds the other's
        client().log_inputs(run_id, datasets=datasets or None, models=models or None)


def _dataset(used: UsedData) -> DatasetInput:
    # MLflow keeps 36 characters of a digest; the whole one stands in the tag and in the record
    dataset = Dataset(used.name, used.sha256[:36], source_type="local", source="{}")
    return DatasetInput(dataset, [InputTag("mlflow.data.context", used.context), InputTag("aifsm.sha256", used.sha256)])


def text(run_id: str, path: str, content: str) -> None:
    """One artifact from text, replacing what was there."""
    with speaking(f"artifact {path} of run {run_id}"):
        client().log_text(run_id, content, path)


def tags(run_id: str, values: Mapping[str, str]) -> None:
    """Tags of a run, replacing what was there."""
    with speaking(f"tags of run {run_id}"):
        client().log_batch(run_id, tags=[RunTag(key, value) for key, value in values.items()])


def version_tags(name: str, version: str, values: Mapping[str, str]) -> None:
    """Tags of a registered version, replacing what was there."""
    with speaking(f"tags of models:/{name}/{version}"):
        for key, value in values.items():
            client().set_model_version_tag(name, version, key, value)


def end(where: Place, *, failed: bool) -> None:
    """Ends the run if it was started for the log; a joined run is never ended."""
    if not where.started:
        return
    state = "FAILED" if failed else "FINISHED"
    active = mlflow.active_run()
    with speaking(f"ending run {where.run_id} at {server()}"):
        if active is not None and active.info.run_id == where.run_id:
            mlflow.end_run(state)
        else:
            client().set_terminated(where.run_id, state)
