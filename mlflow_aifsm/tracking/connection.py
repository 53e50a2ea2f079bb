"""Calls to MLflow with errors a person can act on, and the few names of MLflow that are not public."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlflow_aifsm.errors import AifsmError, NotFoundError, TrackingError

MISSING = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_PARAMETER_VALUE"})


def client() -> MlflowClient:
    """A client of the tracking server that MLflow itself would use."""
    return MlflowClient()


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
    try:
        yield
    except AifsmError:
        raise
    except MlflowException as error:
        if missing and error.error_code in MISSING:
            raise NotFoundError(f"{what} does not exist at {server()}", remedy=missing) from error
        raise TrackingError(f"{what}: {_reason(error)}", remedy=_reach(error)) from error
    except (OSError, requests.RequestException) as error:
        raise TrackingError(f"{what}: {_reason(error)}", remedy=_reach(error)) from error


def server() -> str:
    """The tracking URI in force, without credentials."""
    scheme, separator, rest = str(mlflow.get_tracking_uri()).partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _reason(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words if len(words) <= 300 else f"{words[:300]}…"


def _reach(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == 28:
        return "free disk space"
    if "Max retries" in str(error) or "Connection" in str(error):
        return f"start the server at {server()}, or set MLFLOW_TRACKING_URI to the one that holds the run"
    return ""
