"""Every quantizer of a file as a row of a table, with the range that calibration found beside the range the file can hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mlflow_aifsm.capture.quantizer import ACTIVATION, Quantizer, label
from mlflow_aifsm.facts import Json

FIRST = ("tensor", "kind", "dtype", "granularity", "bits", "effective_bits")
"""Columns that stand at the left of the table, where a narrow view cuts it off."""

LAST = ("formula", "layer", "op", "symmetric", "levels", "codes_min", "codes_max", "axis", "block_size", "size", "zeros")

CALIBRATED = ("calibrated_min", "calibrated_max", "clip_fraction", "sqnr_db")
"""Columns that calibration fills."""

BESIDE = "alpha_max"
"""The column behind which they stand: the end of the range that the file can represent."""


def table(
    quantizers: Iterable[Quantizer],
    calibrated: Mapping[str, Mapping[str, Json]] | None = None,
    standing_for: Mapping[str, str] | None = None,
) -> list[dict[str, Json]]:
    """One row for each quantizer, scales summarised; ``s`` multiplies as in arXiv 2004.09602, ``scale`` divides as in ONNX.

    Args:
        quantizers: The quantizers of one file.
        calibrated: What calibration found, as `with_calibrated` takes it.
        standing_for: The tensor behind a function that a quantizer's range replaces, by the tensor before it.
    """
    rows = [_row(row, standing_for or {}) for row in quantizers]
    return rows if calibrated is None else with_calibrated(rows, calibrated)


def with_calibrated(rows: Iterable[Mapping[str, Json]], calibrated: Mapping[str, Mapping[str, Json]]) -> list[dict[str, Json]]:
    """``rows`` of `table` with calibrated range, clip fraction and SQNR beside the representable range of each activation.

    Args:
        rows: Rows of `table`; they are not changed.
        calibrated: ``calibrated_min``, ``calibrated_max`` in units of the tensor, ``clip_fraction`` in [0, 1] and ``sqnr_db``
            by name of the tensor in the float file. What it lacks, and every weight, is None.
    """
    return [_joined(row, calibrated) for row in rows]


def _joined(row: Mapping[str, Json], calibrated: Mapping[str, Mapping[str, Json]]) -> dict[str, Json]:
    named = label(row["tensor"])
    names: tuple[str, ...] = (row.get("float_tensor", named), named, row["tensor"]) if row["kind"] == ACTIVATION else ()
    found = next((calibrated[name] for name in names if name in calibrated), {})
    joined: dict[str, Json] = {}
    for name, value in row.items():
        if name not in CALIBRATED:
            joined[name] = value
        if name == BESIDE:
            joined.update({column: found.get(column) for column in CALIBRATED})
    return joined


def _row(row: Quantizer, standing_for: Mapping[str, str]) -> dict[str, Json]:
    factors = [1 / scale for scale in row.scale if scale]
    ranges = {"scale": row.scale, "zero_point": row.zero_point, "beta": row.beta, "alpha": row.alpha, "s": factors}
    spans = {f"{name}_{end.__name__}": end(values) if values else None for name, values in ranges.items() for end in (min, max)}
    last = _attributes(row, LAST) | {"float_tensor": standing_for.get(row.label, row.label)}
    return {**_attributes(row, FIRST), **spans, "scales": len(row.scale), **last}


def _attributes(row: Quantizer, names: Iterable[str]) -> dict[str, Json]:
    return {name: getattr(row, name) for name in names}
