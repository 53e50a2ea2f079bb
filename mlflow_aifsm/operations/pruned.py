"""What a pruning left behind, looked up on the float file: amount, pattern, and the threshold by the parent's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlflow_aifsm.backends.pruned import Applied
from mlflow_aifsm.capture.layer_names import WEIGHT
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
        read: Data that the scores come from, and the loss; empty where they come from the weights alone.
    """

    config: Pruning
    applied: tuple[Applied, ...]
    framework: str
    packages: tuple[str, ...]
    scores: Mapping[str, Scores] | None = None
    read: str = ""

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


def looked_up(path: Path, dense: Path, pruned: Pruned, earlier: Sequence[Pruned] = (), later: Sequence[Pruned] = ()) -> Found:
    """Reads the zeros of the pruned layers back from the float file.

    Args:
        path: The frozen file, not quantized.
        dense: The file as it was before the first step: its zeros are nobody's work here.
        pruned: What was done.
        earlier: Calls that pruned before it.
        later: Calls that pruned after it: of layers that they pruned further the zeros do not tell who made them.

    Raises:
        InputError: If a file cannot be read.
    """
    if further := sorted({name for one in later for name in one.masks} & pruned.masks.keys()):
        note = f"Layers that a later call pruned further were not looked up for the earlier one: {_listed(further)}."
        return Found("", (), (note,))
    zeros, before = _zeros(path), _zeros(dense)
    lost = [name for name in pruned.masks if name not in zeros]
    layers = {
        name: _Layer.of(zeros[name], mask, before.get(name), earlier, name)
        for name, mask in pruned.masks.items()
        if name in zeros
    }
    findings = [*_back(layers), *_pattern(layers, pruned.config.tiles)]
    threshold = ""
    # what a threshold over all layers did cannot be judged on some of them
    if not lost or pruned.config.scope == "local":
        threshold, wrong = _threshold(layers, pruned)
        findings += [*_amount(layers, pruned.config), *wrong]
    note = f"Pruned weights that the file does not hold under their names; their zeros were not looked up: {_listed(lost)}."
    return Found(threshold, tuple(findings), (note,) if lost else ())


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """Zeros of one weight, output channels first.

    Attributes:
        zero: Those of the file.
        pruned: Those that the masks asked for.
        others: Those that were zero before: in the first model, or by an earlier call.
    """

    zero: Mask
    pruned: Mask
    others: Mask

    @staticmethod
    def of(zero: Mask, mask: Array, before: Mask | None, earlier: Sequence[Pruned], name: str) -> _Layer:
        others = np.zeros_like(zero) if before is None or before.shape != zero.shape else before.copy()
        for one in earlier:
            others |= ~one.masks[name] if name in one.masks else False
        return _Layer(zero, ~np.asarray(mask, bool), others)


def _zeros(path: Path) -> dict[str, Mask]:
    """Zeros of the float weights by tensor, and by the module they come from where the exporter gave them another name."""
    file = opened(path)
    held = [weight for weight in layer_weights(file) if weight.quantizer is None]
    named = {f"{weight.module}{WEIGHT}": weight for weight in held if weight.module}
    return {name: weight.zero(file) for name, weight in {**named, **{weight.tensor: weight for weight in held}}.items()}


def _back(layers: Mapping[str, _Layer]) -> Iterator[Finding]:
    broken = {name: int(np.count_nonzero(layer.pruned & ~layer.zero)) for name, layer in layers.items()}
    if found := [f"{count:,} in {name}" for name, count in broken.items() if count]:
        effect = "weights that were pruned are back, and nothing says why"
        yield Finding("zeros_lost", "", "the zeros of the masks", f"not zero: {_listed(found)}", effect)


def _amount(layers: Mapping[str, _Layer], config: Pruning) -> Iterator[Finding]:
    total = sum(layer.zero.size for layer in layers.values())
    if not total:
        return
    every = sum(int(np.count_nonzero(layer.zero)) for layer in layers.values()) / total
    own = sum(int(np.count_nonzero(layer.zero & ~(layer.others & ~layer.pruned))) for layer in layers.values()) / total
    tolerance, asked = _tolerance(layers, config), f"{config.share:.1%} of the chosen layers"
    if every < config.share - tolerance:
        effect = "the model is not as sparse as was asked for"
        yield Finding("amount_not_held", "", asked, f"{every:.1%} of their {total:,} weights are zero", effect)
    elif own > config.share + tolerance:
        effect = "more weights are gone than were asked for"
        yield Finding("amount_not_held", "", asked, f"{own:.1%} of their {total:,} weights became zero", effect)


def _tolerance(layers: Mapping[str, _Layer], config: Pruning) -> float:
    """What whole tiles leave of an amount: a tile of each threshold; what fills no group, for n:m."""
    total = sum(layer.zero.size for layer in layers.values())
    matrices = [as_matrix(layer.zero).shape for layer in layers.values()]
    if config.tiles.kind == N_OF_M:
        return float(sum(rows * (columns % config.tiles.columns) for rows, columns in matrices) / total)
    sizes = [int(np.prod(config.tiles.shape((rows, columns)))) for rows, columns in matrices]
    return float((sum(sizes) if config.scope == "local" else max(sizes)) / total)


def _pattern(layers: Mapping[str, _Layer], asked: Pattern) -> Iterator[Finding]:
    """Zeros that nobody explains count as the pruning's; those that were there before do not."""
    made = {name: layer.zero & (layer.pruned | ~layer.others) for name, layer in layers.items()}
    broken = [name for name, zero in made.items() if zero.any() and not holds(zero, asked)]
    if broken:
        seen = common_pattern([made[name] for name in broken])
        effect = "a runtime that relies on the pattern cannot skip what is zero"
        yield Finding("pattern_not_held", "", asked.definition, f"{seen.definition}, in {_listed(broken)}", effect)


def _threshold(layers: Mapping[str, _Layer], pruned: Pruned) -> tuple[str, tuple[Finding, ...]]:
    """Whether every pruned tile scores less than every kept one, by the parent's weights."""
    if pruned.scores is None or not layers:
        return "", ()
    config = pruned.config
    sides = {name: _sides(pruned.scores[name], layer.zero & layer.pruned, config.tiles) for name, layer in layers.items()}
    groups = {name: [side] for name, side in sides.items()} if config.scope == "local" else {"all layers": list(sides.values())}
    limits = {name: (max(low for low, _ in group), min(high for _, high in group)) for name, group in groups.items()}
    broken = [name for name, (low, high) in limits.items() if low > high * (1 + SLACK)]
    if broken:
        low, high = limits[broken[0]]
        measured = f"in {broken[0]} a pruned tile scores {low:.3g}, a kept one {high:.3g}"
        effect = "other weights are gone than the criterion names"
        return "", (Finding("threshold_not_held", "", config.criterion, measured, effect),)
    return _recomputed(config, limits), ()


def _recomputed(config: Pruning, limits: Mapping[str, tuple[float, float]]) -> str:
    if config.tiles.kind == N_OF_M:
        return "recomputed from the parent's weights: in every group those kept score at least as high as those pruned"
    if config.scope == "local":
        return f"recomputed from the parent's weights, layer by layer, for {len(limits)} layers"
    low, high = next(iter(limits.values()))
    return f"recomputed from the parent's weights: pruned tiles score at most {low:.4g}, kept ones at least {high:.4g}"


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
