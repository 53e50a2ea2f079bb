"""The steps of one optimization in their order: what each did, which call did it, and what the model was afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite

from mlflow_aifsm.facts import Fact, Json

TABLE = "steps"
"""Name of the table beside the record."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        operation: ``prune``, ``fine_tune``, ``batch_norm_adaptation``, ``freeze``, ``quantize``, or ``start`` for what went in.
        what: What was done, one phrase.
        number: Which of the calls of the optimization it belongs to, from 1 on; 0 for what went in.
        sha256: Digest of parameters and buffers, or of the file set, after the step.
        call: The fact that holds the call, where the log has one for it.
        numbers: What was counted after it, by name.
        worth: What the model was worth after it on the verification data: name and value; None where that was not measured.
        log_id: The log that holds it, where that is another one.
    """

    operation: str
    what: str
    number: int
    sha256: str
    call: Fact | None = None
    numbers: Mapping[str, Json] = field(default_factory=dict)
    worth: tuple[str, float] | None = None
    log_id: str = ""

    @property
    def measured(self) -> dict[str, Json]:
        """What was counted, and what the model was worth: ``metric`` and ``value``, None where that is no finite number."""
        if self.worth is None:
            return dict(self.numbers)
        name, value = self.worth
        return {**self.numbers, "metric": name, "value": value if isfinite(value) else None}


def rows(steps: Iterable[Step]) -> list[dict[str, Json]]:
    """The steps as rows of a table, in their order."""
    return [
        {
            "step": step.number,
            "operation": step.operation,
            "what": step.what,
            **step.measured,
            "sha256": step.sha256,
            "log_id": step.log_id,
        }
        for step in steps
    ]


def calls(steps: Sequence[Step]) -> list[Fact]:
    """One fact for each kind of call, which says in which order the calls were made where there were several."""
    made = [(step.number, step.call) for step in steps if step.call is not None]
    total = max((step.number for step in steps), default=0)
    kinds = dict.fromkeys(fact.name for _, fact in made)
    return [_joined([(number, fact) for number, fact in made if fact.name == kind], total) for kind in kinds]


def _joined(made: Sequence[tuple[int, Fact]], total: int) -> Fact:
    first = made[0][1]
    if total == 1:
        return first
    text = " ".join(f"Step {number} of {total}: {fact.value.text}." for number, fact in made)
    data = first.value.data if len(made) == 1 else [fact.value.data for _, fact in made]
    return replace(first, value=replace(first.value, text=text.removesuffix("."), data=data))
