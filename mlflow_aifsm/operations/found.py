"""What was asked of single layers and tensors, looked up on the file that was made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlflow_aifsm.capture import quantizers
from mlflow_aifsm.capture.onnx_graph import OnnxFile
from mlflow_aifsm.capture.quantizer import Quantizer
from mlflow_aifsm.facts import Fact, Facts, Finding, Json, State, measured
from mlflow_aifsm.operations.outcome import Outcome

LISTED = 5
"""Names that a sentence holds; the tables have all."""
STEPS = 1.5
"""Quantization steps by which rounding a zero point may move the end of a range."""

_ASKED, _NOT_FOUND = "asked_not_found", "the file does not do what was asked for"


def looked_up(facts: Facts, file: OnnxFile, done: Outcome, table: Sequence[Mapping[str, Json]]) -> list[Fact]:
    """Facts of ``facts`` with what is wrong in single layers, and with the reason for each layer that stays in float.

    Args:
        facts: What was measured on the file as a whole.
        file: The delivered file.
        done: What was asked, and how the file was made.
        table: Its quantizers as rows, with the calibrated ranges beside the representable ones.
    """
    partial = _with_reasons(facts.get("recovery.partial"), file, done)
    changed = [partial] if partial is not None else []
    for name, findings in (
        ("quantizers.precision", _overridden(file, done.overridden)),
        ("quantizers.scale", _beyond(table)),
    ):
        fact = facts.get(name)
        if fact is not None and findings:
            changed.append(replace(fact, findings=(*fact.findings, *findings)))
    return changed


def _with_reasons(fact: Fact | None, file: OnnxFile, done: Outcome) -> Fact | None:
    if fact is None:
        return None
    left = [str(name) for name in fact.value.data or []] if fact.state is State.MEASURED else []
    besides = [name for name in done.kept if name not in left and not _computes_on_codes(file, name)]
    findings = (*fact.findings, *done.findings, *_not_kept(file, done.kept))
    if not left and not besides:
        return replace(fact, findings=findings) if findings else None
    text = fact.value.text if left else "Partial quantization: no layer, but other operators in float"
    text += f"; other operators in float: {_listed(besides)}" if besides else ""
    known = [f"{name}: {done.reasons[name]}" for name in left if name in done.reasons]
    others = [name for name in left if name not in done.reasons]
    known += [f"{_listed(others)}: left by {done.framework}"] if others else []
    known += [f"{_listed(besides)}: keep_float names them"] if besides else []
    short = fact.value.brief if left else f"{len(besides)} operators"
    made = measured("recovery.partial", f"{text}. Why: {'; '.join(known)}", left + besides, source=file.source, short=short)
    return replace(made, findings=findings)


def _not_kept(file: OnnxFile, kept: Iterable[str]) -> tuple[Finding, ...]:
    """Nodes that were to stay in float, and that compute on codes all the same."""
    broken = [name for name in kept if _computes_on_codes(file, name)]
    if not broken:
        return ()
    effect = "a tool joined them to quantized neighbours: their operands come from codes and their results become codes"
    return (Finding("keep_float_not_kept", asked=f"{_listed(broken)} in float", measured="quantized", effect=effect),)


def _computes_on_codes(file: OnnxFile, name: str) -> bool:
    """Whether every operand of the node comes from codes: then a runtime may compute it on them."""
    for scope in file.scopes:
        for node in (node for node in scope.nodes if node.name == name):
            makers = [scope.producer(scope.origin(operand)) for operand in node.input if operand]
            return bool(makers) and all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers)
    return False


def _overridden(file: OnnxFile, asked: Mapping[str, Mapping[str, str]]) -> list[Finding]:
    rows = {row.label: row for row in quantizers.read(file)} if asked else {}
    found = []
    for tensor, wanted in asked.items():
        seen = _seen(rows.get(tensor), wanted)
        if seen != dict(wanted):
            measured_words = ", ".join(f"{name} {word}" for name, word in seen.items()) or "no quantizer"
            words = ", ".join(f"{name} {word}" for name, word in wanted.items())
            found.append(Finding(_ASKED, asked=f"{tensor}: {words}", measured=measured_words, effect=_NOT_FOUND))
    return found


def _seen(row: Quantizer | None, wanted: Mapping[str, str]) -> dict[str, str]:
    if row is None:
        return {}
    scheme = "symmetric" if row.symmetric else "asymmetric"
    if "scheme" in wanted and row.either:
        scheme = wanted["scheme"]
    known = {"dtype": row.dtype, "scheme": scheme}
    return {name: known[name] for name in wanted}


def _beyond(table: Sequence[Mapping[str, Json]]) -> list[Finding]:
    """Quantizers whose representable range is neither the calibrated one nor that of a right one, within rounding.

    A tool gives both sides of a reshape, a transposition or a selection one range, that of either, and what a Softmax or a
    Sigmoid gives the whole of [0, 1].
    """
    right = {_represented(row) for row in table if row.get("calibrated_max") is not None and not _differs(row)}
    wrong = [str(row["tensor"]) for row in table if _differs(row) and _represented(row) not in right]
    if not wrong:
        return []
    asked, measured_words = "the ranges that calibration found", f"another range in {_listed(wrong)}"
    effect = "scales are not those of the calibration data"
    return [Finding("range_not_as_calibrated", asked=asked, measured=measured_words, effect=effect)]


def _represented(row: Mapping[str, Json]) -> tuple[Json, Json]:
    return row.get("beta_min"), row.get("alpha_max")


def _differs(row: Mapping[str, Any]) -> bool:
    low, high, scale = row.get("calibrated_min"), row.get("calibrated_max"), row.get("scale_max")
    if low is None or high is None or not scale or row.get("scales") != 1:
        return False
    slack = STEPS * abs(scale)
    ends = abs(row["alpha_max"] - high) <= slack and abs(row["beta_min"] - low) <= slack
    reach = abs(max(abs(row["alpha_max"]), abs(row["beta_min"])) - max(abs(low), abs(high))) <= slack
    whole = abs(row["beta_min"]) <= slack and abs(row["alpha_max"] - 1) <= slack and low >= 0 and high <= 1
    return not (ends or whole or (row.get("symmetric") and reach))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
