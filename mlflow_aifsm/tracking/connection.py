"""Calls to MLflow with errors a person can act on, and the few names of MLflow that are not public."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.tracking.fluent import _get_experiment_id

from mlflow_aifsm.errors import AifsmError, NotFoundError, TrackingError

PATIENCE = 5
"""Seconds that a server has to take a connection before it counts as absent."""
LONGEST = 300
"""Characters of another program's message that a line of ours repeats."""
MISSING = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_PARAMETER_VALUE"})


def client() -> MlflowClient:
    """A client of the tracking server that MLflow itself would use."""
    return MlflowClient()


def active_experiment() -> str:
    """Id of the experiment that MLflow itself would take where none is named; no public name of MLflow tells it."""
    return str(_get_experiment_id())


def database_exists() -> None:
    """Makes sure that reading does not leave an empty database behind in a folder that has none.

    Raises:
        NotFoundError: If the tracking server is a database file that is not there.
    """
    uri = urlsplit(str(mlflow.get_tracking_uri()))
    if uri.scheme == "sqlite" and uri.path.strip("/") and not Path(uri.path[1:]).is_file():
        remedy = "change to the folder that holds it, or set MLFLOW_TRACKING_URI"
        raise NotFoundError(f"there is no database at {server()}", remedy=remedy)


@contextmanager
def speaking(what: str, missing: str = "") -> Iterator[None]:
    """Turns MLflow's errors into ours, cause kept.

    Args:
        what: What was being done, "run 1234" for instance.
        missing: Remedy to name where the thing does not exist.

    Raises:
        NotFoundError: If MLflow says that the thing does not exist, and ``missing`` is given.
        TrackingError: For all else that MLflow or the network refuses.
    """
    _reached(what)
    try:
        yield
    except AifsmError:
        raise
    except MlflowException as error:
        if missing and error.error_code in MISSING:
            raise NotFoundError(f"{what} does not exist at {server()}", remedy=missing) from error
        raise _refused(what, error) from error
    except (OSError, requests.RequestException) as error:
        raise _refused(what, error) from error


def server() -> str:
    """The tracking URI in force, without credentials."""
    scheme, separator, rest = str(mlflow.get_tracking_uri()).partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


_taken: set[str] = set()


def _reached(what: str) -> None:
    """Says within seconds that no server is there, where MLflow's own retries take four minutes.

    A server that took a connection is left to MLflow's retries until they fail. What lies behind a proxy cannot be told.
    """
    uri = str(mlflow.get_tracking_uri())
    place = urlsplit(uri)
    if uri in _taken or place.scheme not in ("http", "https") or requests.utils.get_environ_proxies(uri):
        return
    try:
        with socket.create_connection((place.hostname, place.port or {"http": 80, "https": 443}[place.scheme]), PATIENCE):
            _taken.add(uri)
    except (OSError, ValueError) as error:
        raise _refused(what, error) from error


def _refused(what: str, error: Exception) -> TrackingError:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return TrackingError(f"{what}: {_reason(error)}", remedy="free disk space")
    if _connectionless(error):
        _taken.discard(str(mlflow.get_tracking_uri()))
        remedy = "start it, or set MLFLOW_TRACKING_URI to the one that holds the run"
        return TrackingError(f"{what}: no server answers at {server()}", remedy=remedy)
    return TrackingError(f"{what}: {_reason(error)}")


def _connectionless(error: Exception) -> bool:
    """Whether nothing listens; MLflow wraps the network's errors in its own, and keeps their text only."""
    here = isinstance(error, ConnectionError | TimeoutError | socket.gaierror | requests.ConnectionError)
    return here or "Max retries exceeded" in str(error) or "Connection aborted" in str(error)


def _reason(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}…"
