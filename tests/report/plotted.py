"""Tables as a calibrated and quantized model gives them, of any size and with any names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from mlflow_aifsm.facts import Json
from mlflow_aifsm.record import Evidence
from tests.report import samples

Rows = tuple[dict[str, Json], ...]
BINS = 64


def names(count: int) -> list[str]:
    """Names as exporters write them."""
    return [f"/features/features.{number // 3}/conv/conv.{number % 3}/Conv_output_0" for number in range(count)]


def tables(tensors: Sequence[str]) -> dict[str, Rows]:
    """Tables of a model with these tensors; the worst six have a histogram."""
    ratios = {name: 45.0 - 17.0 * (number * 7 % 11) / 11 - 0.01 * number for number, name in enumerate(tensors)}
    worst = sorted(ratios, key=ratios.__getitem__)[:6]
    shares = [(name, number * 37 % 100 / 100) for number, name in enumerate(tensors)]
    return {
        "calibration": tuple(_calibrated(name, ratio) for name, ratio in ratios.items()),
        "layers": tuple({"tensor": name, "layer": name, "op": "Conv", "sqnr_db": ratio - 3} for name, ratio in ratios.items()),
        "distributions": tuple(row for name in worst for row in distribution(name)),
        "sparsity": tuple({"tensor": name, "size": 100, "zeros": 100 * share, "ratio": share} for name, share in shares),
    }


def _calibrated(name: str, ratio: float) -> dict[str, Json]:
    ends = {"calibrated_min": -2.5, "calibrated_max": 3.1, "observed_min": -4.0, "observed_max": 4.0}
    return {"tensor": name, "method": "entropy", **ends, "clip_fraction": 0.0012, "sqnr_db": ratio, "note": ""}


def distribution(name: str) -> Rows:
    """A bell of a hundred thousand values between -4 and 4, calibrated to [-2.5, 3.1]."""
    edges = [8 * number / BINS - 4 for number in range(BINS + 1)]
    counts = [round(1e5 * 8 / BINS * math.exp(-(edge**2))) for edge in edges[:-1]]
    ends = {"calibrated_min": -2.5, "calibrated_max": 3.1}
    bins = zip(edges, edges[1:], counts, strict=False)
    return tuple({"tensor": name, "bin_low": low, "bin_high": high, "count": count, **ends} for low, high, count in bins)


def evidence(tensors: Sequence[str]) -> Evidence:
    """A quantized model's log with these tables beside it."""
    sample = samples.optimization()
    return replace(sample, tables={**sample.tables, **tables(tensors)})
