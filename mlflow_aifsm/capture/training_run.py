"""What the training run of a model says: pure functions on the run's plain data, which the tracking layer fetches.

The file cannot tell whether training clipped gradients or decayed weights; the run's parameters can. Known are the names that
MLflow's PyTorch autologging and Lightning write (``optimizer.defaults``: ``lr``, ``weight_decay``, …; trainer arguments:
``gradient_clip_val``) and the names people use. A run that is silent leaves the fact not recorded: silence is not "none".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlflow_aifsm.facts import Fact, captured, not_recorded

METRICS_SHOWN = 6
"""Metrics printed in the cell; the data holds all."""

_OFF = frozenset({"", "none", "null", "false", "no", "off", "constant", "[]", "{}"})
_NOT_THE_USERS = ("aifsm.", "system/")
_JUDGING = ("test", "val", "eval")


@dataclass(frozen=True, slots=True)
class _Technique:
    """A technique of training: the parameters that say whether it was used, and those that only detail it."""

    fact: str
    called: str
    names: re.Pattern[str]
    details: re.Pattern[str]
    remedy: str


_TECHNIQUES = (
    _Technique(
        "training.gradient_clipping",
        "gradient clipping",
        re.compile(r"(grad|gradient)s?_(norm_)?clip\w*|clip_?grad\w*|max_grad(ient)?_norm|(global_?)?clip_?(norm|value)"),
        re.compile(r"gradient_clip_algorithm|clip_mode|\w*norm_type"),
        "mlflow.log_param('gradient_clip_val', …) in the training run",
    ),
    _Technique(
        "training.lr_scheduling",
        "learning-rate schedule",
        re.compile(r"(lr|learning_rate)_(sched\w*|policy|decay\w*)|sched(uler|ule)?(_name|_type)?"),
        re.compile(r"(lr_)?(step_size|gamma|milestones|min|max)|t_(max|0|mult)|eta_min|(min|max)_lr|pct_start|(lr_)?warmup\w*"),
        "mlflow.log_param('lr_scheduler', …) in the training run",
    ),
    _Technique(
        "training.weight_regularization",
        "weight regularization",
        re.compile(r"weight_decay|wd|l[12](_(reg\w*|lambda|penalty|weight|alpha|coef\w*))?|lambda_l[12]|\w+_regulari[sz]\w+"),
        re.compile(r"decoupled_weight_decay"),
        "mlflow.log_param('weight_decay', …) in the training run",
    ),
)


def facts(
    run_id: str,
    params: Mapping[str, str],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    datasets: Sequence[Mapping[str, str]],
    flavor: str = "",
) -> list[Fact]:
    """Everything the run says about training; what it does not say comes back as not recorded, with the line that says it.

    Args:
        run_id: Id of the run that trained the model; it becomes the source of each fact.
        params: The run's parameters, as MLflow stores them.
        metrics: Last value of each of the run's metrics.
        tags: The run's tags, MLflow's own included.
        datasets: The run's data sets, each with ``name``, ``context`` and ``digest`` where known.
        flavor: Framework and version from the logged model (``PyTorch 2.13.0``); empty if the model does not say.
    """
    source = f"run {run_id}"
    name = tags.get("mlflow.runName", "")
    run = captured(
        "training.run", f"{name} ({run_id})" if name else run_id, {"id": run_id, "name": name}, source=source, short=run_id
    )
    techniques = [_technique(technique, params, run_id) for technique in _TECHNIQUES]
    return [_framework(tags, flavor, run_id), run, _data_sets(datasets, run_id), _metrics(metrics, run_id), *techniques]


def _framework(tags: Mapping[str, str], flavor: str, run_id: str) -> Fact:
    autologged = tags.get("mlflow.autologging", "")
    if flavor:
        return captured("training.framework", flavor, {"flavor": flavor}, source=f"run {run_id}")
    if autologged:
        text = f"{autologged} (autologging of the run; version not named)"
        return captured("training.framework", text, {"autologging": autologged}, source=f"run {run_id}", short=autologged)
    remedy = "log the model with its flavor (mlflow.pytorch.log_model) in the training run"
    return not_recorded("training.framework", f"run {run_id} names no framework", remedy)


def _data_sets(datasets: Sequence[Mapping[str, str]], run_id: str) -> Fact:
    if not datasets:
        remedy = "mlflow.log_input(dataset, context='training') in the training run"
        return not_recorded("training.data_sets", f"run {run_id} names no data set", remedy)
    text = "; ".join(_data_set(dataset) for dataset in datasets)
    short = ", ".join(dict.fromkeys(dataset.get("name", "unnamed") for dataset in datasets))
    return captured("training.data_sets", text, [dict(dataset) for dataset in datasets], source=f"run {run_id}", short=short)


def _data_set(dataset: Mapping[str, str]) -> str:
    digest = dataset.get("digest", "")
    words = (dataset.get("context", ""), f"digest {digest}" if digest else "")
    known = ", ".join(word for word in words if word)
    return dataset.get("name", "unnamed") + (f" ({known})" if known else "")


def _metrics(metrics: Mapping[str, float], run_id: str) -> Fact:
    own = {name: metrics[name] for name in sorted(metrics, key=_judging_first) if not name.startswith(_NOT_THE_USERS)}
    if not own:
        reason = f"run {run_id} holds no metric of the training"
        return not_recorded("training.metrics", reason, "mlflow.log_metric('val_accuracy', …) in the training run")
    shown = [f"{name} {value:.6g}" for name, value in list(own.items())[:METRICS_SHOWN]]
    hidden = len(own) - len(shown)
    text = ", ".join(shown) + (f" and {hidden} more" if hidden else "")
    return captured("training.metrics", text, own, source=f"run {run_id}", short=shown[0])


def _judging_first(name: str) -> tuple[bool, str]:
    return (not any(word in _JUDGING for word in re.split(r"[^a-z]+", name.lower())), name)


def _technique(technique: _Technique, params: Mapping[str, str], run_id: str) -> Fact:
    details = _matching(technique.details, params)
    said = {name: value for name, value in _matching(technique.names, params).items() if name not in details}
    used = {name: value for name, value in said.items() if not _is_off(value)}
    if not said:
        hint = f"; {_pairs(details)} may belong to one" if details else ""
        return not_recorded(technique.fact, f"run {run_id} names no {technique.called}{hint}", technique.remedy)
    text = _pairs({**used, **details}) if used else f"not used ({_pairs(said)})"
    short = ", ".join(_last_part(name) for name in used) if used else "not used"
    return captured(technique.fact, text, {"params": {**said, **details}}, source=f"run {run_id}", short=short)


def _matching(pattern: re.Pattern[str], params: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in sorted(params.items()) if pattern.fullmatch(_last_part(name))}


def _last_part(name: str) -> str:
    return re.split(r"[./: ]", name.strip())[-1].lower().replace("-", "_")


def _is_off(value: str) -> bool:
    word = value.strip().lower()
    try:
        return float(word) == 0
    except ValueError:
        return word in _OFF


def _pairs(params: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in params.items())
