"""Annex B: every quantizer and every weight of the file, as many columns as a page can hold, and what was left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from mlflow_aifsm.record import Evidence
from mlflow_aifsm.report import annex_sparsity as sparsity
from mlflow_aifsm.report.annex_excerpt import counted, excerpt, which
from mlflow_aifsm.report.blocks import Block, Cell, Heading, Paragraph, Role, Row, Table, Text
from mlflow_aifsm.report.columns import Column, Values, as_it_is, both_ends, cell_span, cell_text, plain, share, tensor
from mlflow_aifsm.report.words import line, quiet, spaced

MOST = 7
"""Columns of a series that the document does not know."""

TITLES: Mapping[str, str] = {
    "steps": "Steps",
    "quantizers": "Quantizers",
    "calibration": "Calibration",
    "layers": "Quantization noise by layer",
    "sparsity": "Sparsity",
}
"""The series in the order of the annex, with their headings."""

OPTIONAL = frozenset({"steps", "calibration", "layers"})
"""Series that only some operations make, and whose absence therefore says nothing."""


def layers(evidence: Evidence) -> Iterable[Block]:
    """The tables of Annex B; one that every log has says why it is empty."""
    for name, title in TITLES.items():
        rows = [row for row in evidence.tables.get(name, ()) if row]
        if rows or name not in OPTIONAL:
            yield Heading(2, "", Text(title))
            yield from _series(name, rows)


def _series(name: str, rows: Sequence[Values]) -> Iterator[Block]:
    if not rows:
        yield line(f"No table of {name} lies beside this record; a file that holds none has no table.")
        return
    columns = _columns(name, rows)
    yield from counted(name, rows)
    cells = [[tuple(column.lines(row)) for column in columns] for row in excerpt(name, rows)]
    total = sum(column.width for column in columns)
    widths = tuple(round(100 * column.width / total) for column in columns)
    titles = tuple(Text(column.title) for column in columns)
    yield Table(titles, tuple(Row(tuple(map(_cell, row))) for row in cells), widths)
    yield line(quiet(_note(name, rows, columns)))


def _columns(name: str, rows: Sequence[Values]) -> tuple[Column, ...]:
    """The columns that hold something; those of a series the document does not know are its own first ones."""
    known = COLUMNS.get(name, ())
    shown = tuple(column for column in known if any(text for row in rows for text in column.lines(row)))
    return shown or tuple(plain(own) for own in _names(rows)[:MOST])


def _names(rows: Sequence[Values]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for row in rows for name in row))


def _cell(lines: tuple[str, ...]) -> Cell:
    first, *more = lines or ("",)
    return Cell((line(first), *(Paragraph((quiet(text),), Role.META) for text in more)))


def _note(name: str, rows: Sequence[Values], columns: Sequence[Column]) -> str:
    drawn = {own for column in columns for own in column.names}
    rest = [spaced(own) for own in _names(rows) if own not in drawn]
    more = f" Left out here: {', '.join(rest)}." if rest else ""
    beside = f"{name}.csv beside the record holds all rows and columns. An empty cell holds no value."
    reading = READING.get(name, "") + "".join(column.reading for column in columns)
    return f"{reading}{which(rows)}{more} {beside}"


def _type(row: Values) -> Iterator[str]:
    yield from filter(None, [cell_text(row, "kind")])
    bits, effective, codes = cell_text(row, "bits"), cell_text(row, "effective_bits"), cell_span(row, "codes")
    yield from filter(None, [", ".join(filter(None, (cell_text(row, "dtype"), bits and f"{bits} bits")))])
    used = (f"{effective} effective" if effective not in ("", bits) else "", codes and f"codes {codes}")
    yield from filter(None, [", ".join(filter(None, used))])


def _granularity(row: Values) -> Iterator[str]:
    yield from filter(None, [cell_text(row, "granularity")])
    scales = cell_text(row, "scales")
    if scales not in ("", "0"):
        axis = "" if row.get("axis") is None else f", axis {cell_text(row, 'axis')}"
        yield f"{scales} scale{'' if scales == '1' else 's'}{axis}"
    if row.get("block_size"):
        yield f"groups of {cell_text(row, 'block_size')}"


def _range(row: Values) -> Iterator[str]:
    ends = [cell_span(row, name) for name in ("beta", "alpha")]
    if all(ends) and not any("…" in end for end in ends):
        yield f"[{ends[0]}, {ends[1]}]"
    else:
        yield from (f"{letter} {end}" for letter, end in zip("βα", ends, strict=True) if end)


def _calibrated(row: Values) -> Iterator[str]:
    yield from _interval(row, "calibrated")
    names = (*both_ends("calibrated"), "beta_min", "alpha_max", "scale_max")
    numbers = [value for name in names if isinstance(value := row.get(name), int | float)]
    if len(numbers) == len(names):
        low, high, beta, alpha, step = numbers
        yield from ["beyond what the file can represent"] if low < beta - step or high > alpha + step else []


def _scale(row: Values) -> Iterator[str]:
    yield from (f"{title} {span}" for title, name in (("1/s", "scale"), ("s", "s")) if (span := cell_span(row, name)))


def _zero_point(row: Values) -> Iterator[str]:
    yield from filter(None, [cell_span(row, "zero_point")])


def _formula(row: Values) -> Iterator[str]:
    yield from filter(None, [cell_text(row, "formula")])


def _decibels(row: Values) -> Iterable[str]:
    ratio = row.get("sqnr_db")
    return [f"{ratio:.1f}"] if isinstance(ratio, int | float) else filter(None, [cell_text(row, "sqnr_db")])


def _method(row: Values) -> Iterator[str]:
    yield from filter(None, [cell_text(row, "method"), cell_text(row, "note")])


def _interval_of(name: str) -> Callable[[Values], Iterable[str]]:
    return lambda row: _interval(row, name)


def _interval(row: Values, name: str) -> Iterable[str]:
    ends = [cell_text(row, end) for end in both_ends(name)]
    return [f"[{', '.join(ends)}]"] if all(ends) else ()


def _operation(row: Values) -> Iterator[str]:
    yield spaced(cell_text(row, "operation"))
    yield from filter(None, [cell_text(row, "what")])


def _worth(row: Values) -> Iterator[str]:
    value = row.get("value")
    yield from [f"{spaced(cell_text(row, 'metric'))} {value:.4f}"] if isinstance(value, int | float) else []


def _digest(row: Values) -> Iterator[str]:
    yield from filter(None, [cell_text(row, "sha256"), cell_text(row, "log_id")])


COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "steps": (
        Column("Step", 6, ("step",), as_it_is("step")),
        Column("What was done", 46, ("operation", "what"), _operation),
        Column("Pruned", 10, ("pruned",), share("pruned", 3)),
        Column("Model", 13, ("metric", "value"), _worth),
        Column("SHA-256, and log", 25, ("sha256", "log_id"), _digest),
    ),
    "quantizers": (
        Column("Tensor, and layer that uses it", 21, ("tensor", "op", "layer"), tensor),
        Column("Kind and type", 17, ("kind", "dtype", "bits", "effective_bits", *both_ends("codes")), _type),
        Column("Granularity", 17, ("granularity", "scales", "axis", "block_size"), _granularity),
        Column("Range [β, α]", 17, both_ends("beta", "alpha"), _range),
        Column("Calibrated range", 16, both_ends("calibrated"), _calibrated),
        Column("Scale", 20, both_ends("scale", "s"), _scale),
        Column("z", 3, both_ends("zero_point"), _zero_point),
        Column("Scale factor", 18, ("formula",), _formula),
    ),
    "calibration": (
        Column("Tensor", 25, ("tensor",), as_it_is("tensor")),
        Column("Method", 20, ("method", "note"), _method),
        Column("Calibrated range", 17, both_ends("calibrated"), _interval_of("calibrated")),
        Column("Observed range", 17, both_ends("observed"), _interval_of("observed")),
        Column("Values outside", 11, ("clip_fraction",), share("clip_fraction", 2)),
        Column("SQNR (dB)", 10, ("sqnr_db",), _decibels),
    ),
    "layers": (
        Column("Tensor, and layer", 80, ("tensor", "op", "layer"), tensor),
        Column("SQNR (dB)", 20, ("sqnr_db",), _decibels),
    ),
    "sparsity": sparsity.COLUMNS,
}
"""Columns of each series, in order; one that is empty in every row is left out."""

READING: Mapping[str, str] = {
    "steps": (
        "Digests are of parameters and buffers where a PyTorch module was changed, else of the file set. What the model was "
        "worth after a step was measured on the verification data. "
    ),
    "quantizers": (
        "The range [β, α] is what the codes of the type can represent; z is the zero point. s multiplies, as in "
        "x_q = clip(round(s·x + z)); the scale in the file divides, and is 1/s. a … b is the smallest and the largest of "
        "several scales. "
    ),
    "calibration": (
        "The observed range holds every value of the calibration data. Values outside are those beyond the calibrated range, "
        "which the quantizer clips; the signal to quantization noise ratio, SQNR, is that of this tensor's calibration values "
        "alone, the layers before it in float. Among the quantizers the calibrated range stands beside the one the file can "
        "represent, and the cell says so where it reaches more than one step beyond. "
    ),
    "layers": (
        "The signal to quantization noise ratio compares the float model with the quantized one at this tensor, so it holds "
        "the noise of every layer before it. "
    ),
}
"""What a reader has to know to read a series, beside what its columns say."""
