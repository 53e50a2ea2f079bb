"""Where outputs come from besides the delivered file: a float model's file, the framework's model, the target device.

All become arrays by the names of the delivered model's outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.samples import Batch
from mlflow_aifsm.sources import Array, as_array
from mlflow_aifsm.verification.session import Run, Session, in_pieces
from mlflow_aifsm.verification.sessions import session_of

Outputs = Mapping[str, Any] | Sequence[Any]


def named(outputs: Any, names: Sequence[str]) -> Batch:
    """``outputs`` (an array, a sequence or a mapping of arrays) as arrays under ``names``.

    A mapping is matched by name if it holds exactly these names, else by order, as a sequence is.

    Raises:
        InputError: If there are not as many outputs as names.
    """
    if isinstance(outputs, Mapping) and set(outputs) == set(names):
        return {name: as_array(outputs[name]) for name in names}
    values = list(outputs.values()) if isinstance(outputs, Mapping) else outputs
    several = isinstance(values, list | tuple)
    arrays = [as_array(value) for value in values] if several else [as_array(values)]
    if len(arrays) != len(names):
        raise InputError("outputs differ in number", got=len(arrays), expected=f"{len(names)}: {', '.join(names)}")
    return dict(zip(names, arrays, strict=True))


def reference_run(reference: Callable[[Batch], Outputs] | Path, candidate: Session) -> Run:
    """A function that runs the reference on a batch bound to the candidate's inputs.

    Where the candidate has a fixed batch axis, the reference gets the same pieces: a program exported with it takes no other.

    Args:
        reference: The float model's file, run as the candidate is; or a function that runs the framework's model on
            arrays by input name.
        candidate: The delivered model, whose names of inputs and outputs are used.
    """
    if isinstance(reference, Path):
        run = _session_run(session_of(reference), candidate)
    else:
        run = _function_run(reference, candidate.outputs)
    return lambda batch: in_pieces(run, batch, candidate.fixed_batch)


def paired_inputs(candidate: Session, reference: Session) -> dict[str, str]:
    """The reference's input for each of the candidate's: by name if they have the same names, else by order.

    Raises:
        InputError: If there are not as many.
    """
    ours, theirs = ([spec.name for spec in model.inputs] for model in (candidate, reference))
    if len(ours) != len(theirs):
        raise InputError("the two models differ in inputs", got=ours, expected=theirs)
    return dict(zip(ours, ours if set(ours) == set(theirs) else theirs, strict=True))


def _function_run(function: Callable[[Batch], Outputs], names: Sequence[str]) -> Run:
    return lambda batch: named(function(batch), names)


def _session_run(session: Session, candidate: Session) -> Run:
    pairs = paired_inputs(candidate, session)
    return lambda batch: named(session.run({there: batch[here] for here, there in pairs.items()}), candidate.outputs)


class DeviceOutputs:
    """Outputs brought back from the target device, handed out batch by batch in the order of the samples."""

    def __init__(self, outputs: Any, names: Sequence[str]) -> None:
        self._outputs = named(outputs, names)
        self._start = 0

    def take(self, count: int) -> Batch:
        """The outputs of the next ``count`` samples.

        Raises:
            InputError: If there are fewer.
        """
        part = {name: self._slice(name, array, count) for name, array in self._outputs.items()}
        self._start += count
        return part

    def check_used_up(self) -> None:
        """Raises an error if outputs are left when the samples are not.

        Raises:
            InputError: If there are more outputs than samples.
        """
        for name, array in self._outputs.items():
            if len(array) != self._start:
                raise InputError(f"output '{name}' of the device", got=f"{len(array)} samples", expected=self._start)

    def _slice(self, name: str, array: Array, count: int) -> Array:
        part = array[self._start : self._start + count]
        if len(part) < count:
            raise InputError(
                f"output '{name}' of the device", got=f"{len(array)} samples", expected=f"at least {self._start + count}"
            )
        return part
