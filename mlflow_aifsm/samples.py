"""Data of any form as named batches: re-iterable, in order, counted and digested in the same pass that uses them.

A sample is digested as its source gives it, before preprocessing and before any cast to a model's dtype: SHA-256 over the
line ``<dtype> <shape>`` and the raw bytes of each input in the model's order, names left out. So an array, and the same array
under a name in a file, have equal digests, and an overlap of two data sets shows.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.sources import LABEL_KEYS, Array, Form, as_array, open_source

Batch = dict[str, Array]
"""Arrays by input name; the first axis counts the samples."""

DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """A data source with what cannot be read from it.

    Args:
        source: An array (first axis counts the samples), dict of arrays, tensor, list of samples, DataLoader,
            ``nncf.Dataset``, ``mlflow.data`` dataset, DataFrame, path of an ``.npy``, ``.npz`` or Parquet file, or a function
            that returns an iterator.
        name: Name for the log; derived from the source if empty.
        version: Version of the data set for the log.
        preprocess: The deployed preprocessing. It is called with one raw sample, without batch axis: an array for a model
            of one input, a dict of arrays for several. It returns the same form, as the model takes it.
        labels: One label a sample, first axis in the order of the samples.
    """

    source: Any
    name: str = ""
    version: str = ""
    preprocess: Callable[[Any], Any] | None = None
    labels: Any = None


class Samples:
    """Named batches of any data source.

    Memory does not grow with the number of samples but for 32 bytes of digest each, where the source itself is read piece by
    piece: a function, a loader, an ``.npy`` or Parquet file. An ``.npz`` file is loaded whole.

    Attributes:
        unsteady: Whether two complete passes gave other samples, or another order, as a loader that shuffles does.
    """

    def __init__(self, data: Data) -> None:
        self._data = data
        self._source = open_source(data.source)
        self._labels = None if data.labels is None else as_array(data.labels)
        self._names: tuple[str, ...] = ()
        self._digests: bytes | None = None
        self._pass: bytes | None = None
        self._most = sys.maxsize
        self.unsteady = False

    @staticmethod
    def of(source: Any) -> Samples:
        """The samples of ``source``: anything that ``Data`` takes, a ``Data``, or samples already opened.

        Raises:
            InputError: If the source is an iterator that can be read only once, or nothing that holds samples.
        """
        if isinstance(source, Samples):
            return source
        return Samples(source if isinstance(source, Data) else Data(source))

    @staticmethod
    def read_already(data: Data, digests: bytes) -> Samples:
        """Samples that somebody else read, whose ``digests`` are known: 32 bytes each, in their order."""
        known = Samples(data)
        known._digests = digests
        return known

    def first(self, most: int) -> Samples:
        """The first ``most`` of these samples: what is not read is no part of what was used."""
        limited = Samples(self._data)
        limited._most = min(most, self._most)
        return limited

    def batches(
        self, size: int, input_names: Sequence[str], ranks: Mapping[str, int] | None = None
    ) -> Iterator[tuple[Batch, Array | None]]:
        """Batches of exactly ``size`` samples (the last may be smaller) bound to the model's inputs, with their labels.

        Args:
            size: Samples a batch, whatever the batch size of the source.
            input_names: Names of the model's inputs, in its order.
            ranks: Number of axes of each input, batch axis included. It tells an item of a list or an iterator that is a
                batch from one that is a sample; without it, items of a list are samples, all others are batches.

        Yields:
            Arrays by input name, shape ``[n, …]``, in the source's dtype, and labels ``[n, …]`` or None.

        Raises:
            InputError: If names, shapes or numbers of samples do not fit together.
        """
        self._names = tuple(input_names)
        seen = bytearray()
        rows = self._rows({} if self._data.preprocess else ranks or {}, seen)
        while batch := list(islice(rows, size)):
            labels = [label for _, label in batch if label is not None]
            yield _stacked([inputs for inputs, _ in batch]), np.stack(labels) if labels else None
        self._digests = bytes(seen)
        self.unsteady |= self._pass not in {None, self._digests}
        self._pass = self._digests

    @property
    def count(self) -> int:
        """Number of samples; read through if nobody did yet."""
        return len(self.digests()) // DIGEST_BYTES

    @property
    def expected(self) -> int | None:
        """Number of samples where it is known without reading them, else None."""
        if self._digests is not None:
            return self.count
        return None if self._source.total is None else min(self._source.total, self._most)

    @property
    def digest(self) -> str:
        """SHA-256 in hex over the samples' digests in the order of the last complete pass."""
        return hashlib.sha256(self.digests()).hexdigest()

    @property
    def sample_digests(self) -> frozenset[str]:
        """SHA-256 in hex of every sample, without order."""
        seen = self.digests()
        return frozenset(seen[start : start + DIGEST_BYTES].hex() for start in range(0, len(seen), DIGEST_BYTES))

    @property
    def name(self) -> str:
        """Name of the data: the given one, else that of the file or data set, else the kind of source."""
        return self._data.name or self._source.name

    @property
    def version(self) -> str:
        """Version of the data set; empty if none was given."""
        return self._data.version

    @property
    def preprocessing(self) -> str:
        """Name of the function that prepares each sample; empty if there is none."""
        function = self._data.preprocess
        return "" if function is None else getattr(function, "__qualname__", type(function).__name__)

    def describe(self) -> str:
        """One phrase for the log: name, version, number of samples, digest."""
        version = f" version {self.version}" if self.version else ""
        return f"{self.name}{version}, {self.count} sample{'' if self.count == 1 else 's'}, sha256 {self.digest[:12]}…"

    def digests(self) -> bytes:
        """SHA-256 of every sample, 32 bytes each, in the order of the last complete pass."""
        if self._digests is None:
            for _ in self._rows({}, seen := bytearray()):
                pass
            self._digests = bytes(seen)
        return self._digests

    def _rows(self, ranks: Mapping[str, int], seen: bytearray) -> Iterator[tuple[Batch, Array | None]]:
        index = 0
        for item in self._source.items(self._names):
            inputs, labels = _bound(item, self._names)
            for sample, label in _split(inputs, labels, _is_batch(inputs, ranks, self._source.form)):
                seen += _sample_digest(sample)
                yield self._prepared(sample), self._label(index, label)
                index += 1
                if index == self._most:
                    return
        if self._labels is not None and index != len(self._labels):
            raise InputError("labels do not fit the samples", got=f"{len(self._labels)} labels", expected=f"{index}")

    def _prepared(self, sample: Batch) -> Batch:
        if self._data.preprocess is None:
            return sample
        result = self._data.preprocess(next(iter(sample.values())) if len(sample) == 1 else sample)
        return _bound(result if isinstance(result, Mapping) else (result,), self._names or tuple(sample))[0]

    def _label(self, index: int, label: Array | None) -> Array | None:
        if self._labels is None:
            return label
        if index >= len(self._labels):
            raise InputError("labels do not fit the samples", got=f"{len(self._labels)} labels", expected="one a sample")
        return np.asarray(self._labels[index])


def _bound(item: Any, names: tuple[str, ...]) -> tuple[Batch, Array | None]:
    """The arrays of an item by input name, and its labels."""
    inputs, label = _parted(item, names)
    if not isinstance(inputs, Mapping):
        arrays = [as_array(part) for part in inputs]
        return dict(zip(names or map(str, range(len(arrays))), arrays, strict=True)), label
    if names and set(inputs) != set(names):
        remedy = "name the arrays like the model's inputs"
        raise InputError("data do not name the model's inputs", got=sorted(inputs), expected=sorted(names), remedy=remedy)
    return {name: as_array(inputs[name]) for name in names or sorted(inputs)}, label


def _parted(item: Any, names: tuple[str, ...]) -> tuple[Mapping[str, Any] | Sequence[Any], Array | None]:
    if isinstance(item, Mapping):
        key = next((key for key in LABEL_KEYS if key in item and key not in names), None)
        inputs = {str(name): part for name, part in item.items() if name != key}
        return inputs, None if key is None else as_array(item[key])
    parts: Sequence[Any] = item if _is_parts(item) else [item]
    match parts:
        case [nested, labels] if isinstance(nested, Mapping) or _is_parts(nested):
            return _parted(nested, names)[0], as_array(labels)
    wanted = len(names) or max(len(parts) - 1, 1)
    if len(parts) not in (wanted, wanted + 1):
        raise InputError("data do not fit the model's inputs", got=f"{len(parts)} parts", expected=f"{wanted}: {list(names)}")
    return parts[:wanted], as_array(parts[wanted]) if len(parts) > wanted else None


def _is_parts(item: Any) -> bool:
    """A tuple is parts; a list is where it holds arrays, as that of a DataLoader, and not a sample written as numbers."""
    return isinstance(item, tuple) or (isinstance(item, list) and bool(item) and _holds_array(item[0]))


def _holds_array(part: Any) -> bool:
    return hasattr(part, "shape") or isinstance(part, Mapping)


def _is_batch(inputs: Batch, ranks: Mapping[str, int], form: Form) -> bool:
    name, array = next(iter(inputs.items()))
    rank = None if form == "whole" else ranks.get(name)
    if rank is None:
        return form != "samples"
    if array.ndim not in (rank, rank - 1):
        expected = f"{rank} axes for a batch, {rank - 1} for a sample"
        raise InputError(f"data of input '{name}' do not fit", got=f"shape {list(array.shape)}", expected=expected)
    return array.ndim == rank


def _split(inputs: Batch, labels: Array | None, batch: bool) -> Iterator[tuple[Batch, Array | None]]:
    if not batch:
        yield inputs, labels
        return
    parts = [*inputs.values(), *([] if labels is None else [labels])]
    lengths = {part.shape[0] if part.ndim else 0 for part in parts}
    if len(lengths) != 1 or not all(part.ndim for part in parts):
        shapes = [list(part.shape) for part in parts]
        raise InputError("inputs and labels have no common first axis", got=f"shapes {shapes}", expected="one entry a sample")
    for index in range(lengths.pop()):
        yield {name: array[index] for name, array in inputs.items()}, None if labels is None else np.asarray(labels[index])


def _sample_digest(sample: Batch) -> bytes:
    digest = hashlib.sha256()
    for part in sample.values():
        array = np.asarray(part)
        digest.update(f"{array.dtype.str} {list(array.shape)}\n".encode() + array.tobytes())
    return digest.digest()


def _stacked(samples: list[Batch]) -> Batch:
    try:
        return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
    except ValueError as error:
        shapes = sorted({str([list(array.shape) for array in sample.values()]) for sample in samples})
        raise InputError("samples differ in shape", got=", ".join(shapes[:3]), expected="one shape") from error
