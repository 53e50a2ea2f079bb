"""How good a module is while it is being changed: judged on the verification data, beside the model it started as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

from torch import nn

from mlflow_aifsm.backends.torch_batches import evaluation
from mlflow_aifsm.operations.sources import as_function
from mlflow_aifsm.samples import Batch, Samples
from mlflow_aifsm.verification.criterion import Verification
from mlflow_aifsm.verification.outputs import named, reference_run
from mlflow_aifsm.verification.session import OnnxSession, Session
from mlflow_aifsm.verification.tally import Tally

NOTE = "Metrics of single steps were measured on the verification data; no step was chosen by them."


class _ModuleSession(Session):
    """A module that runs under the names of its frozen file."""

    def __init__(self, module: nn.Module, example: Any, like: Session) -> None:
        self.inputs, self.outputs, self.output_types = like.inputs, like.outputs, like.output_types
        self.description = "PyTorch, the module in evaluation mode"
        self._function = as_function(module, example)

    def _run(self, batch: Batch) -> Batch:
        return named(self._function(batch), self.outputs)


class Watch:
    """Judges a module beside the frozen file of what it started as.

    Args:
        dense: The frozen file.
        example: Example inputs of the module, ``(args, kwargs)``.
        verification: The data, decisions and metrics.
    """

    def __init__(self, dense: Path, example: Any, verification: Verification) -> None:
        self._dense, self._example = dense, example
        self._asked = replace(verification, outputs=None, runtime="", slices=None, latency=False)

    def judge(self, module: nn.Module) -> tuple[str, float]:
        """What the module's decisions are worth now.

        Returns:
            The number's name and value: the first metric of the caller; ``accuracy`` where there are labels; ``agreement``
            with the decisions of the model it started as; ``sqnr_db`` where outputs decide nothing, infinite where they are
            equal. Ratios in [0, 1].

        Raises:
            InputError: If the data do not fit the model.
        """
        like = OnnxSession(self._dense)
        with evaluation(module):
            session = _ModuleSession(module, self._example, like)
            tally = Tally(session, reference_run(self._dense, session), self._asked)
            names = [spec.name for spec in session.inputs]
            for batch, labels in Samples.of(self._asked.described).batches(self._asked.batch_size, names, session.ranks):
                tally.add(session.fit(batch), labels)
        return _worth(tally.close(), self._asked)


def _worth(numbers: Mapping[str, Any], asked: Verification) -> tuple[str, float]:
    for name in (*(asked.metrics or {}), "accuracy"):
        if f"{name}_after" in numbers:
            return name, float(numbers[f"{name}_after"])
    if "agreement" in numbers:
        return "agreement", float(numbers["agreement"])
    return "sqnr_db", float(numbers.get("sqnr_db", inf))
