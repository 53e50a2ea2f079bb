"""Whether the model that is converted is the model that was verified.

Verification of the learning model happens before a conversion, elsewhere. A person who declares it stamps the digest of the
verified files onto the registered version; each conversion from that version compares what it loaded with the stamp (Automotive
SPICE 4.0 MLE.4 BP4, BP6; EASA Concept Paper CM-01).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from mlflow.entities.model_registry import ModelVersion

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact, Finding, Source, State, Value, not_recorded
from mlflow_aifsm.lineage import REGISTERED, UNREGISTERED, Relation, VerifiedModel, resolve
from mlflow_aifsm.tracking.connection import client, speaking
from mlflow_aifsm.tracking.keys import TAG_LIMIT
from mlflow_aifsm.tracking.write import version_tags

EVIDENCE, BY, AT, SHA256 = (f"aifsm.verified{part}" for part in ("", "_by", "_at", "_sha256"))
"""Tags of a registered version that was declared verified."""
HISTORY = "aifsm.verified_history"
"""Tag that keeps the stamps that a later one replaced: a JSON object a line, oldest first."""


def is_version(target: str) -> bool:
    """Whether ``target`` names a registered version or an alias, and not a logged model, a run or a file."""
    return REGISTERED.match(target) is not None


def stamp(target: str, evidence: str, by: str) -> VerifiedModel:
    """Declares that a registered version passed its verification, and stamps the digest of its files onto it.

    A stamp that is there already moves to ``aifsm.verified_history``; the oldest go where a tag cannot hold all.

    Args:
        target: ``models:/<name>/<version>`` or ``models:/<name>@<alias>``.
        evidence: Where the verification is documented: a URI or a document id.
        by: Name of the person who declares it.

    Returns:
        The model as it was stamped.

    Raises:
        InputError: If ``target`` is no registered version, or has been stamped with another digest already.
        NotFoundError: If there is no such version.
        TrackingError: If MLflow cannot be reached.
    """
    if not is_version(target):
        raise InputError(f"'{target}' cannot be declared verified", expected="models:/<name>/<version>")
    model = resolve(target)
    tags = _version(model).tags
    older = tags.get(SHA256, model.sha256)
    if older != model.sha256:
        raise InputError(
            f"{model.uri} was verified with other bytes",
            got=model.sha256,
            expected=older,
            remedy="register these as a new version",
        )
    name, version = _parts(model)
    at = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    # the older stamp is kept before it is replaced
    version_tags(name, version, {**_history(tags), EVIDENCE: evidence, BY: by, AT: at, SHA256: model.sha256})
    return model


def _history(tags: Mapping[str, str]) -> dict[str, str]:
    replaced = {key.removeprefix("aifsm."): tags[key] for key in (EVIDENCE, BY, AT, SHA256) if key in tags}
    if not replaced:
        return {}
    lines = [*tags.get(HISTORY, "").splitlines(), json.dumps(replaced)]
    while len("\n".join(lines)) > TAG_LIMIT:
        lines.pop(0)
    return {HISTORY: "\n".join(lines)}


def verified(model: VerifiedModel) -> Fact | None:
    """Who declared ``model`` verified, and whether its bytes are still those; None where it is no registered version.

    Raises:
        TrackingError: If MLflow cannot be reached.
    """
    if model.id == UNREGISTERED or not model.uri or not is_version(model.uri):
        return None
    tags, other = _version(model).tags, _other(model)
    if EVIDENCE not in tags:
        remedy = f"mlflow-aifsm declare {model.uri} verified='URI of the verification' --by 'NAME'"
        return not_recorded("input.verified", f"nobody declared that {model.uri} passed its verification", remedy, other)
    same = tags.get(SHA256) == model.sha256
    text = f"Verified: {tags[EVIDENCE]}; the digest of the registered files {'agrees' if same else 'differs'}; {model.relation}"
    changed = Finding(
        "input_changed_after_verification",
        asked=f"sha256 {tags.get(SHA256, 'unknown')}",
        measured=f"sha256 {model.sha256}",
        effect="what was converted is not what was verified",
    )
    source = Source(f"registered model {model.uri}", tags.get(BY, ""), tags.get(AT, ""))
    return Fact("input.verified", State.DECLARED, Value(text, dict(tags)), source, (*other, *(() if same else (changed,))))


def changed(given: Fact, how: str) -> Fact:
    """``input.id`` with the finding that the model was changed after it was verified.

    Args:
        given: The fact.
        how: What changed it: a pruning, a training.
    """
    effect = "the verification of the model that is named says nothing about what was converted: verify the outcome"
    finding = Finding("changed_after_verification", asked="the model as it was verified", measured=how, effect=effect)
    return replace(given, findings=(*given.findings, finding))


def related(given: Fact, model: VerifiedModel) -> Fact:
    """``input.id`` of an optimization, with what is known of how its input relates to the files of ``model``.

    Args:
        given: The fact.
        model: The verified model that it names.
    """
    if model.id == UNREGISTERED or not model.uri:
        return given
    source = replace(given.source, origin=f"{given.source.origin}; {_OPTIMIZED[model.relation]}")
    return replace(given, source=source, findings=(*given.findings, *_other(model)))


_OPTIMIZED = {
    Relation.LOADED: "these files were optimized",
    Relation.SAME: "what was optimized has the same parameters",
    Relation.DIFFERENT: "what was optimized has other parameters",
    Relation.CHANGED: "what was optimized was made of these files, and changed",
    Relation.UNSEEN: "whether it is what was optimized was not seen",
}


def _other(model: VerifiedModel) -> tuple[Finding, ...]:
    if model.relation is not Relation.DIFFERENT:
        return ()
    effect = "what went in is not the model that is named as verified"
    effect += f" by {model.named_by}: name the one that it is with verified_model=" if model.named_by else ""
    return (
        Finding("input_is_another_model", asked=f"the parameters of {model.uri}", measured="other parameters", effect=effect),
    )


def _version(model: VerifiedModel) -> ModelVersion:
    with speaking(f"registered model {model.uri}", missing="register it with mlflow.register_model"):
        return client().get_model_version(*_parts(model))


def _parts(model: VerifiedModel) -> tuple[str, str]:
    match = REGISTERED.match(model.uri)
    if match is None or match["version"] is None:
        raise InputError(f"'{model.uri}'", expected="models:/<name>/<version>")
    return match["name"], match["version"]
