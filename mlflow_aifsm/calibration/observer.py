"""One streaming pass over the calibration samples: what every asked tensor of an ONNX graph holds.

The graph runs in batches of its own length, whatever batches the data come in, and every number kept of a tensor is a count, an
extreme or an exact sum. So the same samples give the same statistics in any order, and memory does not grow with their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from mlflow_aifsm.calibration.activations import Activations
from mlflow_aifsm.calibration.reading import Seen, Witness, not_finite
from mlflow_aifsm.calibration.statistics import BUCKETS, TensorStatistics
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.samples import Batch, Samples
from mlflow_aifsm.sources import Array

BATCH = 4
"""Samples a run: enough to keep two cores busy, few enough that all activations of a batch fit into memory."""
FLOAT = "leave it in float"
_AT_ONCE = 2**20
"""Values counted at a time: numpy makes eight bytes of each."""
_WORTH = 2**17
"""Values of one tensor that are worth a pass over all its buckets: few of them wait for those of the next samples."""
_SMALLEST = 149
"""Every finite float32 is a whole multiple of 2^−149, so sums of such multiples are exact."""


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What one pass saw.

    Attributes:
        tensors: Statistics by name of the tensor.
        inputs: The graph's inputs among the tensors.
        seen: What the samples were.
    """

    tensors: Mapping[str, TensorStatistics]
    inputs: tuple[str, ...]
    seen: Seen

    @property
    def samples(self) -> int:
        """Number of samples read."""
        return self.seen.consumed


class Tally:
    """Statistics of one tensor while samples come in.

    Args:
        name: Its name.
    """

    def __init__(self, name: str) -> None:
        self._name, self._samples, self._whole = name, 0, False
        self._counts = np.zeros(BUCKETS, np.int64)
        self._waiting: list[Array] = []
        self._low, self._high = math.inf, -math.inf
        self._lows = self._highs = 0

    def add(self, values: Array, size: int, count: int, *, counted: bool = True) -> None:
        """Counts ``values`` of ``size`` samples along the first axis, of which only the first ``count`` are data.

        Where they are not ``counted``, their extremes alone are taken: for a fraction of the time.

        Rows of one sample that were joined to that axis are parted. What has no such axis, as a table of positions in a model
        with a fixed batch, is one set of values.

        Raises:
            InputError: If one is not finite, or there is none.
        """
        if not values.size:
            got, expected = f"shape {list(values.shape)} from {size} samples", "at least one value a sample"
            raise InputError(f"tensor '{self._name}' cannot be calibrated", got=got, expected=expected, remedy=FLOAT)
        if values.ndim and not len(values) % size:
            self._count(values.reshape(size, -1)[:count], counted)
        else:
            self._whole = True
            self._count(values.reshape(1, -1), counted)

    def _count(self, values: Array, counted: bool) -> None:
        rows = np.ascontiguousarray(values, np.float32).reshape(len(values), -1)
        lows, highs = rows.min(1).astype(float).tolist(), rows.max(1).astype(float).tolist()
        for low, high in zip(lows, highs, strict=True):
            self._extremes(low, high)
        if not counted:
            return
        # the second half of a little-endian float32 is its bfloat16 pattern
        buckets = rows.reshape(-1).view(np.uint16)[1::2]
        self._waiting.append(buckets.copy())  # it would be converted at half the speed as it lies
        if sum(map(len, self._waiting)) >= _WORTH:
            self._empty()

    def _empty(self) -> None:
        buckets = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
        for start in range(0, len(buckets), _AT_ONCE):
            self._counts += np.bincount(buckets[start : start + _AT_ONCE], minlength=BUCKETS)
        self._waiting.clear()

    def _extremes(self, low: float, high: float) -> None:
        if not math.isfinite(low) or not math.isfinite(high):
            remedy = "take the sample out of the calibration data, or repair the model"
            raise not_finite(self._name, self._samples, remedy)
        self._samples += 1
        self._low, self._high = min(self._low, low), max(self._high, high)
        self._lows += int(math.ldexp(low, _SMALLEST))
        self._highs += int(math.ldexp(high, _SMALLEST))

    @property
    def done(self) -> TensorStatistics:
        """The statistics of what came by; once values came without an axis of samples, their means are their extremes."""
        if self._waiting:
            self._empty()
        means = (float(Fraction(total, self._samples << _SMALLEST)) for total in (self._lows, self._highs))
        lows, highs = (self._low + 0.0, self._high + 0.0) if self._whole else means
        # adding 0.0 makes 0.0 of −0.0
        return TensorStatistics(self._name, self._counts, self._low + 0.0, self._high + 0.0, lows, highs, self._samples)


def observe(
    path: Path, tensors: Sequence[str], samples: Samples, progress: Callable[[int, int | None], None] | None = None
) -> Observation:
    """Statistics of ``tensors`` over all ``samples``, in one pass with flat memory.

    The runtime may optimize the graph as it does when deployed, as long as the asked tensors exist. The model's own number
    of samples makes a batch where it is fixed, else four, or one where a tensor's first axis is not that of the samples.
    Values are counted as float32. A tensor without an axis of samples in a model with a fixed batch is one set of values: the
    means of its extremes are its extremes.

    Args:
        path: ONNX file; external data are found beside it.
        tensors: Names of float tensors of the main graph, inputs included.
        samples: Calibration samples.
        progress: Called with the number of samples done and their total where that is known.

    Raises:
        InputError: If a tensor is unknown or holds no floats, there is no sample, the samples do not fit the model, or a
            value of an input or a tensor is not finite; it names the tensor and the sample, counted from 0.
    """
    witness, tallies = Witness(), {name: Tally(name) for name in tensors}
    session = Activations(path, tensors)
    for batch in _batches(session, samples, witness):
        outputs = _outputs(session, tensors, batch)
        for name, tally in tallies.items():
            tally.add(outputs[name], *batch.sizes(name))
        if progress is not None:
            progress(witness.seen.consumed, samples.expected)
    fed = tuple(spec.name for spec in session.inputs if spec.name in tallies)
    if not witness.seen.consumed:
        raise InputError("there is no calibration sample", got=samples.name, expected="at least one sample")
    return Observation({name: tally.done for name, tally in tallies.items()}, fed, witness.seen)


@dataclass(frozen=True, slots=True, eq=False)
class _Padded:
    """A full batch of which only the first ``count`` samples are data."""

    inputs: Batch
    count: int

    def sizes(self, name: str) -> tuple[int, int]:
        """Samples in tensor ``name``, and how many of them are data."""
        return (self.count if name in self.inputs else len(next(iter(self.inputs.values())))), self.count


def _batches(session: Activations, samples: Samples, witness: Witness) -> Iterator[_Padded]:
    size = session.fixed_batch or _size(session, samples)
    names = [spec.name for spec in session.inputs]
    for batch, labels in samples.batches(size, names, session.ranks):
        inputs = session.fit(batch)
        witness.see(inputs, labels)
        count = len(next(iter(inputs.values())))
        missing = size - count
        yield _Padded({name: np.concatenate([part, part[-1:].repeat(missing, 0)]) for name, part in inputs.items()}, count)


def _size(session: Activations, samples: Samples) -> int:
    """Samples a run: one where a tensor does not have its samples along the first axis, as in a recurrent network."""
    if not session.outputs:
        return BATCH  # inputs alone are asked for, so nothing runs
    first = next(samples.batches(1, [spec.name for spec in session.inputs], session.ranks), None)
    if first is None:
        return BATCH
    inputs = session.fit(first[0])
    one = [array.shape for array in session.run(inputs).values()]
    many = [array.shape for array in session.run({name: part.repeat(BATCH, 0) for name, part in inputs.items()}).values()]
    return BATCH if all(few and more == (BATCH * few[0], *few[1:]) for few, more in zip(one, many, strict=True)) else 1


def _outputs(session: Activations, tensors: Sequence[str], batch: _Padded) -> Batch:
    fed = {name: batch.inputs[name][: batch.count] for name in tensors if name in batch.inputs}
    if len(fed) == len(tensors):
        return fed
    found = session.run(batch.inputs)
    return fed | {name: found[name] for name in tensors if name not in fed}
