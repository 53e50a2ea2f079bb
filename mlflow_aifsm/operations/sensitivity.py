"""Which layers a quantization hurts most, and how many of them must stay in float until a target of accuracy is met."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from mlflow_aifsm.operations.judgement import Judge, Judgement

Progress = Callable[[int, int | None], None] | None
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """One layer: the SQNR of the model's outputs, in dB, where this layer alone is quantized."""

    layer: str
    sqnr_db: float


@dataclass(frozen=True, slots=True)
class Kept(Generic[Made]):
    """What was made with the fewest layers in float of those tries that meet the target, or with all but one.

    Attributes:
        made: The result of the last try.
        layers: The layers that stay in float, most sensitive first.
        judgement: What the result does on the calibration samples.
        met: Whether the target is met.
        tries: Number of layers in float, and what came of it, in the order of the tries.
    """

    made: Made
    layers: tuple[Sensitivity, ...]
    judgement: Judgement
    met: bool
    tries: tuple[tuple[int, Judgement], ...]


def ranked(
    layers: Sequence[str], alone: Callable[[str], Path], judge: Judge, progress: Progress = None
) -> tuple[Sensitivity, ...]:
    """``layers``, most sensitive first: those that cost the outputs most when they alone are quantized.

    Args:
        layers: Names of the layers.
        alone: Makes the file in which only the named layer is quantized, in a folder of its own, which is removed.
        judge: Judges it, on few samples: the ranking needs no more.
        progress: Called with the layers done and their number.
    """
    found = []
    for number, layer in enumerate(layers, 1):
        path = alone(layer)
        found.append(Sensitivity(layer, judge.judge(path).sqnr_db))
        shutil.rmtree(path.parent, ignore_errors=True)
        if progress is not None:
            progress(number, len(layers))
    # sorted() is stable: of equals, the one nearer to the inputs comes first
    return tuple(sorted(found, key=lambda one: one.sqnr_db))


def kept_in_float(
    order: Sequence[Sensitivity],
    make: Callable[[tuple[str, ...]], Made],
    path_of: Callable[[Made], Path],
    judge: Judge,
    target: float,
) -> Kept[Made]:
    """Keeps more and more of the most sensitive layers in float until the drop is at most ``target``.

    Args:
        order: Layers, most sensitive first.
        make: Makes the candidate with the named layers in float.
        path_of: Its file.
        judge: Judges it on the calibration samples.
        target: Largest drop of accuracy, ratio in (0, 1).
    """
    tries: list[tuple[int, Judgement]] = []
    for count in _counts(len(order)):
        made = make(tuple(one.layer for one in order[:count]))
        judgement = judge.judge(path_of(made))
        tries.append((count, judgement))
        met = judgement.drop is not None and judgement.drop <= target
        if met or count == len(order) - 1:
            break
    return Kept(made, tuple(order[:count]), judgement, met, tuple(tries))


def _counts(layers: int) -> Iterator[int]:
    """Numbers of layers to try: each up to eight, then in growing steps; at least one layer stays quantized."""
    count = 0
    while count < layers - 1:
        yield count
        count += 1 if count < 8 else count // 4  # noqa: PLR2004
    yield max(layers - 1, 0)
