"""Where a model comes from: a name that a person wrote, resolved to version, logged model, run and digest. Reads only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.models import Model, get_model_info

from mlflow_aifsm import config as settings
from mlflow_aifsm.capture import training_run
from mlflow_aifsm.digests import FileDigest, manifest, set_digest
from mlflow_aifsm.errors import ConfigError, InputError, NotFoundError
from mlflow_aifsm.facts import Fact
from mlflow_aifsm.tracking.connection import client, speaking
from mlflow_aifsm.tracking.read import model_folder, run

REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(/(?P<version>[^/@]+)|@(?P<alias>[^/@]+))$")
"""A registered version; the id of a logged model stands alone in its URI, and a registered name may begin alike."""
UNREGISTERED = "unregistered"
"""Id of a verified learning model that nobody registered."""


class Relation(StrEnum):
    """How what was converted relates to the files of the verified model."""

    LOADED = "the conversion loaded these files"
    SAME = "the converted module has the same parameters"
    DIFFERENT = "the converted module has other parameters"
    CHANGED = "what was converted was made of these files, and changed"
    UNSEEN = "whether they are what was converted was not seen"


@dataclass(frozen=True, slots=True)
class VerifiedModel:
    """A model of the registry, a logged model, or one of a run.

    Attributes:
        uri: The URI, aliases resolved to the version they point at.
        id: ``<Model_ID>_<Model_ID_version>``, or ``unregistered``.
        folder: Local copy of its files, or None where it was resolved without them.
        files: Digests of its files.
        model_id: MLflow's logged model (``m-…``), if it is one.
        run_id: The run that logged it.
        flavors: MLflow's flavors of it.
        relation: How what is converted relates to its files.
        named_by: The file or variable whose setting named it; empty where the call did.
    """

    uri: str
    id: str
    folder: Path | None = None
    files: tuple[FileDigest, ...] = ()
    model_id: str = ""
    run_id: str = ""
    flavors: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    relation: Relation = Relation.UNSEEN
    named_by: str = ""

    @property
    def sha256(self) -> str:
        """Digest of its file set; empty where the files were not fetched."""
        return set_digest(self.files) if self.files else ""


def named(model: str | None) -> VerifiedModel | None:
    """The verified model that a caller names: by URI, resolved; by id, where it is not in MLflow; or None.

    Raises:
        NotFoundError: If the URI names no model.
    """
    if not model:
        return None
    return resolve(model) if ":/" in model else VerifiedModel("", model)


def of_project() -> VerifiedModel | None:
    """The verified model that the settings name, for a call that names none and holds none; None if they name none either.

    Raises:
        ConfigError: If what they name does not exist.
    """
    config = settings.load()
    origin = config.origin_of("verified_model")
    try:
        model = named(config.verified_model)
    except (InputError, NotFoundError) as error:
        raise ConfigError(f"verified_model in {origin}: {error.what}", remedy=error.remedy) from error
    return None if model is None else replace(model, named_by=origin)


def resolve(uri: str) -> VerifiedModel:
    """The model behind ``models:/name/version``, ``models:/name@alias``, ``models:/m-…`` or ``runs:/…/path``, files included.

    Raises:
        InputError: If the URI has another form.
        NotFoundError: If there is no such model.
        TrackingError: If MLflow cannot be reached.
    """
    if not uri.startswith(("models:/", "runs:/")):
        raise InputError(f"model URI '{uri}'", expected="models:/<name>/<version> or runs:/<run id>/<path>")
    exact, identity = _exact(uri)
    folder = model_folder(exact)
    with speaking(f"model {uri}", missing="the Models page of the UI lists those that do"):
        info = get_model_info(str(folder))
    return VerifiedModel(
        exact, identity, folder, manifest(folder), str(info.model_id or ""), str(info.run_id or ""), info.flavors or {}
    )


def _exact(uri: str) -> tuple[str, str]:
    """URI with the version that a name or an alias stands for, and the verified learning model id."""
    match = REGISTERED.match(uri)
    if match is None:
        return uri, UNREGISTERED
    name, version, alias = match["name"], match["version"], match["alias"]
    with speaking(f"registered model {uri}", missing="register it with mlflow.register_model, or name another"):
        if alias:
            version = client().get_model_version_by_alias(name, alias).version
        elif not version.isdigit():
            version = _latest(name, version)
        else:
            client().get_model_version(name, version)
    return f"models:/{name}/{version}", f"{name}_{version}"


def _latest(name: str, word: str) -> str:
    if word != "latest":
        raise InputError(f"version '{word}' of registered model {name}", expected="a number, or an alias as models:/name@alias")
    versions = [int(found.version) for found in client().search_model_versions(f"name = '{name}'", max_results=1000)]
    if not versions:
        raise NotFoundError(f"registered model {name} does not exist", remedy="register it with mlflow.register_model")
    return str(max(versions))


def data_sets(run: Run) -> Sequence[Mapping[str, str]]:
    """Data sets that a run lists as its inputs: name, digest, context."""
    listed = run.inputs.dataset_inputs if run.inputs else []
    return [
        {
            "name": used.dataset.name,
            "digest": used.dataset.digest,
            "context": next((tag.value for tag in used.tags if tag.key == "mlflow.data.context"), ""),
        }
        for used in listed
    ]


def training_facts(model: VerifiedModel) -> list[Fact]:
    """What the run that logged ``model`` tells about its training; empty where no run is known or it is gone."""
    if not model.run_id:
        return []
    try:
        found = run(model.run_id)
    except NotFoundError:
        return []
    trained_with = next((f"{name} {entry.get(f'{name}_version', '')}".strip() for name, entry in _frameworks(model)), "")
    return training_run.facts(
        model.run_id, found.data.params, found.data.metrics, found.data.tags, data_sets(found), flavor=trained_with
    )


def _frameworks(model: VerifiedModel) -> list[tuple[str, Mapping[str, object]]]:
    return [(name, entry) for name, entry in model.flavors.items() if f"{name}_version" in entry]


def input_example(model: VerifiedModel) -> Any:
    """The input example that was logged with ``model``, or None."""
    return Model.load(str(model.folder)).load_input_example(str(model.folder)) if model.folder else None
