"""What goes into a recorded call, compared with the verified model that is named, as far as both can be read.

The name may come from a setting of the whole project, and a script may work on another model: that must be seen in its log.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mlflow_aifsm import identity
from mlflow_aifsm.capture.canonical import canonical_digest
from mlflow_aifsm.hooks.external import ExternalRecording
from mlflow_aifsm.lineage import Relation, VerifiedModel


def take_module(log: ExternalRecording, module: object, sha256: str) -> None:
    """Tells a log which module goes in.

    Args:
        log: The log.
        module: The module.
        sha256: Digest of its parameters and buffers; empty where it has none that can be read.
    """
    log.input((), sha256, source=f"parameters and buffers of {type(module).__name__}" if sha256 else "")


def converted_module(log: ExternalRecording, sha256: str, *, changed: str) -> None:
    """Tells a conversion log how the module with that digest relates to the verified model.

    Args:
        log: The log.
        sha256: Digest of the module's parameters and buffers; empty where it has none that can be read.
        changed: What changed the module since it was verified; empty for nothing.
    """
    if log.verified is not None and log.verified.sha256:
        related = _of_module(log.verified, sha256)
        log.verified = replace(related, relation=Relation.CHANGED) if changed else related
        log.add(*filter(None, [identity.verified(log.verified)]))
    if changed and (given := log.facts.get("input.id")) is not None:
        log.add(identity.changed(given, changed))


def optimized_module(log: ExternalRecording, sha256: str) -> None:
    """Tells an optimization log how the module with that digest relates to the verified model."""
    if log.verified is not None and log.verified.sha256:
        _tell(log, _of_module(log.verified, sha256))


def optimized_file(log: ExternalRecording, given: Path) -> None:
    """Tells an optimization log how the graph that goes in relates to the verified model."""
    if log.verified is not None and log.verified.sha256:
        _tell(log, _of_file(log.verified, given))


def _tell(log: ExternalRecording, related: VerifiedModel) -> None:
    log.verified = related
    if (fact := log.facts.get("input.id")) is not None:
        log.add(identity.related(fact, related))


def _of_module(verified: VerifiedModel, sha256: str) -> VerifiedModel:
    # PyTorch takes seconds to import, and an ONNX graph does not need it
    from mlflow_aifsm.operations.sources import related

    return related(verified, sha256) if sha256 else verified


def _of_file(verified: VerifiedModel, given: Path) -> VerifiedModel:
    """An ONNX model is compared by what it computes: a graph in memory has other bytes than the file that it was read from."""
    entry = verified.flavors.get("onnx")
    if entry is None or verified.folder is None:
        return verified
    same = canonical_digest(verified.folder / str(entry["data"])) == canonical_digest(given)
    return replace(verified, relation=Relation.SAME if same else Relation.DIFFERENT)
