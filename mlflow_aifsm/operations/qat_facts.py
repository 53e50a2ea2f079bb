"""What the log says of a training: what was seen, what the caller told, and what nobody knows, with the line that tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow_aifsm.backends.quantized import plain
from mlflow_aifsm.facts import Fact, Json, captured, not_recorded
from mlflow_aifsm.lineage import VerifiedModel
from mlflow_aifsm.operations.qat_watch import Group
from mlflow_aifsm.result import Result
from mlflow_aifsm.samples import Samples

SEEN = "steps of the optimizers, as they were made"
TOLD = "what the training loop told"
SHOWN_EPOCHS = 12
"""Epochs up to which the cell prints every number; the data and the run's metrics have all."""
SHOWN = ("weight_decay", "momentum", "betas", "nesterov")
"""Settings of an optimizer that the cell prints; the data has all."""


@dataclass(slots=True)
class Told:
    """What the caller said of a training, as JSON values.

    Attributes:
        optimizers: Class names of optimizers.
        schedules: Class and settings of learning-rate schedules.
        data: The training data, as the record holds them.
        seen: Digests of its samples.
    """

    optimizers: list[str]
    schedules: list[Json]
    data: Json = None
    seen: frozenset[str] = frozenset()


def schedule_told(scheduler: Any) -> Json:
    """A learning-rate scheduler as its class and its own plain settings; False if there was none."""
    if scheduler is False:
        return False
    hidden = {"last_epoch", "base_lrs", "verbose"}
    found = {name: value for name, value in vars(scheduler).items() if not name.startswith("_") and name not in hidden}
    settings = {name: plain(value) for name, value in found.items() if isinstance(value, str | int | float | bool)}
    return {"class": type(scheduler).__name__, "settings": settings}


def data_told(samples: Samples) -> Json:
    """Training data as the record holds them."""
    return {
        "name": samples.name,
        "version": samples.version,
        "sha256": samples.digest,
        "text": f"{samples.describe()} in the order of one pass",
    }


def base_fact(architecture: str, sha256: str, verified: VerifiedModel | None, base: Result | str | None) -> Fact:
    """``qat.base``: the module that training began with, and the log of what it was before."""
    named = (verified.uri or verified.id) if verified is not None else ""
    log_id = base.log_id if isinstance(base, Result) else base or ""
    run_id = base.run_id if isinstance(base, Result) else ""
    text = f"{named or 'Model that nobody registered'}: {architecture}, parameters and buffers sha256 {sha256}"
    text += (
        f"; its log: {log_id}{f' of run {run_id}' if run_id else ''}" if log_id else "; no earlier log of it was named (base=)"
    )
    data = {"model": named, "sha256": sha256, "log_id": log_id, "run_id": run_id}
    return captured("qat.base", text, data, source="module that was handed over", short=named or architecture)


def epochs_fact(metrics: Sequence[Mapping[str, float]], steps: int, sessions: int) -> Fact:
    """``qat.epochs``."""
    if not metrics:
        reason = f"the training loop told no epoch; {counted(steps, 'optimizer step')} seen"
        return not_recorded("qat.epochs", reason, "call qat.epoch() after each epoch")
    text = f"{counted(len(metrics), 'epoch')}, {counted(steps, 'optimizer step')}"
    text += f", in {sessions} sessions: the training was interrupted and gone on with" if sessions > 1 else ""
    return captured("qat.epochs", text, len(metrics), source=f"{TOLD}; {SEEN}")


def metrics_fact(metrics: Sequence[Mapping[str, float]]) -> Fact:
    """``qat.metrics``: each metric by epoch."""
    names = list(dict.fromkeys(name for numbers in metrics for name in numbers))
    if not names:
        return not_recorded("qat.metrics", "the training loop told no metric", "call qat.epoch(accuracy=…) after each epoch")
    curves = {name: [numbers.get(name) for numbers in metrics] for name in names}
    text = "; ".join(f"{name} {_curve(curve)}" for name, curve in curves.items())
    return captured("qat.metrics", text, curves, source=TOLD)


def optimizer_fact(groups: Sequence[Group], told: Sequence[str], changed: bool) -> Fact:
    """``qat.optimizer``: class, learning rates and settings, as the steps showed them."""
    if not groups:
        seen = "weights changed, but no step of a torch.optim optimizer was seen" if changed else "no optimizer step was seen"
        said = f"; the loop told of {', '.join(told)}" if told else ""
        return not_recorded("qat.optimizer", seen + said, "step a torch.optim optimizer inside the with block")
    text = "; ".join(_group_text(group) for group in groups)
    data = [
        {"class": one.optimizer, "settings": one.settings, "rates": one.rates, "parameters": one.parameters} for one in groups
    ]
    return captured("qat.optimizer", text, data, source=SEEN, short=", ".join(dict.fromkeys(one.optimizer for one in groups)))


def schedule_fact(groups: Sequence[Group], told: Sequence[Json]) -> Fact:
    """``qat.schedule``: the schedulers that were told, beside the learning rates that were seen."""
    moved = any(len(group.rates) > 1 for group in groups)
    seen = f"seen: {'; '.join(_rates(group) for group in groups)}" if groups else "no step was seen"
    found = [one for one in told if one]
    if found:
        words = ", ".join(f"{one['class']}({_settings(one['settings'])})" for one in found)
        return captured("qat.schedule", f"{words}; {seen}", list(found), source=TOLD, short=str(found[0]["class"]))
    if False in told or (groups and not moved):
        why = "none" if False in told else "none seen: every step of a parameter group had the same learning rate"
        return captured("qat.schedule", f"{why.capitalize()}; {seen}", [], source=TOLD if False in told else SEEN, short="none")
    reason = f"the scheduler was not told; {seen}"
    return not_recorded("qat.schedule", reason, "call qat.optimizer(optimizer, scheduler) before training")


def data_fact(told: Json) -> Fact:
    """``qat.data``: the training data with their digest."""
    if not told:
        remedy = "pass training_data= to quantization_aware_training"
        return not_recorded("qat.data", "the loop's training data were not named", remedy)
    return captured("qat.data", f"{told['text']}", told, source="argument training_data, read once", short=str(told["name"]))


def seeds_fact(sessions: Sequence[Mapping[str, Json]]) -> Fact:
    """``qat.seeds``: PyTorch's seed at the beginning of each session."""
    words = ", then ".join(str(session["seed"]) for session in sessions)
    threads = ", then ".join(str(session["threads"]) for session in sessions)
    text = f"PyTorch seed {words}; threads: {threads}; seeds of other libraries cannot be read from them"
    return captured("qat.seeds", text, list(sessions), source="PyTorch's generator when training began", short=words)


def batch_normalization_fact(moved: Sequence[str], layers: Sequence[str], folded: int) -> Fact:
    """``qat.batch_normalization``: statistics before and after training, layer by layer."""
    name, source = "qat.batch_normalization", "running statistics before and after training"
    if not layers:
        return captured(name, "No batch normalization in the model", {"layers": 0, "moved": []}, source=source, short="none")
    state = "frozen" if not moved else "updated" if len(moved) == len(layers) else "partly frozen"
    what = f"{state}: running statistics of {len(moved)} of {len(layers)} layers changed"
    text = f"{what.capitalize()}; {folded} folded into the weights' scales in the file"
    return captured(name, text, {"layers": len(layers), "moved": list(moved), "folded": folded}, source=source, short=state)


def ranges_fact(learn: bool, call: str, words: str, operations: str) -> Fact:
    """``qat.ranges``: range settings, and the quantization that training began with."""
    how = "trained with the weights" if learn else "fixed during training"
    text = f"Initial quantization: {call}; {words}; then {how}; fake quantizers ran on {operations}"
    return captured(
        "qat.ranges", text, {"learned": learn, "operations": operations}, source="arguments of this operation", short=how
    )


def _group_text(group: Group) -> str:
    shown = {name: group.settings[name] for name in SHOWN if group.settings.get(name) not in (None, False, 0)}
    settings = f", {_settings(shown)}" if shown else ""
    sizes = f"{counted(len(group.parameters), 'tensor')}, {counted(group.steps, 'step')}"
    return f"{group.optimizer}, {_rates(group)}{settings}, {sizes}"


def _rates(group: Group) -> str:
    rates = [rate for rate, _ in group.rates]
    if len(rates) == 1:
        return f"learning rate {rates[0]:g}"
    if rates[0] == rates[-1]:
        return f"learning rate {rates[0]:g} first and last, from {min(rates):g} to {max(rates):g} between"
    ends = {rates[0], rates[-1]} == {min(rates), max(rates)}
    between = "" if ends else f" (between {min(rates):g} and {max(rates):g})"
    return f"learning rate from {rates[0]:g} to {rates[-1]:g}{between}"


def _settings(settings: Mapping[str, Json]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural but for one."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _curve(curve: Sequence[float | None]) -> str:
    if len(curve) <= SHOWN_EPOCHS:
        return ", ".join(map(_number, curve))
    return f"from {_number(curve[0])} to {_number(curve[-1])} in {len(curve)} epochs"


def _number(value: float | None) -> str:
    return "not told" if value is None else f"{value:.4g}"
