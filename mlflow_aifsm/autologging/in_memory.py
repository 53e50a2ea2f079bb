"""Modules that recorded calls changed in memory, so that an export of one is known as that of a changed model.

A module is known again by the digest of its parameters and buffers. ``nncf.strip`` rounds the weights and replaces the
quantizers; it leaves their places, biases and statistics, and by these its outcome is known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from mlflow_aifsm.backends.fake_quantized import STORAGE, quantizers
from mlflow_aifsm.capture.onnx_graph import file_set
from mlflow_aifsm.digests import set_digest
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact
from mlflow_aifsm.hooks.external import ExternalRecording
from mlflow_aifsm.record import Record
from mlflow_aifsm.tracking.write import UsedData

VECTOR = 1
"""Axes of what ``nncf.strip`` leaves as it is: biases and statistics."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A module as a recorded call left it.

    Attributes:
        function: The function that changed it.
        quantized: Whether it quantized: an export of it is the file of an optimization then.
        record: Record of its log.
        facts: What the log knows of the making.
        data: The data sets that it used.
        uri: URI or id of the verified model of the log; empty if none was named.
    """

    function: str
    quantized: bool
    record: Record
    facts: tuple[Fact, ...]
    data: tuple[UsedData, ...]
    uri: str

    @property
    def how(self) -> str:
        """What changed the model, one phrase."""
        return f"changed by {self.function}, optimization log {self.record.log_id}"


def remember(log: ExternalRecording, module: nn.Module, sha256: str, function: str, facts: Sequence[str]) -> None:
    """Notes what a recorded call left in memory; its log is finished.

    Args:
        log: Its log.
        module: What it left.
        sha256: Digest of its parameters and buffers, as the call left them.
        function: The function.
        facts: Names of the facts that hold for a file that is made of it; none where it makes no log of its own.
    """
    known = tuple(fact for name in facts if (fact := log.facts.get(name)) is not None)
    uri = (log.verified.uri or log.verified.id) if log.verified else ""
    made = Changed(function, bool(facts), log.finished.record, known, log.used_data, uri)
    if sha256 != log.input_sha256:
        _known[sha256] = made
    if _places(module):
        _marked.setdefault(_mark(module), {})[sha256] = made


def found(module: object, sha256: str) -> Changed | None:
    """The call that left ``module`` as it is; None if none was recorded, or several of them could have.

    Args:
        module: What is exported.
        sha256: Digest of its parameters and buffers.
    """
    if sha256 in _known:
        return _known[sha256]
    alike = _alike(module)
    return alike[0] if len(alike) == 1 else None


def unrecorded(module: object) -> str:
    """What changed a module that holds hooks of NNCF, and that no recorded call is known to have left; else empty."""
    places, alike = _places(module) if isinstance(module, nn.Module) else (), _alike(module)
    if alike:
        logs = ", ".join(made.record.log_id for made in alike)
        return f"changed by NNCF in one of {len(alike)} recorded calls that cannot be told apart, optimization logs {logs}"
    hooks = f"{len(places)} of its hooks in it"
    return f"changed by NNCF, and left so by no call that was recorded: {hooks}" if places else ""


def _alike(module: object) -> list[Changed]:
    """Calls whose outcome, stripped, has the same places, biases and statistics: several, where a model was quantized twice.

    A module with quantizers of NNCF is not stripped: its digest tells whether it was trained since.
    """
    if not isinstance(module, nn.Module) or not _places(module) or quantizers(module):
        return []
    return [*_marked.get(_mark(module), {}).values()]


def exported(sha256: str, path: Path, digest: str) -> None:
    """Notes which file a module was exported to, so that a quantized one is compared with it.

    Args:
        sha256: Digest of the module's parameters and buffers.
        path: The file.
        digest: SHA-256 of the file with what lies beside it.
    """
    _files[sha256] = (path.resolve(), digest)


def float_file(sha256: str) -> Path | None:
    """The file that the module with that digest was exported to, as long as it stands unchanged."""
    path, digest = _files.get(sha256, (None, ""))
    try:
        return path if path is not None and set_digest(file_set(path)) == digest else None
    except (InputError, OSError):
        return None


def _places(module: nn.Module) -> tuple[str, ...]:
    """Where hooks of NNCF stand in ``module``, as its state names them."""
    held = {name.removeprefix(STORAGE).rpartition("__")[0] for name in module.state_dict() if name.startswith(STORAGE)}
    return tuple(sorted(held))


def _mark(module: nn.Module) -> str:
    """Digest of what ``nncf.strip`` leaves as it is."""
    digest = hashlib.sha256("\0".join(_places(module)).encode())
    for name, value in sorted(module.state_dict().items()):
        if not name.startswith(STORAGE) and isinstance(value, torch.Tensor) and value.dim() <= VECTOR:
            digest.update(f"{name}\0{value.dtype}\0".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


_known: dict[str, Changed] = {}
_marked: dict[str, dict[str, Changed]] = {}
_files: dict[str, tuple[Path, str]] = {}
