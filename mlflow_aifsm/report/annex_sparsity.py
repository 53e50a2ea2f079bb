"""The table of zeros by weight in Annex B."""

from __future__ import annotations

from collections.abc import Iterator

from mlflow_aifsm.report.columns import Column, Values, as_it_is, cell_text, share, tensor


def _weight(row: Values) -> Iterator[str]:
    yield from tensor(row)
    # a weight is mostly called after its module
    module = cell_text(row, "module")
    yield from [f"module {module}"] if module and not cell_text(row, "tensor").startswith(f"{module}.") else []


def _zeros(row: Values) -> Iterator[str]:
    yield from filter(None, [cell_text(row, "zeros")])
    before, kept = cell_text(row, "zeros_before"), cell_text(row, "zeros_kept")
    yield from [f"before {before}"] if row.get("zeros_before") else []
    yield from [f"{kept} of these kept"] if kept != before else []


def _pattern(row: Values) -> Iterator[str]:
    yield from filter(None, [cell_text(row, "pattern")])
    yield from [f"threshold {cell_text(row, 'threshold')}"] if row.get("threshold") is not None else []


def _multiply_adds(row: Values) -> Iterator[str]:
    every, alive = cell_text(row, "multiply_adds"), cell_text(row, "nonzero_multiply_adds")
    yield from filter(None, [every])
    yield from [f"{alive} left"] if alive != every else []


def _beside(row: Values) -> Iterator[str]:
    yield from filter(None, [cell_text(row, "beside")] if row.get("beside") else [])


ZEROS = "Where a quantized weight had zeros in float, their number stands below, after 'before'. "
PATTERN = (
    "The pattern is the coarsest whose tiles the zeros of this weight fill as a whole: block:4x2 is 4 output channels by 2 "
    "neighbouring inputs, vector:4 is 4 neighbouring inputs of one output channel, a group is one kernel position in all "
    "filters, a channel is all weights of one output, 2:4 leaves 2 of 4 neighbours. "
)
LEFT = "Left are the multiply-adds of weights that are not zero. "
ROUNDED = "Zeros of a quantized weight come from rounding too: about as many as there are elements one code beside zero. "
"""What a reader has to know of a column; it is printed where the column is."""

COLUMNS = (
    Column("Weight, and layer that uses it", 30, ("tensor", "op", "layer", "module"), _weight),
    Column("Elements", 12, ("size",), as_it_is("size")),
    Column("Zeros", 14, ("zeros", "zeros_before", "zeros_kept"), _zeros, ZEROS),
    Column("Share", 10, ("ratio",), share("ratio", 4)),
    Column("Pattern", 14, ("pattern", "threshold"), _pattern, PATTERN),
    Column("Multiply-adds a sample", 18, ("multiply_adds", "nonzero_multiply_adds"), _multiply_adds, LEFT),
    Column("One code beside zero", 12, ("beside",), _beside, ROUNDED),
)
"""Columns in order; one that is empty in every row is left out."""
