"""What is asked of a pruning: criterion, scope and pattern in the field's words, and how accuracy is won back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isclose
from typing import Any

from mlflow_aifsm.capture.patterns import N_OF_M, Pattern
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.operations.checks import between, names, one_of, positive
from mlflow_aifsm.samples import Samples

SCOPES = ("global", "local")
SCORES = ("gradient", "weight_gradient")
USUAL = 0.5
"""Share of the weights that is pruned where nobody says another."""


@dataclass(frozen=True, slots=True)
class Pruning(ABC):
    """What every pruning is asked for.

    Args:
        amount: Share of the weights of the chosen layers to prune, ratio in (0, 1); 0.5 if None. ``n:m`` says it itself.
        scope: ``global`` for one threshold over all chosen layers, ``local`` for one a layer, so that each loses ``amount``.
        pattern: What is pruned as a whole: ``element``; ``vector:<n>``, n neighbours along the inputs of an output channel;
            ``block:<r>x<c>``, r output channels by c neighbouring inputs; ``group``, the same kernel position in all filters of
            a layer; ``channel``, a whole output channel; ``<n>:<m>``, where n of m neighbours are kept. A tile scores the mean
            of its weights' scores.
        layers: Layers to prune: module paths, node names or operator types, with the wildcards ``*`` and ``?``; all
            convolutions and linear layers if empty. Weights of other layers (LSTM, the projections inside attention,
            embeddings) are not pruned.
        keep_dense: Layers to leave as they are, named alike.
        steps: Number of steps in which ``amount`` is reached, fine-tuning after each, amounts after Zhu and Gupta 2017 (arXiv
            1710.01878), equation 1; or the amounts themselves, ascending.
        batch_norm_adaptation: Samples on which NNCF adapts the running statistics of batch normalizations after each step; 0
            for none.

    Raises:
        InputError: If a word or a number is none of those above.
    """

    amount: float | None = None
    scope: str = "global"
    pattern: str = "element"
    layers: tuple[str, ...] = ()
    keep_dense: tuple[str, ...] = ()
    steps: int | tuple[float, ...] = 1
    batch_norm_adaptation: int = 0

    def __post_init__(self) -> None:
        one_of("scope", self.scope, SCOPES)
        if self.amount is not None:
            between("amount", self.amount, 0, 1)
        for setting in ("layers", "keep_dense"):
            object.__setattr__(self, setting, names(setting, getattr(self, setting)))
        if self.batch_norm_adaptation != 0:
            positive("batch_norm_adaptation", self.batch_norm_adaptation)
        if isinstance(self.steps, int):
            positive("steps", self.steps)
        else:
            object.__setattr__(self, "steps", _ascending(self.steps))
        _check_amount(self)

    @property
    def tiles(self) -> Pattern:
        """The pattern with its sizes."""
        return Pattern.of(self.pattern)

    @property
    def share(self) -> float:
        """Share of the weights that is pruned in the end, ratio in (0, 1)."""
        if self.tiles.kind == N_OF_M:
            return 1 - self.tiles.kept / self.tiles.columns
        if isinstance(self.steps, tuple):
            return self.steps[-1]
        return USUAL if self.amount is None else self.amount

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of the weights that is pruned after each step, ratios in (0, 1), ascending."""
        if isinstance(self.steps, tuple):
            return self.steps
        return tuple(self.share * (1 - (1 - step / self.steps) ** 3) for step in range(1, self.steps + 1))

    @property
    @abstractmethod
    def criterion(self) -> str:
        """The criterion in the template's words."""


@dataclass(frozen=True, slots=True)
class Magnitude(Pruning):
    """Pruning of the weights with the smallest absolute values (Han et al. 2015, arXiv 1506.02626).

    ``Magnitude(amount=0.5, scope="global", pattern="element")``; all arguments are those of ``Pruning``.
    """

    @property
    def criterion(self) -> str:
        """The criterion in the template's words."""
        return "Weight magnitude |w|"


@dataclass(frozen=True, slots=True)
class Gradient(Pruning):
    """Pruning of the weights that the loss depends on least, by its gradient on data.

    The other arguments are those of ``Pruning``.

    Args:
        score: ``weight_gradient`` for |w·g|, the first-order change of the loss when the weight is taken away (Molchanov et al.
            2019, arXiv 1906.10771, equation 8); ``gradient`` for |g| alone, which at the end of a training says little:
            fine-tune after it.

    Raises:
        InputError: If a word or a number is none of those.
    """

    score: str = "weight_gradient"

    def __post_init__(self) -> None:
        Pruning.__post_init__(self)
        one_of("score", self.score, SCORES)

    @property
    def criterion(self) -> str:
        """The criterion in the template's words."""
        if self.score == "gradient":
            return "Gradient magnitude |g|"
        return "Gradient magnitude |w·g|, weight times gradient"


@dataclass(frozen=True, slots=True, eq=False)
class FineTuning:
    """A training that wins accuracy back, with what cannot be seen from outside.

    Args:
        train: Called with the module; masks stay in force while it trains.
        epochs: Passes over the data in one call.
        data: Data it trains on: anything that ``Data`` takes, or a ``Data``.

    Raises:
        InputError: If ``train`` is no function, or ``epochs`` no positive integer.
    """

    train: Callable[[Any], Any]
    epochs: int | None = None
    data: Any = None

    def __post_init__(self) -> None:
        if not callable(self.train):
            raise InputError("fine_tune", got=repr(self.train), expected="a function that takes the module and trains it")
        if self.epochs is not None:
            positive("epochs", self.epochs)

    @staticmethod
    def of(given: Any) -> FineTuning | None:
        """``given`` as a fine-tuning: one, a function alone, or None.

        Raises:
            InputError: If it is no function.
        """
        return given if given is None or isinstance(given, FineTuning) else FineTuning(given)


@dataclass(frozen=True, slots=True)
class Given:
    """What a pruning reads besides the weights.

    Attributes:
        samples: Data for gradients and batch normalizations.
        loss: From outputs and labels of a batch to the mean loss of its samples.
        tuning: What trains after each step.
    """

    samples: Samples | None = None
    loss: Callable[[Any, Any], Any] | None = None
    tuning: FineTuning | None = None

    @staticmethod
    def of(data: Any, loss: Any, fine_tune: Any) -> Given:
        """The arguments of ``prune`` opened.

        Raises:
            InputError: If one is not what it should be.
        """
        if loss is not None and not callable(loss):
            raise InputError("loss", got=repr(loss), expected="a function of outputs and labels")
        return Given(None if data is None else Samples.of(data), loss, FineTuning.of(fine_tune))

    @property
    def names(self) -> tuple[str, ...]:
        """Arguments of ``prune`` that were given."""
        named = {"data": self.samples, "loss": self.loss, "fine_tune": self.tuning}
        return tuple(name for name, one in named.items() if one is not None)


def _ascending(given: Any) -> tuple[float, ...]:
    shares = tuple(given) if isinstance(given, Iterable) else ()
    for share in shares:
        between("steps", share, 0, 1)
    if not shares or list(shares) != sorted(set(shares)):
        raise InputError("steps", got=repr(given), expected="a number of steps, or ascending amounts")
    return shares


def _check_amount(config: Pruning) -> None:
    """Refuses two amounts that differ, and steps where the pattern leaves none."""
    several = config.steps != 1
    if config.tiles.kind == N_OF_M and several:
        raise InputError(f"pattern {config.pattern} is reached in one step", got=f"steps={config.steps!r}", expected="steps=1")
    if config.amount is not None and not isclose(config.amount, config.share):
        what = f"pattern {config.pattern} says" if config.tiles.kind == N_OF_M else "steps end at"
        said = f"{what} {config.share:g}"
        raise InputError("two amounts", got=f"amount={config.amount}, and {said}", expected="one", remedy="leave amount out")
