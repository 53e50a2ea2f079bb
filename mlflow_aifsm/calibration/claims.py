"""Which estimator the ranges of a file really are, whatever its quantizer was asked for.

ONNX Runtime's ``quantize_static`` is asked for entropy and calibrates by minimum and maximum: its default leaves the search a
single candidate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from mlflow_aifsm.calibration.estimators import Range, percentile
from mlflow_aifsm.calibration.observer import Observation
from mlflow_aifsm.calibration.statistics import Grid, TensorStatistics
from mlflow_aifsm.facts import Finding

NONE = "none"
_SHARE = 0.9
"""Part of the tensors that tells a method; some get the range of a tensor beside them, because an operator joins the two."""


ORT_PERCENTILE = 99.999
"""What ONNX Runtime's percentile calibration keeps; ``quantize_static`` passes no other."""


def recognised(
    observation: Observation, ranges: Mapping[str, Range], steps: Mapping[str, float], method: str = ""
) -> Counter[str]:
    """How many tensors have, within one quantization step at either end, the range of each estimator that needs no search.

    Args:
        observation: Statistics on the same calibration samples.
        ranges: What the file represents, β to α by tensor; tensors that were not observed are left out.
        steps: The scale of each.
        method: The claimed method. A percentile is looked for if it is that one: of few values it is their extremes.

    Returns:
        Tensors by ``min_max``, ``max_abs``, ``mean_min_max``, each as often as it fits, and ``none`` for those that none fits.
    """
    found: Counter[str] = Counter()
    for name in ranges.keys() & observation.tensors.keys():
        fitting = [
            candidate
            for candidate, ends in _candidates(observation.tensors[name], method).items()
            if any(_near(ranges[name], one, steps[name]) for one in ends)
        ]
        found.update(fitting or [NONE])
    return found


def claimed(method: str, recognised: Mapping[str, int], total: int) -> Finding | None:
    """The finding that nine tenths of the ranges are another method's than the claimed one; None if they are not.

    Args:
        method: The claimed method, a word of ``estimators.ESTIMATORS``.
        recognised: What ``recognised`` found.
        total: Number of tensors it looked at.
    """
    others = {other: count for other, count in recognised.items() if other not in {method, NONE}}
    other = max(others, key=lambda name: (others[name], name), default=NONE)
    count = others.get(other, 0)
    if not total or count < _SHARE * total or count <= recognised.get(method, 0):
        return None
    measured = f"{count} of {total} ranges are {other} within one quantization step"
    effect = f"the ranges are those of {other}; the claimed method did not set them"
    return Finding("calibration_not_as_claimed", asked=method, measured=measured, effect=effect)


def _candidates(statistics: TensorStatistics, method: str) -> dict[str, list[Range]]:
    """The range of each method, and what a symmetric type makes of it; for the largest magnitude that is its own range."""
    usual = {
        "min_max": (min(statistics.low, 0.0), max(statistics.high, 0.0)),
        "mean_min_max": (min(statistics.mean_low, 0.0), max(statistics.mean_high, 0.0)),
    }
    if method == "percentile":
        usual[method] = percentile(statistics, Grid(), ORT_PERCENTILE)
    reach = statistics.reach
    largest = [(-reach, reach), *([(0.0, reach)] if statistics.non_negative else [])]
    return {"max_abs": largest} | {method: [ends, _mirrored(ends)] for method, ends in usual.items()}


def _mirrored(ends: Range) -> Range:
    reach = max(-ends[0], ends[1])
    return -reach, reach


def _near(found: Range, candidate: Range, step: float) -> bool:
    # the scale is a float32, so that one step may read as a little more
    return all(abs(one - other) <= step * 1.001 for one, other in zip(found, candidate, strict=True))
