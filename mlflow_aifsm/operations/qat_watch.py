"""What training does, seen through PyTorch's own hook on every optimizer: no loop has to be changed or to be trusted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from mlflow_aifsm.backends.quantized import plain
from mlflow_aifsm.facts import Json

RATE = "lr"
HIDDEN = frozenset({"params", RATE, "initial_lr", "param_names"})
"""Settings of a parameter group that are told elsewhere, or tell nothing."""


@dataclass(slots=True)
class Group:
    """One parameter group of one optimizer, as its steps were seen.

    Attributes:
        optimizer: Class of the optimizer.
        settings: Its settings but for the learning rate.
        parameters: Names of the module's parameters in it.
        rates: Learning rates in the order in which they were used, each with the number of steps that used it.
        leads: Whether it is the first group of its optimizer that was seen: a step of the optimizer is one of each group.
    """

    optimizer: str
    settings: dict[str, Json]
    parameters: list[str]
    rates: list[list[float]] = field(default_factory=list)
    leads: bool = True

    @property
    def steps(self) -> int:
        """Number of steps."""
        return int(sum(count for _, count in self.rates))

    @property
    def last(self) -> float:
        """The learning rate of the last step."""
        return self.rates[-1][0]

    def used(self, rate: float, steps: float = 1) -> None:
        """Takes note of steps."""
        if self.rates and self.rates[-1][0] == rate:
            self.rates[-1][1] += steps
        else:
            self.rates.append([rate, steps])


class Watch:
    """Steps of any optimizer on the parameters of a module.

    Args:
        model: The module that is trained.
        groups: What was seen in earlier sessions.
    """

    def __init__(self, model: nn.Module, groups: list[Group]) -> None:
        self._names = {id(value): name for name, value in model.named_parameters()}
        self._groups: dict[tuple[int, int], Group] = {}
        self.earlier = groups
        self.optimizers: list[Optimizer] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Looks on while it lasts."""
        handle = register_optimizer_step_post_hook(self._stepped)
        try:
            yield
        finally:
            handle.remove()

    def know(self, optimizer: Optimizer) -> None:
        """Takes note of an optimizer before its first step."""
        if all(optimizer is not known for known in self.optimizers):
            self.optimizers.append(optimizer)

    @property
    def groups(self) -> list[Group]:
        """All parameter groups that made steps, those of earlier sessions joined with those that continue them."""
        joined: list[Group] = []
        for group in (*self.earlier, *self._groups.values()):
            older = next((one for one in joined if _same(one, group)), None)
            if older is None:
                older = replace(group, rates=[])
                joined.append(older)
            for rate, steps in group.rates:
                older.used(rate, steps)
        return joined

    @property
    def steps(self) -> int:
        """Number of optimizer steps: each counts once, however many parameter groups it has."""
        return sum(group.steps for group in self.groups if group.leads)

    def rate_of(self, parameter: str) -> float | None:
        """The last learning rate with which a parameter was stepped; None if none was seen."""
        found = [group.last for group in self.groups if parameter in group.parameters]
        return found[-1] if found else None

    def _stepped(self, optimizer: Optimizer, _: Any, __: Any) -> None:
        for place, group in enumerate(optimizer.param_groups):
            key = (id(optimizer), place)
            if key not in self._groups:
                names = [
                    self._names[id(value)] for value in group["params"] if id(value) in self._names and value.requires_grad
                ]
                if not names:
                    continue
                self.know(optimizer)
                settings = {name: plain(value) for name, value in group.items() if name not in HIDDEN}
                leads = all(of != id(optimizer) for of, _ in self._groups)
                self._groups[key] = Group(type(optimizer).__name__, settings, names, leads=leads)
            self._groups[key].used(float(group[RATE]))


def _same(one: Group, other: Group) -> bool:
    return replace(one, rates=[]) == replace(other, rates=[])
