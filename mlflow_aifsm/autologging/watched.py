"""Calibration samples watched while a tool reads them: nothing is read for the log, so an iterator is not used up."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mlflow_aifsm.calibration.reading import Seen, Witness
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.samples import DIGEST_BYTES, Data, Samples

TOGETHER = 1024
"""Samples of an item that are looked at together."""
HELD_BYTES = 2**28
"""Bytes of samples that are held for a second look; of more than these none are."""


@dataclass(slots=True, eq=False)
class _Pass:
    """One pass of the tool over its samples."""

    names: Sequence[str]
    ranks: Mapping[str, int]
    hold: bool
    first: Any = None
    items: int = 0
    digests: bytearray = field(default_factory=bytearray)
    held: list[Any] = field(default_factory=list)
    bytes_held: int = 0
    problem: str = ""
    flaw: str = ""
    _witness: Witness = field(default_factory=Witness)

    def see(self, item: Any) -> None:
        """Digests the samples of an item. What cannot be read is told, and does not disturb the tool."""
        self.first = item if self.items == 0 else self.first
        self.items += 1
        if self.problem:
            return
        try:
            one = Samples.of(Data(lambda: [item]))
            names = () if isinstance(item, Mapping) and not self.ranks else self.names
            for batch, labels in one.batches(TOGETHER, names, self.ranks):
                self._look(batch, labels)
            self.digests += one.digests()
            self._keep(item)
        except Exception as error:  # noqa: BLE001 -- items may be anything that the tool understands
            self.problem = f"{type(error).__name__}: {' '.join(str(error).split())}"

    @property
    def seen(self) -> Seen:
        """What was read so far."""
        return replace(self._witness.seen, consumed=len(self.digests) // DIGEST_BYTES)

    def _look(self, batch: Mapping[str, Any], labels: Any) -> None:
        try:
            self._witness.see(batch, labels)
        except InputError as error:
            self.flaw = self.flaw or error.what

    def _keep(self, item: Any) -> None:
        if not self.hold:
            return
        arrays = {name: np.array(array) for name, array in item.items()}  # a reader may fill the same buffer again
        self.bytes_held += sum(array.nbytes for array in arrays.values())
        self.held.append(arrays)
        if self.bytes_held > HELD_BYTES:
            self.hold = False
            self.held.clear()


class Watched:
    """Samples as a tool read them; of several passes the longest counts.

    Args:
        source: What the tool reads them from; its type names the data.
        names: Names of the model's inputs, in its order.
        ranks: Number of axes of each input; empty where the model does not tell, and then each item is a batch.
        hold: Whether the samples, dicts of arrays, are held in memory for a second look, if they are not too large.
    """

    def __init__(self, source: Any, names: Sequence[str], ranks: Mapping[str, int], *, hold: bool = False) -> None:
        self._name = f"unnamed {type(source).__name__}"
        self._settings = (names, ranks, hold)
        self._longest = _Pass(*self._settings)

    def watch(self, items: Iterable[Any]) -> Iterator[Any]:
        """The same items, each looked at before the tool gets it."""
        see = self.begin()
        for item in items:
            see(item)
            yield item

    def begin(self) -> Callable[[Any], None]:
        """Begins a pass; what it returns is called with each item of it."""
        one = _Pass(*self._settings)

        def see(item: Any) -> None:
            one.see(item)
            if one.items > self._longest.items:
                self._longest = one

        return see

    @property
    def samples(self) -> Samples:
        """The samples that were read; they can be read again where ``held``."""
        known = Data(lambda: iter(self._longest.held), name=self._name)
        return Samples.read_already(known, bytes(self._longest.digests))

    @property
    def seen(self) -> Seen:
        """What was read."""
        return self._longest.seen

    @property
    def held(self) -> bool:
        """Whether the samples are in memory."""
        return bool(self._longest.held)

    @property
    def first(self) -> Any:
        """The first item, as the tool got it; None if it read none."""
        return self._longest.first

    @property
    def batch(self) -> int:
        """Samples of an item, where items are alike; at least 1."""
        return max(1, round(self.seen.consumed / max(self._longest.items, 1)))

    @property
    def problem(self) -> str:
        """Why the samples are not known; empty where they are."""
        return self._longest.problem or ("" if self._longest.digests else "the call read none")

    @property
    def notes(self) -> tuple[str, ...]:
        """What is wrong with the samples."""
        return (f"Calibration read bad values: {self._longest.flaw}.",) if self._longest.flaw else ()


class _Again:
    """An iterable that begins anew each time, as the one that it stands for."""

    def __init__(self, begin: Callable[[], Iterator[Any]]) -> None:
        self._begin = begin

    def __iter__(self) -> Iterator[Any]:
        return self._begin()


def dataset(given: Any, watched: Watched) -> Any:
    """A stand-in for an ``nncf.Dataset`` that reads from the same source and is watched; the caller's object stays as it is."""
    stand_in = copy.copy(given)

    def inference_data(indices: list[int] | None = None) -> Iterable[Any]:
        return _Again(lambda: watched.watch(given.get_inference_data(indices)))

    stand_in.get_inference_data = inference_data
    return stand_in


class Reader:
    """A stand-in for a ``CalibrationDataReader`` that is watched; what it is asked goes to the caller's reader.

    ONNX Runtime may read in parts, each of which ends with None; they are one pass.
    """

    def __init__(self, given: Any, watched: Watched) -> None:
        self._given, self._see = given, watched.begin()

    def get_next(self) -> Any:
        """The next sample, None at the end."""
        item = self._given.get_next()
        if item is not None:
            self._see(item)
        return item

    def __iter__(self) -> Iterator[Any]:
        return iter(self.get_next, None)

    def __len__(self) -> int:
        return len(self._given)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # a copy asks before it has a reader
            raise AttributeError(name)
        return getattr(self._given, name)
