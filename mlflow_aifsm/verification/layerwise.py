"""How far a quantized ONNX file departs from the float one at each tensor it quantizes: where the error arises.

Both run as they are written, on the same samples. The codes of the quantized file are dequantized here, by its own scale and
zero point, so QDQ graphs and graphs of operators that compute on codes (QLinear…) are read alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from mlflow_aifsm.capture import quantizers
from mlflow_aifsm.capture.onnx_graph import OnnxFile, inputs_outputs, opened
from mlflow_aifsm.capture.quantizer import ACTIVATION, Quantizer
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact, Json, captured, not_recorded
from mlflow_aifsm.samples import Batch, Samples
from mlflow_aifsm.sources import Array
from mlflow_aifsm.verification.augmented import AugmentedSession
from mlflow_aifsm.verification.distance import decibels
from mlflow_aifsm.verification.outputs import paired_inputs

BATCH = 4
"""Samples run at a time: all quantized tensors of a batch are held, of both models."""
CODES = frozenset({"int8", "uint8", "int16", "uint16"})
"""Types of codes that the runtime hands out as arrays."""
FOLDED = frozenset({"Relu", "Clip"})
"""Operators that a quantizer may take over by its range, so that the quantized graph has none."""
RENAMED = "_QuantizeLinear_Input"
"""What ONNX Runtime's quantizer adds to the float name of an output of the graph."""
EQUAL = "inf"
"""Ratio of a tensor that does not differ; JSON has no infinite number."""
WORST = 3
"""Tensors that the fact names."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """A quantizer, the tensor that holds its codes, and the float graph's tensor that these stand for."""

    row: Quantizer
    codes: str
    original: str


def layer_sqnr(candidate: Path, reference: Path, samples: Samples, most: int = 32) -> list[dict[str, Json]]:
    """Signal to quantization noise ratio at each quantized activation, all errors of the layers before it included.

    10·log10(Σ x² / Σ (x − x̂)²), x being the float model's tensor and x̂ that of the quantized one. Where a Relu or Clip of the
    float graph is missing in the quantized one, x is what it gives: its quantizer has taken its place.

    Args:
        candidate: The quantized file.
        reference: The float file it was made from, its tensors under the names they had.
        samples: Samples as the model takes them.
        most: Samples that are read; of a model with a fixed batch, whole batches of them.

    Returns:
        ``tensor`` (its name in the float graph), ``layer`` and ``op`` (the first that uses it in the quantized file) and
        ``sqnr_db``, in the order of the graph. ``sqnr_db`` is ``inf``, as a text, where nothing differs, and None where it
        cannot be told: no such tensor in the float graph, codes below 8 bits, several scales, no signal. A range that is
        computed at run time has no row.

    Raises:
        InputError: If a file cannot be read, the two have no inputs in common, or there are no samples.
    """
    new, old = opened(candidate), opened(reference)
    rows = _activations(quantizers.read(new))
    pairs = {pair.row.tensor: pair for pair in _pairs(rows, new, old)}
    found = _measured(candidate, reference, list(pairs.values()), samples.first(most)) if pairs else {}
    return [_told(row, pairs.get(row.tensor), found) for row in rows]


def layer_facts(rows: Sequence[Mapping[str, Json]]) -> Fact:
    """``verification.layer_sqnr``: the tensors with the lowest SQNR, and the median of all.

    Args:
        rows: What ``layer_sqnr`` returned.
    """
    known = sorted((row for row in rows if row["sqnr_db"] is not None), key=lambda row: float(row["sqnr_db"]))
    if not known:
        reason = (
            f"none of {len(rows)} quantized activations has a counterpart in the float graph" if rows else "none is quantized"
        )
        return not_recorded("verification.layer_sqnr", reason)
    middle = median(float(row["sqnr_db"]) for row in known)
    worst = known[:WORST]
    named = ", ".join(f"{row['tensor']} {float(row['sqnr_db']):.1f} dB" for row in worst)
    left = f" ({len(rows) - len(known)} more could not be compared)" if len(known) < len(rows) else ""
    text = f"Lowest at {named}; median {middle:.1f} dB of {len(known)} quantized tensors{left}"
    data = {"worst": [dict(row) for row in worst], "median_db": middle, "compared": len(known), "tensors": len(rows)}
    source = "both models on ONNX Runtime, graph optimizations off"
    return captured("verification.layer_sqnr", text, data, source=source, short=f"{float(worst[0]['sqnr_db']):.1f} dB")


def _activations(rows: Sequence[Quantizer]) -> tuple[Quantizer, ...]:
    """Activations with a stored scale, each tensor once."""
    found: dict[str, Quantizer] = {}
    for row in rows:
        if row.kind == ACTIVATION and not row.dynamic:
            found.setdefault(row.tensor, row)
    return tuple(found.values())


def _pairs(rows: Sequence[Quantizer], new: OnnxFile, old: OnnxFile) -> Iterator[_Pair]:
    graph = new.scopes[0]
    made = {node.input[0]: node.output[0] for node in reversed(graph.nodes) if node.op_type == "QuantizeLinear"}
    present = {*graph.producers, *(row.label for row in rows)}
    for row in rows:
        codes = made.get(row.tensor, row.tensor)
        original = _original(row.label, old, present)
        if original and codes in graph.producers and row.dtype in CODES and len(row.scale) == 1:
            yield _Pair(row, codes, original)


def _original(label: str, old: OnnxFile, present: set[str]) -> str:
    """The float graph's tensor that the quantizer of ``label`` stands for; empty if it has none."""
    fed = {row["name"] for row in inputs_outputs(old)[0]}
    name = next((name for name in (label, label.removesuffix(RENAMED)) if name in old.scopes[0].producers or name in fed), "")
    users = old.scopes[0].used_by(name) if name else []
    if len(users) == 1 and users[0].op_type in FOLDED and users[0].output[0] not in present:
        return str(users[0].output[0])
    return name


def _measured(candidate: Path, reference: Path, pairs: Sequence[_Pair], samples: Samples) -> dict[str, float | None]:
    """SQNR in dB by tensor of the candidate."""
    new = AugmentedSession(candidate, [pair.codes for pair in pairs])
    old = AugmentedSession(reference, [pair.original for pair in pairs])
    powers = {pair.row.tensor: np.zeros(2) for pair in pairs}
    inputs, size = paired_inputs(new, old), new.fixed_batch or BATCH
    count = 0
    for batch, _ in samples.batches(size, list(inputs), new.ranks):
        if new.fixed_batch and len(next(iter(batch.values()))) < size:
            break
        codes, expected = new.run(batch), old.run({there: batch[here] for here, there in inputs.items()})
        _add_up(powers, pairs, codes, expected)
        count += 1
    if not count:
        raise InputError("the data hold no whole batch", expected=f"at least {new.fixed_batch or 1} samples")
    return {name: decibels(*power.tolist()) for name, power in powers.items()}


def _add_up(powers: Mapping[str, Array], pairs: Sequence[_Pair], codes: Batch, expected: Batch) -> None:
    for pair in pairs:
        original = expected[pair.original].astype(np.float64)
        noise = original - _dequantized(codes[pair.codes], pair.row).reshape(original.shape)
        powers[pair.row.tensor] += np.square(original).sum(), np.square(noise).sum()


def _dequantized(codes: Array, row: Quantizer) -> Array:
    return np.asarray((codes.astype(np.float64) - row.zero_point[0]) * row.scale[0])


def _told(row: Quantizer, pair: _Pair | None, found: Mapping[str, float | None]) -> dict[str, Json]:
    ratio = found.get(row.tensor)
    known = None if ratio is None or math.isnan(ratio) else ratio if math.isfinite(ratio) else EQUAL
    return {"tensor": pair.original if pair else row.label, "layer": row.layer, "op": row.op, "sqnr_db": known}
