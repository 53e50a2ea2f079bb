"""Versions of a registered model: all of them in a request a page, with their tags."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow_aifsm.tracking.connection import client, speaking
from mlflow_aifsm.tracking.search import paged, quoted

PAGE = 1000
"""Versions of one page."""
REMEDY = "the Models page of the UI lists those that do"


def versions(name: str) -> dict[int, Mapping[str, str]]:
    """Tags of each version of a registered model by its number, ascending; empty where there is no such model.

    Raises:
        TrackingError: If MLflow cannot be reached.
    """
    wanted = f"name = {quoted(name)}"
    with speaking(f"registered model {name}"):
        found = list(paged(lambda token: client().search_model_versions(wanted, PAGE, page_token=token)))
    return {int(version.version): version.tags for version in sorted(found, key=lambda version: int(version.version))}


def version_of_alias(name: str, alias: str) -> int:
    """The number of the version that an alias points at.

    Raises:
        NotFoundError: If there is no such model or alias.
        TrackingError: If MLflow cannot be reached.
    """
    with speaking(f"registered model models:/{name}@{alias}", missing=REMEDY):
        return int(client().get_model_version_by_alias(name, alias).version)
