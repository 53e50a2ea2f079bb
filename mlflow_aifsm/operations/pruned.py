"""What a pruning left behind, looked up on the float file: amount, pattern, and the threshold by the parent's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlflow_aifsm.backends.pruned import Applied
from mlflow_aifsm.capture.layer_weights import layer_weights
from mlflow_aifsm.capture.onnx_graph import opened
from mlflow_aifsm.capture.patterns import N_OF_M, Array, Pattern, as_matrix, tiled
from mlflow_aifsm.capture.zero_patterns import Mask, common_pattern, holds
from mlflow_aifsm.facts import Finding
from mlflow_aifsm.operations.pruning import Pruning

Scores = npt.NDArray[np.floating]
LISTED = 5
"""Names that a sentence holds."""
SLACK = 1e-5
"""Share by which two orders of adding up a tile's scores may differ, relative."""


@dataclass(frozen=True, slots=True, eq=False)
class Pruned:
    """One call of a pruning.

    Attributes:
        config: What was asked.
        applied: What was done, once for each step.
        framework: Name and version of what applied the masks, and of what selected the tiles where that is another.
        packages: Packages it depends on directly.
        scores: Scores of the parent's weights by tensor name, output channels first, where the masks follow from them alone:
            one step, by magnitude, of weights that nothing had changed.
    """

    config: Pruning
    applied: tuple[Applied, ...]
    framework: str
    packages: tuple[str, ...]
    scores: Mapping[str, Scores] | None = None

    @property
    def masks(self) -> Mapping[str, Array]:
        """The masks after the last step, bool by tensor name; False where a weight is pruned."""
        return self.applied[-1].masks


@dataclass(frozen=True, slots=True)
class Found:
    """What was found on the file.

    Attributes:
        threshold: What the parent's weights and the file's zeros say of the threshold, one phrase; empty for nothing.
        findings: What is not as asked: amount, pattern, or threshold.
        notes: What could not be looked up.
    """

    threshold: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def looked_up(path: Path, pruned: Pruned, later: Sequence[Pruned] = ()) -> Found:
    """Reads the zeros of the pruned layers back from the float file.

    Args:
        path: The frozen file, not quantized.
        pruned: What was done.
        later: Calls that pruned after it: of layers that they pruned further the zeros do not tell who made them.

    Raises:
        InputError: If the file cannot be read.
    """
    if further := sorted({name for one in later for name in one.masks} & pruned.masks.keys()):
        note = f"Layers that a later call pruned further were not looked up for the earlier one: {_listed(further)}."
        return Found("", (), (note,))
    file = opened(path)
    held = {weight.tensor: weight for weight in layer_weights(file) if weight.quantizer is None}
    zeros = {name: held[name].zero(file) for name in pruned.masks if name in held}
    lost = [name for name in pruned.masks if name not in zeros]
    note = f"Pruned weights that the file does not hold under their names; their zeros were not looked up: {_listed(lost)}."
    findings = (*_amount(zeros, pruned), *_pattern(zeros, pruned.config.tiles))
    threshold, wrong = _threshold(zeros, pruned)
    return Found(threshold, (*findings, *wrong), (note,) if lost else ())


def _amount(zeros: Mapping[str, Mask], pruned: Pruned) -> Iterator[Finding]:
    total = sum(zero.size for zero in zeros.values())
    if not total:
        return
    share = sum(int(np.count_nonzero(zero)) for zero in zeros.values()) / total
    if abs(share - pruned.config.share) > _tolerance(zeros, pruned.config):
        asked, effect = f"{pruned.config.share:.1%} of the chosen layers", "the model is not as sparse as was asked for"
        yield Finding("amount_not_held", "", asked, f"{share:.1%} of their {total:,} weights are zero", effect)


def _tolerance(zeros: Mapping[str, Mask], config: Pruning) -> float:
    """What whole tiles leave of an amount: half a tile of each threshold; what fills no group, for n:m."""
    total = sum(zero.size for zero in zeros.values())
    matrices = [as_matrix(zero).shape for zero in zeros.values()]
    if config.tiles.kind == N_OF_M:
        return float(sum(rows * (columns % config.tiles.columns) for rows, columns in matrices) / total)
    sizes = [int(np.prod(config.tiles.shape((rows, columns)))) for rows, columns in matrices]
    return float((sum(sizes) if config.scope == "local" else max(sizes)) / total)


def _pattern(zeros: Mapping[str, Mask], asked: Pattern) -> Iterator[Finding]:
    broken = [name for name, zero in zeros.items() if zero.any() and not holds(zero, asked)]
    if broken:
        seen = common_pattern([zeros[name] for name in broken])
        effect = "a runtime that relies on the pattern cannot skip what is zero"
        yield Finding("pattern_not_held", "", asked.definition, f"{seen.definition}, in {_listed(broken)}", effect)


def _threshold(zeros: Mapping[str, Mask], pruned: Pruned) -> tuple[str, tuple[Finding, ...]]:
    """Whether every pruned tile scores less than every kept one, by the parent's weights."""
    if pruned.scores is None or not zeros:
        return "", ()
    config = pruned.config
    sides = {name: _sides(pruned.scores[name], zero, config.tiles) for name, zero in zeros.items()}
    groups = {name: [side] for name, side in sides.items()} if config.scope == "local" else {"all layers": list(sides.values())}
    limits = {name: (max(low for low, _ in group), min(high for _, high in group)) for name, group in groups.items()}
    broken = [name for name, (low, high) in limits.items() if low > high * (1 + SLACK)]
    if broken:
        low, high = limits[broken[0]]
        measured = f"in {broken[0]} a pruned tile scores {low:.3g}, a kept one {high:.3g}"
        return "", (
            Finding("threshold_not_held", "", config.criterion, measured, "other weights are gone than the criterion names"),
        )
    if config.tiles.kind == N_OF_M:
        return "recomputed from the parent's weights: in every group those kept score at least as high as those pruned", ()
    low, high = (max(low for low, _ in limits.values()), min(high for _, high in limits.values()))
    if config.scope == "local":
        return f"recomputed from the parent's weights, layer by layer, for {len(limits)} layers", ()
    return f"recomputed from the parent's weights: pruned tiles score at most {low:.4g}, kept ones at least {high:.4g}", ()


def _sides(scores: Scores, zero: Mask, tiles: Pattern) -> tuple[float, float]:
    """The highest score of a pruned tile and the lowest of a kept one; for n:m their largest ratio, set against 1."""
    if tiles.kind == N_OF_M:
        return _worst_group(as_matrix(scores), as_matrix(zero), tiles.columns)
    counts = tiled(np.ones(as_matrix(zero).shape, np.float32), tiles)
    means = tiled(as_matrix(scores).astype(np.float64), tiles) / counts
    gone = tiled(as_matrix(zero).astype(np.float32), tiles) == counts
    return float(means[gone].max(initial=0)), float(means[~gone].min(initial=np.inf))


def _worst_group(scores: Scores, zero: Mask, width: int) -> tuple[float, float]:
    whole = scores.shape[1] // width * width
    groups, gone = scores[:, :whole].reshape(-1, width), zero[:, :whole].reshape(-1, width)
    pruned, kept = np.where(gone, groups, 0).max(1, initial=0), np.where(gone, np.inf, groups).min(1, initial=np.inf)
    # a group of zeros alone has no kept weight; 0 of 0 is no contradiction
    ratio = np.divide(pruned, kept, out=np.where(pruned > 0, np.inf, 0.0), where=kept > 0)
    return float(ratio.max(initial=0)), 1.0


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
