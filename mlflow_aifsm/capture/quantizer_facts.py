"""What the quantizers of a file say together, in the words of the Model Optimization Log."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from mlflow_aifsm.capture.float_layers import float_layers
from mlflow_aifsm.capture.non_linearities import lost_non_linearities
from mlflow_aifsm.capture.onnx_graph import OnnxFile, opened
from mlflow_aifsm.capture.quantizer import ACTIVATION, BIAS, WEIGHT, Quantizer
from mlflow_aifsm.capture.quantizers import OUTPUT_SCALE, read
from mlflow_aifsm.facts import Fact, Finding, Json, measured, not_applicable

NAMES = ("precision", "scheme", "technique", "granularity", "transformation", "scale")

FIRST = ("tensor", "kind", "dtype", "granularity", "bits", "effective_bits")
"""Columns that stand at the left of the table, where a narrow view cuts it off."""

LAST = ("formula", "layer", "op", "symmetric", "levels", "codes_min", "codes_max", "axis", "block_size", "size", "zeros")

PLURALS = {WEIGHT: "weights", ACTIVATION: "activations", BIAS: "bias"}
"""How texts and data name each kind of quantized tensor."""


def facts(
    source: Path | OnnxFile, against: Path | OnnxFile | None = None, rows: tuple[Quantizer, ...] | None = None
) -> list[Fact]:
    """All ``quantizers.*`` facts of one file, and ``recovery.partial``, each measured from the file.

    Args:
        source: The delivered file.
        against: The float file it was made from; without it nobody can say whether activation functions were lost.
        rows: The quantizers of ``source``, if they were read already.

    Raises:
        InputError: If a file cannot be read.
    """
    file = opened(source)
    found = read(file) if rows is None else rows
    if not found:
        return [*_unquantized(file), *float_layers(file, found), lost_non_linearities(file, against, found)]
    makers = (_precision, _scheme, _technique, _granularity, _transformation, _scale)
    return [*(maker(file, found) for maker in makers), *float_layers(file, found), lost_non_linearities(file, against, found)]


def table(quantizers: Iterable[Quantizer]) -> list[dict[str, Json]]:
    """One row for each quantizer, scales summarised; ``s`` multiplies as in arXiv 2004.09602, ``scale`` divides as in ONNX."""
    return [_table_row(row) for row in quantizers]


def _table_row(row: Quantizer) -> dict[str, Json]:
    factors = [1 / scale for scale in row.scale if scale]
    ranges = {"scale": row.scale, "zero_point": row.zero_point, "beta": row.beta, "alpha": row.alpha, "s": factors}
    spans = {f"{name}_{end.__name__}": end(values) if values else None for name, values in ranges.items() for end in (min, max)}
    return {**_attributes(row, FIRST), **spans, "scales": len(row.scale), **_attributes(row, LAST)}


def _attributes(row: Quantizer, names: Iterable[str]) -> dict[str, Json]:
    return {name: getattr(row, name) for name in names}


def _unquantized(file: OnnxFile) -> list[Fact]:
    reason = f"no quantizer among {len(file.nodes)} nodes"
    return [not_applicable(f"quantizers.{name}", reason, {}, source=file.source) for name in NAMES]


def _by_kind(rows: tuple[Quantizer, ...]) -> dict[str, list[Quantizer]]:
    return {name: found for kind, name in PLURALS.items() if (found := [row for row in rows if row.kind == kind])}


def _precision(file: OnnxFile, rows: tuple[Quantizer, ...]) -> Fact:
    kinds = _by_kind(rows)
    parts = [f"{name} {_divided(found, lambda row: f'{row.dtype} ({row.bits}-bit)')}" for name, found in kinds.items()]
    narrow = [
        f"{row.effective_bits} bits in {row.label}" for row in rows if row.kind == WEIGHT and row.effective_bits < row.bits
    ]
    text = ", ".join(parts) + (f"; the codes in use need fewer: effective {_listed(narrow)}" if narrow else "")
    data = {name: sorted({row.dtype for row in kinds.get(name, [])}) for name in PLURALS.values()}
    short = ", ".join(f"{'/'.join(data[name])} {name}" for name in ("weights", "activations") if data[name])
    return measured("quantizers.precision", _capital(text), data, source=file.source, short=short)


def _scheme(file: OnnxFile, rows: tuple[Quantizer, ...]) -> Fact:
    kinds = {name: found for name, found in _by_kind(rows).items() if name != "bias"}
    data = {name: _scheme_word(found) for name, found in kinds.items()}
    parts = [f"{name} {data[name]} ({_zero_points(found)})" for name, found in kinds.items()]
    return measured("quantizers.scheme", _capital(", ".join(parts)), data, source=file.source, short=_short(data))


def _scheme_word(rows: list[Quantizer]) -> str:
    """``asymmetric`` if a zero point stands off the middle, for a range that has both signs.

    A ReLU's range begins at zero under either scheme, and an asymmetric range has its zero in the middle by chance; so the
    scheme is mixed only where weights differ, or activations of different types do.
    """
    decided = [row for row in rows if not row.one_sided] or [row for row in rows if not row.symmetric] or rows
    asymmetric = [row for row in decided if not row.symmetric]
    apart = {row.dtype for row in asymmetric}
    chance = [row for row in decided if row.symmetric and not (row.kind == ACTIVATION and row.dtype in apart)]
    return "symmetric" if not asymmetric else "mixed" if chance else "asymmetric"


def _zero_points(rows: list[Quantizer]) -> str:
    zero = sum(not row.dynamic and set(row.zero_point) <= {0} for row in rows)
    dynamic = sum(row.dynamic for row in rows)
    middle = sum(row.symmetric for row in rows) - zero
    counts = {"is 0": zero, "is the middle code": middle, "is computed at run time": dynamic}
    counts["is another code"] = len(rows) - sum(counts.values())
    return ", ".join(f"zero point {what} in {count} of {len(rows)}" for what, count in counts.items() if count)


def _technique(file: OnnxFile, rows: tuple[Quantizer, ...]) -> Fact:
    kinds = _by_kind(rows)
    if "activations" not in kinds:
        word = "weight quantization"
    elif "weights" not in kinds:
        word = "activation quantization"
    elif any(row.dynamic for row in kinds["activations"]):
        word = "integer quantization (dynamic)"
    else:
        form = "QOperator" if any(node.op_type in OUTPUT_SCALE for node in file.nodes) else "QDQ"
        word = f"integer quantization (static, {form})"
    counts = ", ".join(f"{len(found)} {'biases' if name == 'bias' else name}" for name, found in kinds.items())
    beside = "; no weight of the file is quantized" if word == "activation quantization" else ""
    return measured("quantizers.technique", f"{_capital(word)}: {counts}{beside}", word, source=file.source, short=word)


def _granularity(file: OnnxFile, rows: tuple[Quantizer, ...]) -> Fact:
    kinds = {name: found for name, found in _by_kind(rows).items() if name != "bias"}
    words = {name: {row.granularity for row in found} for name, found in kinds.items()}
    data = {name: next(iter(found)) if len(found) == 1 else "mixed" for name, found in words.items()}
    parts = [f"{name} {_divided(found, _granule)}" for name, found in kinds.items()]
    return measured("quantizers.granularity", _capital(", ".join(parts)), data, source=file.source, short=_short(data))


def _granule(row: Quantizer) -> str:
    return f"groupwise (groups of {row.block_size})" if row.block_size else row.granularity


def _transformation(file: OnnxFile, rows: tuple[Quantizer, ...]) -> Fact:
    plain = [row for row in rows if not row.dynamic and set(row.zero_point) <= {0}]
    forms = {"f(x) = s·x": len(plain), "f(x) = s·x + z": len(rows) - len(plain)}
    used = {form: count for form, count in forms.items() if count}
    text = ", ".join(f"{form} in {count} of {len(rows)} quantizers" for form, count in used.items())
    if len(used) == 1:
        form = next(iter(used))
        text = f"{form} in all {len(rows)} quantizers" + (" (every zero point is 0)" if plain else "")
    text += "; codes are clip(round(f(x))), and s = 1/scale of the file"
    short = next(iter(used)) if len(used) == 1 else "mixed"
    return measured("quantizers.transformation", text, forms, source=file.source, short=short)


def _scale(file: OnnxFile, rows: tuple[Quantizer, ...]) -> Fact:
    scales = [scale for row in rows if row.kind != BIAS for scale in row.scale]
    formulas = Counter(row.formula for row in rows if row.kind != BIAS)
    parts = ", ".join(f"{formula} in {count} of {formulas.total()} quantizers" for formula, count in formulas.items())
    sizes = [abs(scale) for scale in scales]
    span = f", 1/s from {min(sizes):.3g} to {max(sizes):.3g}" if sizes else ""
    negative = sum(scale < 0 for scale in scales)
    span += f" (negative in {negative} of {len(scales)} scales)" if negative else ""
    text = f"{parts}{span}"
    biases = sum(row.kind == BIAS for row in rows)
    text += f"; {biases} biases have the s of their data times the s of their weight" if biases else ""
    ends = {"inverse_min": min(sizes, default=None), "inverse_max": max(sizes, default=None)}
    data = {"quantizers": formulas.total(), "scales": len(scales), **ends, "formulas": dict(formulas)}
    short = next(iter(formulas)) if len(formulas) == 1 else "by tensor"
    return measured("quantizers.scale", text, data, source=file.source, short=short, findings=_unusable(rows))


def _unusable(rows: tuple[Quantizer, ...]) -> list[Finding]:
    found = [row.label for row in rows if any(scale == 0 or not math.isfinite(scale) for scale in row.scale)]
    if not found:
        return []
    effect = "these tensors carry no information"
    return [
        Finding(
            "scale_unusable", asked="finite scales other than 0", measured=f"0, NaN or Inf in {_listed(found)}", effect=effect
        )
    ]


def _divided(rows: list[Quantizer], word: Callable[[Quantizer], str]) -> str:
    """The word all rows share; where they differ, each with its count, the rarer ones with their names."""
    counts = Counter(word(row) for row in rows).most_common()
    if len(counts) == 1:
        return counts[0][0]
    parts = [f"{counts[0][0]} in {counts[0][1]}"]
    parts += [
        f"{other} in {count} ({_listed([row.label for row in rows if word(row) == other])})" for other, count in counts[1:]
    ]
    return " and ".join(parts)


def _short(data: dict[str, str]) -> str:
    words = set(data.values())
    return words.pop() if len(words) == 1 else ", ".join(f"{word} {name}" for name, word in data.items())


def _listed(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
