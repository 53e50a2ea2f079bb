"""What the quantizers of a file say together, in the words of the Model Optimization Log."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from mlflow_aifsm.capture.fake_quantize import is_fake_quantize
from mlflow_aifsm.capture.float_layers import float_layers
from mlflow_aifsm.capture.non_linearities import lost_non_linearities
from mlflow_aifsm.capture.onnx_graph import OnnxFile, opened
from mlflow_aifsm.capture.quantizer import ACTIVATION, BIAS, CONSTANT, WEIGHT, Holder, Quantizer
from mlflow_aifsm.capture.quantizers import OUTPUT_SCALE, read
from mlflow_aifsm.capture.weight_codes import weight_codes
from mlflow_aifsm.facts import Fact, Finding, Json, measured, not_applicable

NAMES = ("precision", "scheme", "technique", "granularity", "transformation", "scale")

MIXED = "mixed"
"""The word for a kind of tensors among which several hold; exceptions are named beside it."""

PLURALS = {WEIGHT: "weights", ACTIVATION: "activations", BIAS: "bias", CONSTANT: "constants"}
"""How texts and data name each kind of quantized tensor."""


def facts(
    source: Path | OnnxFile, against: Path | OnnxFile | None = None, rows: tuple[Quantizer, ...] | None = None
) -> list[Fact]:
    """All ``quantizers.*`` facts of one file, and ``recovery.partial``, each measured from the file.

    Args:
        source: The delivered file.
        against: The float file it was made from; without it nobody can say whether activation functions were lost,
            nor whether the codes of the weights are those of the float weights.
        rows: The quantizers of ``source``, if they were read already.

    Raises:
        InputError: If a file cannot be read.
    """
    file, before = opened(source), None if against is None else opened(against)
    found = read(file) if rows is None else rows
    beside = (lost_non_linearities(file, before, found), weight_codes(file, before, found))
    return [*of_rows(file, found), *float_layers(file, found), *beside]


def of_rows(file: Holder, rows: tuple[Quantizer, ...]) -> list[Fact]:
    """What quantizers say together, wherever they stand: the facts ``quantizers.*`` of ``NAMES``.

    Args:
        file: What holds them.
        rows: The quantizers.
    """
    makers = (_precision, _scheme, _technique, _granularity, _transformation, _scale)
    return [maker(file, rows) for maker in makers] if rows else _unquantized(file)


def _unquantized(file: Holder) -> list[Fact]:
    reason = f"no quantizer among {len(file.nodes)} nodes"
    return [not_applicable(f"quantizers.{name}", reason, {}, source=file.source) for name in NAMES]


def _by_kind(rows: tuple[Quantizer, ...]) -> dict[str, list[Quantizer]]:
    return {name: found for kind, name in PLURALS.items() if (found := [row for row in rows if row.kind == kind])}


def _precision(file: Holder, rows: tuple[Quantizer, ...]) -> Fact:
    kinds = _by_kind(rows)
    parts = [f"{name} {_divided(found, lambda row: f'{row.dtype} ({row.bits}-bit)')}" for name, found in kinds.items()]
    narrow = {row.label: row.effective_bits for row in rows if row.kind == WEIGHT and row.effective_bits < row.bits}
    fewer = _listed([f"{bits} bits in {label}" for label, bits in narrow.items()])
    text = ", ".join(parts) + (f"; the codes in use need fewer: effective {fewer}" if narrow else "")
    always = (PLURALS[WEIGHT], PLURALS[ACTIVATION], PLURALS[BIAS])
    data: dict[str, Json] = {
        name: sorted({row.dtype for row in kinds.get(name, [])}) for name in {**dict.fromkeys(always), **kinds}
    }
    short = ", ".join(f"{'/'.join(data[name])} {name}" for name in ("weights", "activations") if data[name])
    exceptions = _exceptions(kinds, lambda row: row.dtype)
    data |= {name: found for name, found in (("exceptions", exceptions), ("effective_bits", narrow)) if found}
    return measured("quantizers.precision", _capital(text), data, source=file.source, short=short)


def _scheme(file: Holder, rows: tuple[Quantizer, ...]) -> Fact:
    kinds = _by_kind(rows)
    words = {name: _scheme_word(found) for name, found in kinds.items()}
    parts = [f"{name} {words[name]} ({_zero_points(found)})" for name, found in kinds.items()]
    text, either = _capital(", ".join(parts)), [name for name, found in kinds.items() if all(row.either for row in found)]
    text += f"; the {' and '.join(either)} would have these zero points under either scheme" if either else ""
    mixed = {name: [row for row in kinds[name] if not row.either] for name, word in words.items() if word == MIXED}
    exceptions = _exceptions(mixed, lambda row: "symmetric" if row.symmetric else "asymmetric")
    data: dict[str, Json] = _apart(words) | {
        name: found for name, found in (("either", either), ("exceptions", exceptions)) if found
    }
    return measured("quantizers.scheme", text, data, source=file.source, short=_short(_apart(words)))


def _scheme_word(rows: list[Quantizer]) -> str:
    """``asymmetric`` if a zero point stands off the middle, for a range that has both signs.

    A ReLU's range begins at zero under either scheme, and an asymmetric range has its zero in the middle by chance; so the
    scheme is mixed only where weights differ, or activations of different types do.
    """
    decided = [row for row in rows if not row.one_sided] or [row for row in rows if not row.symmetric] or rows
    asymmetric = [row for row in decided if not row.symmetric]
    apart = {row.dtype for row in asymmetric}
    others = [row for row in decided if row.symmetric and not row.either]
    chosen = [row for row in others if not (row.kind == ACTIVATION and row.dtype in apart)]
    return "symmetric" if not asymmetric else MIXED if chosen else "asymmetric"


def _zero_points(rows: list[Quantizer]) -> str:
    zero = sum(not row.dynamic and set(row.zero_point) <= {0} for row in rows)
    dynamic = sum(row.dynamic for row in rows)
    middle = sum(row.symmetric for row in rows) - zero
    counts = {"is 0": zero, "is the middle code": middle, "is computed at run time": dynamic}
    counts["is another code"] = len(rows) - sum(counts.values())
    return ", ".join(f"zero point {what} in {count} of {len(rows)}" for what, count in counts.items() if count)


def _technique(file: Holder, rows: tuple[Quantizer, ...]) -> Fact:
    kinds = _by_kind(rows)
    if "activations" not in kinds:
        word = "weight quantization"
    elif "weights" not in kinds:
        word = "activation quantization"
    elif any(row.dynamic for row in kinds["activations"]):
        word = "integer quantization (dynamic)"
    else:
        form = "QOperator" if any(node.op_type in OUTPUT_SCALE for node in file.nodes) else "QDQ"
        form = "simulated by FakeQuantize" if any(map(is_fake_quantize, file.nodes)) else form
        word = f"integer quantization (static, {form})"
    counts = ", ".join(f"{len(found)} {'biases' if name == 'bias' else name}" for name, found in kinds.items())
    beside = "; no weight of the file is quantized" if word == "activation quantization" else ""
    return measured("quantizers.technique", f"{_capital(word)}: {counts}{beside}", word, source=file.source, short=word)


def _granularity(file: Holder, rows: tuple[Quantizer, ...]) -> Fact:
    kinds = _by_kind(rows)
    found = {name: {row.granularity for row in of_kind} for name, of_kind in kinds.items()}
    words = _apart({name: next(iter(granules)) if len(granules) == 1 else MIXED for name, granules in found.items()})
    parts = [f"{name} {_divided(of_kind, _granule)}" for name, of_kind in kinds.items()]
    exceptions = _exceptions({name: kinds[name] for name in words}, lambda row: row.granularity)
    data: dict[str, Json] = {**words, **({"exceptions": exceptions} if exceptions else {})}
    return measured("quantizers.granularity", _capital(", ".join(parts)), data, source=file.source, short=_short(words))


def _granule(row: Quantizer) -> str:
    return f"groupwise (groups of {row.block_size})" if row.block_size else row.granularity


def _transformation(file: Holder, rows: tuple[Quantizer, ...]) -> Fact:
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


def _scale(file: Holder, rows: tuple[Quantizer, ...]) -> Fact:
    scales = [scale for row in rows if row.kind != BIAS for scale in row.scale]
    formulas = Counter(row.formula for row in rows if row.kind != BIAS)
    levels = {
        formula: sorted({row.levels for row in rows if row.kind != BIAS and row.formula == formula}) for formula in formulas
    }
    parts = ", ".join(
        f"{formula} in {count} of {formulas.total()} quantizers ({_levels(levels[formula])})"
        for formula, count in formulas.items()
    )
    sizes = [abs(scale) for scale in scales]
    span = f", 1/s from {min(sizes):.3g} to {max(sizes):.3g}" if sizes else ""
    negative = sum(scale < 0 for scale in scales)
    span += f" (negative in {negative} of {len(scales)} scales)" if negative else ""
    text = f"{parts}{span}"
    biases = sum(row.kind == BIAS for row in rows)
    text += f"; {biases} biases have the s of their data times the s of their weight" if biases else ""
    ends = {"inverse_min": min(sizes, default=None), "inverse_max": max(sizes, default=None)}
    data = {"quantizers": formulas.total(), "scales": len(scales), **ends, "formulas": dict(formulas), "levels": levels}
    short = next(iter(formulas)) if len(formulas) == 1 else "by tensor"
    return measured("quantizers.scale", text, data, source=file.source, short=short, findings=_unusable(rows))


def _levels(counts: list[int]) -> str:
    return f"{counts[0]:,} levels" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,} levels"


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


def _exceptions(kinds: dict[str, list[Quantizer]], word: Callable[[Quantizer], str]) -> dict[str, str]:
    """Each tensor that differs from most of its kind, with the word that holds for it."""
    found = {}
    for rows in kinds.values():
        most = Counter(word(row) for row in rows).most_common(1)
        found.update({row.label: word(row) for row in rows if word(row) != most[0][0]})
    return found


def _apart(words: dict[str, str]) -> dict[str, str]:
    """Words of weights and activations; biases follow from both, and constants are no part of what is asked."""
    return {name: word for name, word in words.items() if name in (PLURALS[WEIGHT], PLURALS[ACTIVATION])}


def _short(data: dict[str, str]) -> str:
    words = set(data.values())
    return words.pop() if len(words) == 1 else ", ".join(f"{word} {name}" for name, word in data.items())


def _listed(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
