"""How good a module is while it is being changed: judged on the verification data, beside the model it started as."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from mlflow_aifsm.backends.torch_batches import evaluation
from mlflow_aifsm.operations.generators import kept
from mlflow_aifsm.operations.sources import as_function
from mlflow_aifsm.progress import progress
from mlflow_aifsm.samples import Batch, Samples
from mlflow_aifsm.verification.criterion import Verification
from mlflow_aifsm.verification.outputs import named, reference_run
from mlflow_aifsm.verification.session import OnnxSession, Run, Session
from mlflow_aifsm.verification.tally import Tally

HELD = 256 * 2**20
"""Bytes of the first model's outputs that are held between steps; what lies beyond is computed again."""
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
        self._like, self._free = OnnxSession(dense), HELD
        self._held: dict[bytes, Batch] = {}
        self._asked = replace(verification, outputs=None, runtime="", slices=None, latency=False)

    @kept()
    def judge(self, module: nn.Module) -> tuple[str, float]:
        """What the module's decisions are worth now.

        Returns:
            The number's name and value: the first metric of the caller; ``accuracy`` where there are labels; ``agreement``
            with the decisions of the model it started as; ``sqnr_db`` where outputs decide nothing, infinite where they are
            equal. Ratios in [0, 1].

        Raises:
            InputError: If the data do not fit the model.
        """
        session = _ModuleSession(module, self._example, self._like)
        tally = Tally(session, self._remembered(reference_run(self._dense, session)), self._asked)
        names, samples = [spec.name for spec in session.inputs], Samples.of(self._asked.described)
        with evaluation(module), progress("judging the step") as shown:
            for batch, labels in samples.batches(self._asked.batch_size, names, session.ranks):
                tally.add(session.fit(batch), labels)
                if shown is not None:
                    shown(tally.done, samples.expected)
        return _worth(tally.close(), self._asked)

    def _remembered(self, run: Run) -> Run:
        """``run`` of the first model, whose outputs are the same at every step; by content, as a loader may shuffle."""

        def remembered(batch: Batch) -> Batch:
            key = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in batch.values())).digest()
            if key in self._held:
                return self._held[key]
            outputs = run(batch)
            self._free -= sum(array.nbytes for array in outputs.values())
            if self._free >= 0:
                self._held[key] = outputs
            return outputs

        return remembered


def _worth(numbers: Mapping[str, Any], asked: Verification) -> tuple[str, float]:
    for name in (*(asked.metrics or {}), "accuracy"):
        if f"{name}_after" in numbers:
            return name, float(numbers[f"{name}_after"])
    if "agreement" in numbers:
        return "agreement", float(numbers["agreement"])
    return "sqnr_db", float(numbers.get("sqnr_db", inf))
