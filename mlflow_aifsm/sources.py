"""Every kind of data source: how it is recognised, how it is read, and what its items are.

Nothing here imports the framework a source comes from: a tensor, a DataLoader or a data set is recognised by what it can do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mlflow_aifsm.errors import InputError

Array = npt.NDArray[Any]

LABEL_KEYS = ("labels", "y")
"""Keys of a dict, ``.npz`` or table that hold labels, unless the model has an input of that name."""
PARQUET_ROWS = 1024
"""Rows of a Parquet file in memory at a time."""

Form = Literal["whole", "batches", "samples"]
"""What an item of a source is: all samples or rows of a table; or, where its rank does not tell, a batch or a sample."""


def as_array(value: Any) -> Array:
    """``value`` as a numpy array; tensors are detached and brought to the host.

    Raises:
        InputError: If it has no array form, because its rows differ in length for instance.
    """
    try:
        array = np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
    except (TypeError, ValueError) as error:
        raise InputError(f"a {type(value).__name__} has no array form: {error}", expected="an array") from error
    if array.dtype == object:
        raise InputError(f"a {type(value).__name__} has no array form", got="dtype object", expected="numbers")
    return array


@dataclass(frozen=True, slots=True)
class Source:
    """A source that is ready to be read, again and again.

    Attributes:
        name: Name of the file, data set or function, else the kind of source.
        items: The items for given names of the model's inputs, in order.
        form: What an item is.
        total: Number of samples, where it is known without reading them.
    """

    name: str
    items: Callable[[tuple[str, ...]], Iterable[Any]]
    form: Form = "batches"
    total: int | None = None


def open_source(source: Any) -> Source:
    """``source`` by the first row of ``SOURCES`` that fits.

    Raises:
        InputError: If no row fits, the source can be read only once, or its file does not exist.
    """
    for fits, opened in SOURCES:
        if fits(source):
            return opened(source)
    expected = "an array, dict of arrays, list, DataLoader, data set, path, or a function that returns an iterator"
    raise InputError("data cannot be read", got=type(source).__name__, expected=expected)


def _whole(source: Any, name: str = "", labels: Any = None) -> Source:
    first = next(iter(source.values()), ()) if isinstance(source, Mapping) else source
    item = source if labels is None else (source, labels)
    return Source(name or _type_name(source), lambda _: [item], "whole", len(first) if np.ndim(first) else None)


def _frame(frame: Any, name: str = "unnamed DataFrame", target: str | None = None) -> Source:
    columns = {str(key): frame[key].to_numpy() for key in frame.columns}
    return Source(name, lambda names: [_columns(columns, names, target)], "whole", len(frame))


def _columns(columns: Mapping[str, Array], names: tuple[str, ...], target: str | None = None) -> Any:
    """Columns named like the inputs are the inputs; other columns are the features of a model's only input."""
    label = target or next((key for key in LABEL_KEYS if key in columns and key not in names), None)
    inputs = {key: _dense(column) for key, column in columns.items() if key != label}
    if set(names) <= set(inputs) and names:
        named: Any = {name: inputs[name] for name in names}
    else:
        named = inputs if len(names) > 1 else np.column_stack(list(inputs.values()))
    return (named, _dense(columns[label])) if label else named


def _dense(column: Array) -> Array:
    """A column of a table whose cells may be lists of equal length, as one array."""
    return np.stack([_dense(np.asarray(cell)) for cell in column]) if column.dtype == object else column


def _path(source: str | Path) -> Source:
    path = Path(source)
    if not path.is_file():
        raise InputError(f"data file {path} does not exist", expected="an .npy, .npz or .parquet file")
    if path.suffix == ".npy":
        return _whole(np.load(path, mmap_mode="r"), path.name)
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            content = {key: arrays[key] for key in arrays.files}
        return _whole(content["arr_0"] if set(content) == {"arr_0"} else content, path.name)
    if path.suffix in (".parquet", ".pq"):
        return Source(path.name, lambda names: _parquet(path, names), "whole")
    raise InputError(f"data file {path.name}", got=f"suffix '{path.suffix}'", expected=".npy, .npz or .parquet")


def _parquet(path: Path, names: tuple[str, ...]) -> Iterator[Any]:
    # imported here, because only a Parquet file needs it
    from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]

    with ParquetFile(path) as file:
        for rows in file.iter_batches(PARQUET_ROWS):
            yield _columns({key: rows[key].to_numpy(zero_copy_only=False) for key in rows.schema.names}, names)


def _one_shot(source: Any) -> Source:
    remedy = "pass a function that returns it"
    raise InputError("an iterator can be read only once", got=type(source).__name__, expected="re-iterable data", remedy=remedy)


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda source: all(hasattr(source, name) for name in names)


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda source: isinstance(source, kinds)


def _type_name(source: Any) -> str:
    return f"unnamed {type(source).__name__}"


def _by_index(items: Any) -> Iterator[Any]:
    return (items[index] for index in range(len(items)))


SOURCES: tuple[tuple[Callable[[Any], bool], Callable[[Any], Source]], ...] = (
    (_is(np.ndarray, Mapping), _whole),
    (_has("columns", "to_numpy"), _frame),
    (_has("detach", "cpu"), lambda tensor: _whole(as_array(tensor), _type_name(tensor))),
    (_is(str, Path), _path),
    (_has("features", "targets"), lambda dataset: _whole(dataset.features, dataset.name, dataset.targets)),
    (_has("df", "name"), lambda dataset: _frame(dataset.df, dataset.name, getattr(dataset, "targets", None))),
    (_has("get_inference_data"), lambda dataset: Source("unnamed nncf.Dataset", lambda _: dataset.get_inference_data())),
    (_is(list, tuple), lambda items: Source(_type_name(items), lambda _: items, "samples", len(items))),
    (_has("__next__"), _one_shot),
    (callable, lambda function: Source(getattr(function, "__name__", _type_name(function)), lambda _: function())),
    (_has("__iter__"), lambda loader: Source(_type_name(loader), lambda _: loader)),
    (
        _has("__getitem__", "__len__"),
        lambda items: Source(_type_name(items), lambda _: _by_index(items), "samples", len(items)),
    ),
)
"""Each kind of source: how it is recognised, and how it is opened; the first that fits is taken."""
