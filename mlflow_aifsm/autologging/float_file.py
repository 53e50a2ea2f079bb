"""What goes into a quantization of an ONNX graph, as a file of its own: the call may change what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from mlflow_aifsm import scratch
from mlflow_aifsm.autologging import compared
from mlflow_aifsm.autologging.watched import Watched
from mlflow_aifsm.capture import frozen
from mlflow_aifsm.capture.canonical import canonical_digest
from mlflow_aifsm.capture.onnx_graph import inputs_outputs, opened
from mlflow_aifsm.digests import set_digest
from mlflow_aifsm.facts import captured
from mlflow_aifsm.hooks.external import ExternalRecording
from mlflow_aifsm.operations import delivery
from mlflow_aifsm.operations.float_model import FloatModel
from mlflow_aifsm.operations.start import Start
from mlflow_aifsm.recording import Recording
from mlflow_aifsm.tracking import read
from mlflow_aifsm.tracking.keys import tag

CANONICAL = "graph.canonical_digest"
LARGEST = 2**31 - 2**20
"""Bytes from which on a graph does not fit into one file."""


@dataclass(frozen=True, slots=True)
class FloatFile:
    """The float model of a call.

    Attributes:
        path: The file.
        start: What an optimization starts from.
        ranks: Number of axes of each input, batch axis included, in the order of the graph.
    """

    path: Path
    start: Start
    ranks: Mapping[str, int]

    @staticmethod
    def of(model: Any, output: Any = None) -> FloatFile:
        """The file behind an argument.

        Args:
            model: An ``onnx.ModelProto``, which is written to a file, or a path.
            output: Where the call will write; a file that it would replace is copied.

        Raises:
            InputError: If it is no ONNX model.
        """
        path = written(model) if isinstance(model, onnx.ModelProto) else Path(model)
        if output is not None and Path(output).resolve() == path.resolve():
            path = frozen.copied(path, scratch.folder())
        file = opened(path)
        ranks = {str(one["name"]): len(one["shape"]) for one in inputs_outputs(file)[0]}
        return FloatFile(path, Start(FloatModel(path, file.files, None), sha256=set_digest(file.files)), ranks)

    def watched(self, source: Any, *, hold: bool = False) -> Watched:
        """Samples for the inputs of the file that a tool will read from ``source``."""
        return Watched(source, tuple(self.ranks), self.ranks, hold=hold)

    def enter(self, log: ExternalRecording) -> None:
        """Tells the log what goes in: which conversion of the same run made it, else how it relates to the verified model."""
        delivery.take(log, self.start)
        made_by = _conversion(_run(log), self)
        if not made_by:
            compared.optimized_file(log, self.path)
        else:
            log.add(captured("input.id", made_by, source="conversion log of the same run, by the digest of its file"))


def written(model: onnx.ModelProto) -> Path:
    """``model`` in a file of its own; the caller's object, whose weights ``onnx.save`` may move elsewhere, stays as it is."""
    path = scratch.folder() / "model.onnx"
    if model.ByteSize() < LARGEST:
        path.write_bytes(model.SerializeToString())
        return path
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    onnx.save(copy, path, save_as_external_data=True, location=f"{path.name}.data")
    return path


def remember(log: Recording) -> None:
    """Notes which log made the file that ``log`` measured, so that a graph read from it is known again."""
    made = log.facts.get(CANONICAL)
    if made is not None:
        _made[_run(log), str(made.value.data)] = log.log_id


def _run(log: Recording) -> str:
    """The run of the script: a log that found another one there stands in a child of it."""
    return log.place.parent or log.place.run_id


def _conversion(run_id: str, given: FloatFile) -> str:
    """Id of the conversion log of that run whose file is the one that is given; empty if there is none.

    A graph that was read into memory and written again has other bytes where its weights lay beside it; what it computes is
    the same, and so is its canonical digest.
    """
    tags = read.run(run_id).data.tags
    if tags.get(tag("conversion", "output_sha256")) == given.start.sha256:
        return str(tags.get(tag("conversion", "log_id"), ""))
    if not any(run == run_id for run, _ in tuple(_made)):
        return ""
    return _made.get((run_id, canonical_digest(given.path)), "")


_made: dict[tuple[str, str], str] = {}
