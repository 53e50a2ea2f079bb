"""Changed decisions among the samples that the float model decided narrowly.

Quantization moves decisions where the two best scores lie close together (Hu et al. 2022, "Characterizing and Understanding
the Behavior of Quantized Models for Reliable Deployment", arXiv 2204.04220). A change among the others is another matter: no
rounding explains it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from mlflow_aifsm.sources import Array
from mlflow_aifsm.verification.decisions import class_of

SHARE = 10
"""One sample in so many counts as narrowly decided."""
FEWEST = 10
"""Narrowly decided samples, where there are so many samples."""


def margin_of(outputs: Mapping[str, Array]) -> Array | None:
    """Difference of the two largest class scores of each sample, float32 ``[n]``; None where there are no class scores."""
    if class_of(outputs) is None:
        return None
    largest = np.partition(next(iter(outputs.values())).astype(np.float32), -2, axis=-1)
    return np.asarray(largest[:, -1] - largest[:, -2])


def low_margin(margins: Array, changed: Array) -> dict[str, float]:
    """How many decisions changed among the tenth of the samples with the smallest margins, and how many among the others.

    Args:
        margins: Margin of each sample in the reference, ``[n]``.
        changed: Whether its decision changed, bool ``[n]``.

    Returns:
        ``low_margin_samples`` (at least 10, where there are so many), ``low_margin``, the largest margin among them in output
        units, ``low_margin_flips`` and ``other_flips``; empty where a score was NaN or the margin is infinite.
    """
    count = min(len(margins), max(math.ceil(len(margins) / SHARE), FEWEST))
    order = np.argsort(margins, kind="stable")
    largest = float(margins[order[count - 1]])
    if np.isnan(margins).any() or math.isinf(largest):
        return {}
    flips = int(np.count_nonzero(changed[order[:count]]))
    others = int(np.count_nonzero(changed)) - flips
    return {"low_margin_samples": count, "low_margin": largest, "low_margin_flips": flips, "other_flips": others}
