"""Counts activations while NNCF collects its own statistics, so that no second pass over the samples is needed.

NNCF hands each sample's activations to its collectors and keeps little more than their extremes. This is the one place that
knows how: while somebody collects, two of NNCF's classes are replaced by their subclasses here, which do the same and let
``collecting`` look on, in the thread that asked for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from nncf.common.quantization.structs import QuantizationScheme
from nncf.onnx.graph.model_transformer import ONNXModelTransformer
from nncf.onnx.statistics import aggregator
from nncf.quantization.algorithms.post_training import pipeline

from mlflow_aifsm.calibration.observer import Tally
from mlflow_aifsm.calibration.statistics import TensorStatistics
from mlflow_aifsm.calibration.told import Told
from mlflow_aifsm.errors import InputError

MOST = 50
"""Samples whose values are counted at most: a share needs no more, and counting 300 took a twentieth of NNCF's time."""

_COUNTING, _MIN_MAX = "ONNXStatisticsAggregator", "MinMaxQuantization"


@dataclass(slots=True, eq=False)
class Collected:
    """What was seen of one quantization.

    Attributes:
        every: Of how many samples one is counted; extremes are taken of all.
        read: Samples that NNCF read; with a fixed batch, batches.
        told: The range of each activation with one scale, by the name of its tensor, as NNCF's collectors gave it.
        by_channel: Activations with a range for each channel: they are not counted, as no single range clips them.
        uncounted: Why an activation was not counted, by tensor.
        problem: Why nothing is known, where this version of NNCF does not work as expected here; else empty.
    """

    every: int = 1
    read: int = 0
    told: dict[str, Told] = field(default_factory=dict)
    by_channel: set[str] = field(default_factory=set)
    uncounted: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    _algorithms: dict[str, dict[Any, Any]] = field(default_factory=dict)
    _names: dict[Any, str] = field(default_factory=dict)
    _tallies: dict[str, Tally] = field(default_factory=dict)

    @property
    def counted(self) -> int:
        """Samples whose values were counted."""
        return -(-self.read // self.every)

    @property
    def tensors(self) -> dict[str, TensorStatistics]:
        """Statistics of the values that NNCF read, by tensor; a sample of NNCF's is a sample there."""
        return {name: tally.done for name, tally in self._tallies.items()}

    def choose(self, algorithm: str, points: Mapping[Any, Any]) -> None:
        """Takes note of where the ranges of activations are collected: quantizer settings by target point."""
        self._algorithms[algorithm] = {point: how for point, how in points.items() if not point.is_weight_target_point()}

    def count(self, outputs: Mapping[str, Any], statistic_points: Any, edge: Any) -> None:
        """Counts one sample's ``outputs`` by tensor; ``edge`` tells the tensor of a target point."""
        if not self._names:
            self._names = {point: edge(point) for point, _, _ in self._collectors(statistic_points)}
            self.by_channel |= {name for point, name in self._names.items() if self._how(point).per_channel}
            self._tallies = {name: Tally(name) for name in self._names.values() if name not in self.by_channel}
        for name, tally in tuple(self._tallies.items()):
            try:
                tally.add(outputs[name].data, 1, 1, counted=self.read % self.every == 0)
            except InputError as error:
                del self._tallies[name]
                self.uncounted[name] = str(error)
        self.read += bool(self._names)

    def conclude(self, statistic_points: Any, groups: list[list[Any]]) -> None:
        """Reads the ranges off the collectors; the tensors of a group share one that holds all of theirs."""
        found = {point: collector.get_statistics() for point, _, collector in self._collectors(statistic_points)}
        for point in found:
            group = next((one for one in groups if point in one), [point])
            name = self._names.get(point)
            if name in self._tallies and name is not None:
                self.told[name] = _told([found[member] for member in group], self._how(point))

    def _collectors(self, statistic_points: Any) -> Iterator[tuple[Any, str, Any]]:
        for algorithm, statistic_point, collector in statistic_points.get_tensor_collectors():
            if statistic_point.target_point in self._algorithms.get(algorithm, {}):
                yield statistic_point.target_point, algorithm, collector

    def _how(self, point: Any) -> Any:
        return next(points[point] for points in self._algorithms.values() if point in points)


def _told(statistics: list[Any], how: Any) -> Told:
    """What NNCF's ``symmetric_range`` and ``asymmetric_range`` begin with; a symmetric range has its upper end alone."""
    low = min(float(one.min_values.data.min()) for one in statistics)
    high = max(float(one.max_values.data.max()) for one in statistics)
    if how.mode != QuantizationScheme.SYMMETRIC:
        return Told.of(low, high, symmetric=False)
    return Told.of(-high, high, symmetric=True) if low < 0 or how.signedness_to_force else Told.of(0.0, high, symmetric=False)


_collecting: ContextVar[Collected | None] = ContextVar("collecting", default=None)


def _look_on(how: Callable[[Collected], None]) -> None:
    """Calls ``how`` if somebody collects; what it stumbles over costs tables of the log, not the quantization."""
    collected = _collecting.get()
    if collected is None or collected.problem:
        return
    try:
        how(collected)
    except Exception as error:  # noqa: BLE001 -- another version of NNCF may hand anything here
        collected.problem = f"{type(error).__name__}: {' '.join(str(error).split())}"


class _Counting(vars(aggregator)[_COUNTING]):  # type: ignore[misc]
    """NNCF's pass over the samples."""

    def _register_statistics(self, outputs: Any, statistic_points: Any) -> None:
        super()._register_statistics(outputs, statistic_points)
        _look_on(lambda collected: collected.count(outputs, statistic_points, self._edge))

    def _edge(self, point: Any) -> str:
        place = (point.port_id, point.target_node_name, point.type, self.node_mapping, self.input_edges_mapping)
        return str(ONNXModelTransformer._get_target_edge(*place))  # noqa: SLF001 -- the same that makes it an output


class _MinMax(vars(pipeline)[_MIN_MAX]):  # type: ignore[misc]
    """NNCF's choice of ranges."""

    def get_statistic_points(self, model: Any, graph: Any) -> Any:
        points = super().get_statistic_points(model, graph)
        _look_on(lambda collected: collected.choose(self._algorithm_key, self._get_quantization_target_points(model, graph)[0]))
        return points

    def apply(self, model: Any, graph: Any, statistic_points: Any = None, dataset: Any = None) -> Any:
        made = super().apply(model, graph, statistic_points, dataset)
        _look_on(lambda collected: collected.conclude(statistic_points, self._get_quantization_target_points(model, graph)[1]))
        return made


_REPLACED = ((aggregator, _COUNTING, _Counting), (pipeline, _MIN_MAX, _MinMax))
_ORIGINALS = tuple((module, name, getattr(module, name)) for module, name, _ in _REPLACED)
_CHANGING = Lock()
_collectors: list[Collected] = []


def _replaced(collected: Collected) -> None:
    """The subclasses in NNCF's place, from the first collector on."""
    with _CHANGING:
        _collectors.append(collected)
        for module, name, one in _REPLACED:
            setattr(module, name, one)


def _restored(collected: Collected) -> None:
    """NNCF as it was, when the last collector ends; until then another thread's call may need the subclasses."""
    with _CHANGING:
        _collectors.remove(collected)
        for module, name, one in _ORIGINALS if not _collectors else ():
            setattr(module, name, one)


@contextmanager
def collecting(samples: int = MOST) -> Iterator[Collected]:
    """While it lasts, what NNCF's quantization of an ONNX graph collects in this thread is counted.

    Args:
        samples: How many samples NNCF will read: up to ``MOST`` are all counted, of more every second, third …
    """
    collected = Collected(every=max(1, -(-samples // MOST)))
    token = _collecting.set(collected)
    _replaced(collected)
    try:
        yield collected
    finally:
        _restored(collected)
        _collecting.reset(token)
