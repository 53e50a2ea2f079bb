"""All numbers of one pass over the data, added up batch by batch."""

from __future__ import annotations

import numpy as np

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Json
from mlflow_aifsm.samples import Batch
from mlflow_aifsm.sources import Array
from mlflow_aifsm.verification import slices
from mlflow_aifsm.verification.criterion import Verification
from mlflow_aifsm.verification.decisions import Decisions, decide
from mlflow_aifsm.verification.distance import Distance
from mlflow_aifsm.verification.invariance import NOT_PROBED, invariance
from mlflow_aifsm.verification.margins import low_margin, margin_of
from mlflow_aifsm.verification.outputs import DeviceOutputs
from mlflow_aifsm.verification.session import Run, Session

TARGET = "target device"
"""Where outputs come from that were brought here."""


class Tally:
    """All numbers of one pass, added up batch by batch; a decision, a label and a margin a sample are kept, never outputs.

    Args:
        session: The delivered model.
        reference: Runs the float model; None where there is none.
        verification: What the caller asks.

    Attributes:
        decisions: What both models decided.
        slices: The slices of the data, once all numbers are asked for.
    """

    def __init__(self, session: Session, reference: Run | None, verification: Verification) -> None:
        self._session, self._reference, self._verification = session, reference, verification
        given = verification.outputs
        self._device = None if given is None else DeviceOutputs(given, session.outputs)
        self._distance, self.decisions = Distance(), Decisions()
        self._margins: list[Array] = []
        self._masks = slices.masks(verification.slices)
        self.slices: tuple[slices.Slice, ...] = ()
        self._invariance: dict[str, float | str] = {}
        if given is not None:
            self._invariance = {NOT_PROBED: "repeat, batch invariance: outputs came from the target device"}

    @property
    def target(self) -> str:
        """Where the delivered model ran."""
        return "this host" if self._device is None else TARGET

    @property
    def runtime(self) -> str:
        """What ran the delivered model: not this host's runtime where outputs were brought here."""
        if self._device is None:
            return self._session.description
        return f"{TARGET}, {self._verification.runtime or 'runtime not recorded'}"

    @property
    def done(self) -> int:
        """Samples that were added."""
        return self._distance.samples

    def add(self, batch: Batch, labels: Array | None) -> None:
        """Adds one batch: inputs ``[n, …]`` as the model takes them, and labels ``[n, …]`` or None.

        Raises:
            InputError: If outputs or decisions of the two models do not fit together.
        """
        count = len(next(iter(batch.values())))
        after = self._session.run(batch) if self._device is None else self._device.take(count)
        if self._device is None and not self.done:
            self._invariance = invariance(self._session, batch, after)
        chosen = self._verification.decision
        # without a reference the candidate stands for it; what only compares the two is left out of the numbers
        before = after if self._reference is None else self._reference(batch)
        decided = decide(after, chosen)
        self.decisions.add(decided if before is after else decide(before, chosen), decided, labels, count)
        self._distance.add(_zeros(after) if before is after else before, after, count)
        if chosen is None and before is not after and (margin := margin_of(before)) is not None:
            self._margins.append(margin)

    def close(self) -> dict[str, Json]:
        """All numbers by name.

        Raises:
            InputError: If no sample was run, outputs of the device are left, labels do not fit the decisions where no metric of
                the caller judges them, a slice does not fit the samples, or a metric has nothing to be computed from.
        """
        if not self.done:
            raise InputError("the data hold no sample", expected="at least one")
        if self._device is not None:
            self._device.check_used_up()
        if not self._verification.metrics:
            self.decisions.check_labels()
        slices.check_length(self._masks, self.done)
        self.slices = slices.judged(self._masks, self.decisions, compared=self._reference is not None)
        numbers = {**self._distance.numbers, **self._probes(), **self.decisions.numbers, **self._narrow(), **self._metrics()}
        return {**(_of_one_model(numbers) if self._reference is None else numbers), **slices.numbers(self.slices)}

    @property
    def failures(self) -> tuple[str, ...]:
        """Why the outputs cannot be judged at all, whatever the limits."""
        return tuple(
            reason
            for failed, reason in (
                (
                    self._distance.broken,
                    f"{self._distance.broken} output values are NaN or infinite"
                    + ("" if self._reference is None else ", without infinities that both models share"),
                ),
                (self._invariance.get("repeat_diff"), "two runs of the same batch differ"),
            )
            if failed
        )

    def _narrow(self) -> dict[str, float]:
        return low_margin(np.concatenate(self._margins), self.decisions.changed) if self._margins else {}

    def _probes(self) -> dict[str, float | str]:
        unjudged = "{}, but the outputs decide nothing without decision="
        missing = (
            str(self._invariance.get(NOT_PROBED, "")),
            unjudged.format("accuracy: there are labels") if self.decisions.unused_labels else "",
            unjudged.format("slices: there are some") if self._masks and not len(self.decisions.before) else "",
        )
        told = "; ".join(filter(None, missing))
        return {**self._invariance, **({NOT_PROBED: told} if told else {})}

    def _metrics(self) -> dict[str, float | str]:
        found: dict[str, float | str] = {}
        for name, metric in (self._verification.metrics or {}).items():
            labels, before, after = self.decisions.labels, self.decisions.before, self.decisions.after
            if not len(labels) or not len(before):
                missing, remedy = ("labels", "labels=") if not len(labels) else ("decisions", "decision=")
                raise InputError(f"metric '{name}' has no {missing}", remedy=f"pass {remedy} to Verification")
            was, became = float(metric(labels, before)), float(metric(labels, after))
            found |= {f"{name}_before": was, f"{name}_after": became, f"{name}_drop": was - became}
        return found


def _zeros(outputs: Batch) -> Batch:
    return {name: np.zeros_like(array) for name, array in outputs.items()}


def _of_one_model(numbers: dict[str, Json]) -> dict[str, Json]:
    """The numbers that speak of the candidate alone."""
    alone = ("repeat_diff", "batch_invariance", "non_finite", "worst_class", "worst_class_samples", NOT_PROBED)
    return {name: value for name, value in numbers.items() if name in alone or name.endswith("_after")}
