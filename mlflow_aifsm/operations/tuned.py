"""What won accuracy back after a pruning, in words and numbers."""

from __future__ import annotations

from torch import nn

from mlflow_aifsm.backends.fine_tuning import FineTuned
from mlflow_aifsm.facts import Json
from mlflow_aifsm.operations.generators import kept
from mlflow_aifsm.operations.pruning import FineTuning
from mlflow_aifsm.samples import Samples


def text(done: FineTuned, tuning: FineTuning, data: Samples | None) -> str:
    """One phrase: what was seen of a training, and what only the caller can tell.

    Args:
        done: What was seen.
        tuning: What was asked for.
        data: The data it names; None where it names none.
    """
    name = " ".join(str(getattr(tuning.train, "__name__", type(tuning.train).__name__)).split())
    epochs = f"{tuning.epochs} epoch{'' if tuning.epochs == 1 else 's'}" if tuning.epochs else "epochs not told"
    read = f"on {data.describe()}" if data is not None else "data not told"
    return f"fine-tuned by {name}: {epochs}, {read}, {_optimizers(done)}, seed {done.seed}"


def numbers(done: FineTuned) -> dict[str, Json]:
    """Steps and last learning rate."""
    rates = done.learning_rates
    return {"optimizer_steps": done.steps, **({"learning_rate": rates[2]} if rates else {})}


def notes(done: FineTuned) -> tuple[str, ...]:
    """A training that trained nothing is said so."""
    return () if done.changed else ("fine_tune changed no parameter of the module that it got.",)


def _optimizers(done: FineTuned) -> str:
    if not done.steps:
        return "no step of an optimizer of torch.optim was seen"
    low, high, last = done.learning_rates or (0.0, 0.0, 0.0)
    rate = f"learning rate {last:g}" if low == high else f"learning rate from {high:g} to {low:g}, {last:g} at the end"
    settings = "".join(f", {name} {', '.join(map(str, values))}" for name, values in done.settings.items())
    return f"{', '.join(done.optimizers)}, {done.steps} steps, {rate}{settings}"


@kept()
def adapted(module: nn.Module, samples: Samples, count: int) -> str:
    """Adapts the running statistics of batch normalizations with NNCF; returns one phrase.

    Raises:
        OptimizationError: If NNCF refuses the module.
    """
    from mlflow_aifsm.backends import batch_norm

    return batch_norm.adapt(module, samples, count).text
