"""Scales before training, after it, and in the file: what was learned, and whether the file holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mlflow_aifsm.backends.fake_quantized import STORAGE, Held
from mlflow_aifsm.backends.integer_export import IntegerFile
from mlflow_aifsm.backends.integer_graph import SUFFIX
from mlflow_aifsm.capture import quantizers
from mlflow_aifsm.capture.onnx_graph import OnnxFile
from mlflow_aifsm.capture.quantizer import ACTIVATION, WEIGHT, Quantizer
from mlflow_aifsm.facts import Fact, Finding, Json, measured, not_applicable
from mlflow_aifsm.operations.qat_watch import Watch

NAME, TABLE = "recovery.learned", "learned"
SAME = 4 * float(np.finfo(np.float32).eps)
"""Relative difference within which a float32 scale is the one that was trained: it was multiplied by a factor, or cast."""
NAMED = 5
"""Quantizers that a finding names; the table has all."""


@dataclass(frozen=True, slots=True)
class Learned:
    """One quantizer before and after training.

    Attributes:
        before: What it held before.
        after: What it holds.
        tensor: What it quantizes: name of the weight, or of the tensor in the file.
        weight: Whether that is a weight.
        changed: Whether any of its trained parameters has another value.
        rate: The last learning rate of its parameters; None if no optimizer step moved them.
        move: Largest move of an end of a range, in parts of the range before.
        in_file: Whether the file has the trained scale; None where the file has no such quantizer.
    """

    before: Held
    after: Held
    tensor: str
    weight: bool
    changed: bool
    rate: float | None
    move: float
    in_file: bool | None

    @property
    def row(self) -> dict[str, Json]:
        """A row of the table."""
        return {
            "tensor": self.tensor,
            "kind": WEIGHT if self.weight else ACTIVATION,
            "scales": len(self.after.step),
            **{f"scale_before_{end.__name__}": end(self.before.step) for end in (min, max)},
            **{f"scale_after_{end.__name__}": end(self.after.step) for end in (min, max)},
            "zero_point_before": _points(self.before),
            "zero_point_after": _points(self.after),
            "largest_move": self.move,
            "changed": self.changed,
            "learning_rate": self.rate,
            "in_file": self.in_file,
            "quantizer": self.after.name,
        }


def learned(
    file: IntegerFile,
    delivered: OnnxFile,
    before: Sequence[Held],
    after: Sequence[Held],
    states: tuple[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]],
    watch: Watch,
) -> tuple[Learned, ...]:
    """Each quantizer before and after training, and in the file.

    Args:
        file: The file and how it was made.
        delivered: The file as it lies on disk.
        before: Quantizers before training.
        after: Quantizers now.
        states: The module's tensors by name, before and now.
        watch: What was seen of the training.
    """
    known = [row for row in quantizers.read(delivered) if row.kind in (WEIGHT, ACTIVATION)]
    rows = {row.tensor if row.kind == WEIGHT else row.label: row for row in known}
    older = {one.name: one for one in before}
    found = []
    for one in after:
        weight = one.name in file.weights
        tensors = file.codes[one.name] if weight else file.activations.get(one.name, ())
        tensor = file.weights[one.name] if weight else ", ".join(tensors) or one.name
        trained = [
            name for name in states[0] if name.startswith(f"{STORAGE}{one.name}.") and states[0][name].is_floating_point()
        ]
        changed = any(not torch.equal(states[0][name], states[1][name]) for name in trained)
        rates = [rate for rate in map(watch.rate_of, _parameters(watch, one.name)) if rate is not None]
        factors = {name: file.factors.get(name.removesuffix(SUFFIX), ()) for name in tensors if weight}
        held = None if not tensors else all(_holds(rows.get(name), one, factors.get(name, ())) for name in tensors)
        found.append(
            Learned(
                older[one.name], one, tensor, weight, changed, rates[-1] if rates else None, _move(older[one.name], one), held
            )
        )
    return tuple(found)


def learned_fact(rows: Sequence[Learned], learn: bool, source: str) -> Fact:
    """``recovery.learned``: whether scales were learned, how far they moved, and whether the file holds them."""
    findings = tuple(filter(None, (_unlearned(rows) if learn else _moved(rows), _elsewhere(rows))))
    changed, data = sum(one.changed for one in rows), [one.row for one in rows]
    if not learn:
        fixed = f"{len(rows) - changed} of {len(rows)} quantizers are those of calibration"
        reason = f"scales were fixed in training (learn_scales=False): {fixed}"
        return not_applicable(NAME, reason, data, source=source, findings=findings)
    most = max(rows, key=lambda one: one.move)
    rates = sorted({one.rate for one in rows if one.rate is not None})
    text = f"Scales learned with the weights: {changed} of {len(rows)} quantizers changed"
    text += f"; largest move {most.move:.2%} of the range before, {most.tensor}"
    text += (
        f"; learning rate at the last step {', '.join(f'{rate:g}' for rate in rates)}"
        if rates
        else "; no step of an optimizer was seen"
    )
    text += f"; {sum(one.in_file is True for one in rows)} of {len(rows)} have the trained scale in the file"
    return measured(NAME, text, data, source=source, short="learned" if changed else "unchanged", findings=findings)


def _unlearned(rows: Sequence[Learned]) -> Finding | None:
    still = [one for one in rows if not one.changed]
    if not still:
        return None
    idle = sum(one.rate is None for one in still)
    why = f"; {idle} of them in no parameter group of an optimizer that made a step" if idle else ""
    return Finding(
        "learned_scale_unchanged",
        asked=f"learned scales in {len(rows)} quantizers (learn_scales=True)",
        measured=f"unchanged in {len(still)}: {_listed(still)}{why}",
        effect="these scales are those of calibration",
    )


def _moved(rows: Sequence[Learned]) -> Finding | None:
    moved = [one for one in rows if one.changed]
    if not moved:
        return None
    effect = "scales are not those of calibration"
    return Finding(
        "fixed_scale_changed", asked="fixed scales (learn_scales=False)", measured=f"changed in {_listed(moved)}", effect=effect
    )


def _elsewhere(rows: Sequence[Learned]) -> Finding | None:
    wrong = [one for one in rows if not one.in_file]
    if not wrong:
        return None
    measured_words = f"another scale, or none, in {_listed(wrong)}"
    return Finding(
        "scale_not_as_trained",
        asked="the trained scales in the file",
        measured=measured_words,
        effect="the file is not the trained model",
    )


def _listed(rows: Sequence[Learned]) -> str:
    names = [one.tensor for one in rows]
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _parameters(watch: Watch, name: str) -> list[str]:
    return [one for group in watch.groups for one in group.parameters if one.startswith(f"{STORAGE}{name}.")]


def _holds(row: Quantizer | None, one: Held, factors: Sequence[float]) -> bool:
    """Whether the file has the trained scale, multiplied by what folding did to each channel, and the trained zero point."""
    if row is None:
        return False
    sizes = np.abs(np.asarray(factors or (1.0,)))
    wanted = np.asarray(one.step) * np.where(sizes == 0, 1.0, sizes)
    scales = np.asarray(row.scale)
    close = scales.size == wanted.size and bool(np.allclose(scales, wanted, rtol=SAME, atol=0))
    low = row.code_range[0]
    return close and (
        bool(factors) or [point - low for point in row.zero_point] == [point - one.low for point in one.zero_point]
    )


def _ends(one: Held) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    steps, points = np.asarray(one.step), np.asarray(one.zero_point)
    return np.stack([(code - points) * steps for code in one.levels])


def _move(before: Held, after: Held) -> float:
    """Largest move of an end of a range, in parts of the range before."""
    old, new = _ends(before), _ends(after)
    return float((np.abs(new - old) / (old[1] - old[0])).max())


def _points(one: Held) -> Json:
    return one.zero_point[0] if len(set(one.zero_point)) == 1 else list(one.zero_point)
