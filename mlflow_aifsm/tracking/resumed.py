"""A log that was begun, interrupted, and is gone on with: same run, same id."""

from __future__ import annotations

import mlflow
from mlflow.entities import RunStatus

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.tracking.connection import client, speaking
from mlflow_aifsm.tracking.keys import tag
from mlflow_aifsm.tracking.write import Place


def reopened(log: str, run_id: str, log_id: str) -> Place:
    """Frees the claim that an interrupted log left on its run, so that the same log can be begun again there.

    The run becomes the active one and runs again, unless another one is active.

    Args:
        log: ``conversion`` or ``optimization``.
        run_id: The run.
        log_id: Id of the interrupted log.

    Returns:
        The run; whether it was started here, and must be ended.

    Raises:
        InputError: If the run holds another log, or that log is finished.
        NotFoundError: If there is no such run.
        TrackingError: If MLflow cannot be reached.
    """
    with speaking(f"run {run_id}", missing="begin anew, without resume"):
        run = client().get_run(run_id)
    held = run.data.tags.get(tag(log, "log_id"))
    if held not in (None, log_id):
        raise InputError(f"run {run_id} holds another {log} log", got=held, expected=log_id)
    if tag(log, "record_sha256") in run.data.tags:
        raise InputError(f"log {log_id} is finished", remedy="begin anew, without resume")
    with speaking(f"run {run_id}"):
        if held is not None:
            client().delete_tag(run_id, tag(log, "log_id"))
        active = mlflow.active_run()
        if active is not None:
            client().update_run(run_id, RunStatus.to_string(RunStatus.RUNNING))
        else:
            mlflow.start_run(run_id=run_id)
    return Place(run_id, run.info.experiment_id, started=active is None or active.info.run_id != run_id)
