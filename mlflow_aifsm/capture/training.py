"""What training used, read from the training loop's own objects; for what no run's params tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact, Json, captured

SOURCE = "argument training"


@dataclass(frozen=True, slots=True)
class Training:
    """Training-specific operations as the code that trained states them; what is left out stays unknown.

    Make one with ``Training.of``; it beats what the params of the training run tell.

    Attributes:
        facts: The facts ``training.*`` that are known.
        data: Training data, to find verification samples that the model was trained on; anything that ``Data`` takes, or None.
    """

    facts: tuple[Fact, ...]
    data: Any = None

    @staticmethod
    def of(
        optimizer: Any = None,
        scheduler: Any = None,
        *,
        gradient_clipping: float | str | bool | None = None,
        weight_regularization: float | str | bool | None = None,
        loss: Any = None,
        other: Iterable[str] = (),
        data: Any = None,
    ) -> Training:
        """Reads what the objects of a training loop tell.

        Args:
            optimizer: A ``torch.optim.Optimizer``; its weight decay is read from its parameter groups.
            scheduler: A learning-rate scheduler, or False if there was none.
            gradient_clipping: The largest norm or value, in words where that says more, or False if there was none.
            weight_regularization: L1 or L2 terms of the loss beside weight decay, or False if there were none.
            loss: The loss module; label smoothing is read from it.
            other: Further training-specific operations: "exponential moving average, decay 0.999".
            data: Training data.

        Raises:
            InputError: If ``optimizer`` has no parameter groups.
        """
        found = (
            _weights(optimizer, weight_regularization),
            _scheduling(scheduler),
            _stated("training.gradient_clipping", "gradient clipping", gradient_clipping),
            _others(loss, tuple(other)),
        )
        return Training(tuple(fact for fact in found if fact is not None), data)


def _weights(optimizer: Any, stated: float | str | bool | None) -> Fact | None:
    if optimizer is None:
        return _stated("training.weight_regularization", "regularization", stated)
    name = type(optimizer).__name__
    decays = sorted({float(group.get("weight_decay", 0) or 0) for group in _groups(optimizer)})
    said = "" if stated in (None, False) else f"; {_words('regularization', stated)}"
    values = ", ".join(f"{decay:g}" for decay in decays)
    loss = "; no term of the loss" if stated is False else said or "; terms of the loss not stated"
    text = f"{name}, weight decay {values}{loss}"
    return captured("training.weight_regularization", text, {"optimizer": name, "weight_decay": decays}, source=SOURCE)


def _groups(optimizer: Any) -> list[Mapping[str, Any]]:
    groups = getattr(optimizer, "param_groups", None)
    if not isinstance(groups, list):
        raise InputError("optimizer of Training.of", got=type(optimizer).__name__, expected="a torch.optim.Optimizer")
    return groups


def _scheduling(scheduler: Any) -> Fact | None:
    if scheduler is None or isinstance(scheduler, bool | str):
        return _stated("training.lr_scheduling", "learning-rate schedule", scheduler)
    state = {
        name: value for name, value in vars(scheduler).items() if isinstance(value, int | float) and not name.startswith("_")
    }
    shown = ", ".join(f"{name} {value:g}" for name, value in sorted(state.items()) if name not in ("last_epoch", "verbose"))
    name = type(scheduler).__name__
    text = f"{name} ({shown})" if shown else name
    return captured("training.lr_scheduling", text, {"scheduler": name, **state}, source=SOURCE)


def _stated(fact: str, what: str, value: float | str | bool | None) -> Fact | None:
    if value is None:
        return None
    data: Json = value
    return captured(fact, "Not used" if value is False else _words(what, value), data, source=SOURCE)


def _words(what: str, value: float | str | bool) -> str:
    if value is True:
        return f"{what} used, parameters not stated".capitalize()
    return value if isinstance(value, str) else f"{what} {value:g}".capitalize()


def _others(loss: Any, other: tuple[str, ...]) -> Fact | None:
    smoothing = float(getattr(loss, "label_smoothing", 0) or 0)
    found = ([f"label smoothing {smoothing:g} ({type(loss).__name__})"] if smoothing else []) + list(other)
    if not found:
        return None
    return captured("training.other", ", ".join(found), found, source=SOURCE)
