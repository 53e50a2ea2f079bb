"""What the histograms of calibration show: the tensors that lose most, each with the range that was calibrated for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mlflow_aifsm.report.plot_words import Values, decibels, name, percent, shortened, signed, value

MOST = 6
"""Tensors that are drawn: as many as stand on a page and are looked at."""
TITLE = "Calibration values and calibrated ranges"
NAME = 44
"""Columns of a name above a histogram."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """One tensor's values in calibration.

    Attributes:
        name: Its name, shortened.
        edges: Ends of the bins, ascending, in the tensor's own units; one more than ``counts``.
        counts: Values by bin.
        low: Lower end β of the calibrated range; None where the table has none.
        high: Upper end α.
        sqnr_db: SQNR of the tensor quantized alone; None where the table has none.
        clipped: Share of the values outside the range, in [0, 1]; None where the table has none.
    """

    name: str
    edges: tuple[float, ...]
    counts: tuple[float, ...]
    low: float | None = None
    high: float | None = None
    sqnr_db: float | None = None
    clipped: float | None = None

    @property
    def numbers(self) -> str:
        """``SQNR 24.2 dB · 0.12 % clipped``."""
        told = (
            "SQNR not in the table" if self.sqnr_db is None else f"SQNR {decibels(self.sqnr_db)} dB",
            "clipped share not in the table" if self.clipped is None else f"{percent(self.clipped)} % clipped",
        )
        return " · ".join(told)

    @property
    def words(self) -> str:
        """The same and the range as running text."""
        ends = "" if self.low is None or self.high is None else f"range {signed(self.low)} to {signed(self.high)}"
        ratio = "" if self.sqnr_db is None else f"{decibels(self.sqnr_db)} decibels"
        share = "" if self.clipped is None else f"{percent(self.clipped)} percent of the values outside"
        return f"{self.name}: {', '.join(filter(None, (ends, ratio, share))) or 'range not in the table'}"


@dataclass(slots=True)
class _Bins:
    edges: list[float] = field(default_factory=list)
    counts: list[float] = field(default_factory=list)

    def add(self, low: float, high: float, count: float) -> None:
        if not self.edges:
            self.edges.append(low)
        if low > self.edges[-1]:
            self.edges.append(low)
            self.counts.append(0.0)
        self.edges.append(high)
        self.counts.append(count)


def histograms(tables: Mapping[str, Sequence[Values]]) -> tuple[Histogram, ...]:
    """The worst tensors of table ``distributions`` by SQNR, the worst first; empty where there is no such table."""
    told = {row.get("tensor"): row for row in tables.get("calibration", ())}
    rows: dict[object, list[Values]] = {}
    for row in tables.get("distributions", ()):
        rows.setdefault(row.get("tensor"), []).append(row)
    made = (_histogram(bins, told.get(tensor, {})) for tensor, bins in rows.items())
    worst = sorted((found for found in made if any(found.counts)), key=_worst_first)[:MOST]
    names = shortened([found.name for found in worst], NAME)
    return tuple(replace(found, name=shown) for found, shown in zip(worst, names, strict=True))


def _worst_first(histogram: Histogram) -> float:
    return math.inf if histogram.sqnr_db is None else histogram.sqnr_db


def _histogram(rows: Sequence[Values], told: Values) -> Histogram:
    bins, first = _Bins(), rows[0]
    for one in sorted(_bins(rows)):
        bins.add(*one)
    low, high = value(first, "calibrated_min"), value(first, "calibrated_max")
    return Histogram(
        name(first, "tensor"),
        tuple(bins.edges),
        tuple(bins.counts),
        low,
        high,
        value(told, "sqnr_db"),
        value(told, "clip_fraction"),
    )


def _bins(rows: Iterable[Values]) -> Iterator[tuple[float, float, float]]:
    for row in rows:
        low, high, count = value(row, "bin_low"), value(row, "bin_high"), value(row, "count")
        if low is not None and high is not None and count is not None:
            yield low, high, count


def alt(drawn: Sequence[Histogram]) -> str:
    """The plot in words, its numbers among them."""
    which = "one tensor" if len(drawn) == 1 else f"{len(drawn)} tensors"
    begin = f"Histograms of the calibration values of {which}, lowest signal to quantization noise ratio first, "
    return f"{begin}each with its calibrated range. {'; '.join(found.words for found in drawn)}."


def caption(drawn: Sequence[Histogram]) -> str:
    """How to read the plot."""
    which = "the tensor" if len(drawn) == 1 else f"the {len(drawn)} tensors"
    return (
        f"Values seen in calibration, for {which} with the lowest SQNR. The band is the calibrated range [β, α]; values "
        "outside it are clipped to its ends. Counts are on a logarithmic axis, so a thin tail is seen as well as the bulk."
    )
