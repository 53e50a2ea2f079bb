"""All that a delivered file tells of itself, measured in one pass: graph, quantizers, zeros, what the runtime does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_aifsm.capture import (
    graph_facts,
    non_linearities,
    onnx_graph,
    pruning_patterns,
    quantizer_facts,
    quantizer_table,
    quantizers,
    sparsity,
    workload,
)
from mlflow_aifsm.capture.file_kind import FileKind, kind_of
from mlflow_aifsm.capture.layer_weights import layer_weights
from mlflow_aifsm.capture.onnx_graph import OnnxFile
from mlflow_aifsm.capture.quantizer import Quantizer
from mlflow_aifsm.digests import FileDigest, set_digest
from mlflow_aifsm.facts import Fact, Json
from mlflow_aifsm.verification import integer_execution


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured on one file.

    Attributes:
        facts: All measured facts; reading the file again gives the same.
        files: Digests of the file and its external data.
        sha256: One digest for the whole file set.
        tables: Rows by table name: ``quantizers`` and ``sparsity``.
    """

    facts: tuple[Fact, ...]
    files: tuple[FileDigest, ...]
    sha256: str
    tables: Mapping[str, tuple[Mapping[str, Json], ...]] = field(default_factory=dict)


def measure(path: Path, against: Path | None = None, *, pruning_logged: bool = False) -> Measurement:
    """Everything that can be read from the frozen file at ``path``; nothing is run on data, and nothing is unpickled.

    Args:
        path: The delivered file: ONNX, its external data beside it, pt2, or TorchScript.
        against: The float ONNX file it was made from, to find activation functions that were lost and to recompute the codes of
            each weight.
        pruning_logged: Whether a pruning step is on record, so that zeros are expected, and files are compressed.

    Raises:
        InputError: If a file is missing, damaged, hostile, or no frozen model.
    """
    kind = kind_of(Path(path))
    return _onnx(Path(path), against, pruning_logged=pruning_logged) if kind is FileKind.ONNX else _torch(Path(path), kind)


def _onnx(path: Path, against: Path | None, *, pruning_logged: bool) -> Measurement:
    file, before = onnx_graph.opened(path), None if against is None else onnx_graph.opened(against)
    rows = quantizers.read(file)
    zeros = sparsity.read_zeros(file, rows, before)
    times = _uses(file, rows, before)
    facts = (
        *graph_facts.facts(file),
        *quantizer_facts.facts(file, before, rows),
        sparsity.ratio(file, zeros),
        pruning_patterns.pruning_patterns(file, zeros, pruning_logged=pruning_logged),
        *workload.facts(file, zeros, times, before, pruning_logged=pruning_logged),
        *integer_execution.facts(file),
    )
    names = {} if before is None else non_linearities.standing_for(file, before)
    shares = zip(zeros, sparsity.table(zeros), strict=True)
    tables = {
        "quantizers": tuple(quantizer_table.table(rows, standing_for=names)),
        "sparsity": tuple({**columns, **workload.columns(row, times)} for row, columns in shares),
    }
    return Measurement(facts, file.files, set_digest(file.files), tables)


def _uses(file: OnnxFile, rows: tuple[Quantizer, ...], before: OnnxFile | None) -> dict[str, int]:
    """How often weights are multiplied; a runtime's own operators tell no shape, and the float file's layers have the same."""
    known = {} if before is None else workload.uses(before, layer_weights(before))
    return {**known, **workload.uses(file, layer_weights(file, rows))}


def _torch(path: Path, kind: FileKind) -> Measurement:
    # PyTorch takes seconds to import, and an ONNX file does not need it
    from mlflow_aifsm.capture import pt2_facts, pt2_file, torchscript_file

    if kind is FileKind.PT2:
        program = pt2_file.opened(path)
        return Measurement(tuple(pt2_facts.facts(program)), program.files, set_digest(program.files))
    script = torchscript_file.opened(path)
    return Measurement(tuple(torchscript_file.facts(script)), script.files, set_digest(script.files))
