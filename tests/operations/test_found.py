"""What was asked of single layers, looked up on the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from mlflow_aifsm.capture import quantizer_table, quantizers
from mlflow_aifsm.capture.onnx_graph import opened
from mlflow_aifsm.facts import Fact, Facts
from mlflow_aifsm.measurement import measure
from mlflow_aifsm.operations.found import looked_up
from mlflow_aifsm.operations.outcome import Outcome
from mlflow_aifsm.operations.quantization import Static
from tests.operations.quantized_models import done, saved, small


def facts_of(outcome: Outcome, against: Path, rows: list[dict] | None = None) -> dict[str, Fact]:
    """Facts of the delivered file after single layers were looked up."""
    known = Facts().with_facts(measure(outcome.quantized.path, against).facts)
    table = quantizer_table.with_calibrated(
        quantizer_table.table(quantizers.read(outcome.quantized.path)),
        {str(row["tensor"]): row for row in outcome.tables.get("calibration", ())},
    )
    changed = looked_up(known, opened(outcome.quantized.path), outcome, table if rows is None else rows)
    names = ("quantizers.precision", "quantizers.scale", "recovery.partial")
    merged = known.with_facts(changed)
    return {name: fact for name in names if (fact := merged.get(name)) is not None}


def codes(fact: Fact) -> list[str]:
    return [finding.code for finding in fact.findings]


@pytest.fixture
def residual(tmp_path: Path) -> Path:
    """Two linear layers whose results are added; the sum goes through a third."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["left"], "left"),
        helper.make_node("MatMul", ["x", "b"], ["right"], "right"),
        helper.make_node("Add", ["left", "right"], ["sum"], "sum"),
        helper.make_node("MatMul", ["sum", "c"], ["y"], "last"),
    ]
    tensors = {name: rng.normal(size=(4, 4)).astype(np.float32) for name in "abc"}
    return saved(tmp_path, nodes, tensors, x_shape=["n", 4], y_shape=["n", 4])


def test_a_right_file_has_no_finding() -> None:
    found = facts_of(done(Static(subset_size=32)), small().path)
    assert [code for fact in found.values() for code in codes(fact)] == []
    assert len(found) == 3


def test_an_operator_kept_in_float_that_computes_on_codes_is_a_finding(residual: Path) -> None:
    data = np.random.default_rng(1).normal(size=(32, 4)).astype(np.float32)
    found = facts_of(done(Static(keep_float="sum", subset_size=32), residual, data), residual)
    (finding,) = found["recovery.partial"].findings
    assert (finding.code, finding.asked, finding.measured) == ("keep_float_not_kept", "sum in float", "quantized")


def test_a_layer_kept_in_float_is_no_finding_and_has_its_reason(residual: Path) -> None:
    data = np.random.default_rng(1).normal(size=(32, 4)).astype(np.float32)
    partial = facts_of(done(Static(keep_float="last", subset_size=32), residual, data), residual)["recovery.partial"]
    assert codes(partial) == []
    assert "last: keep_float names it (last)" in partial.value.text


def test_a_setting_of_a_layer_that_the_file_does_not_have_is_a_finding() -> None:
    outcome = done(Static(overrides={"head": {"weights": "uint8"}}, subset_size=32))
    assert codes(facts_of(outcome, small().path)["quantizers.precision"]) == []
    wrong = replace(outcome, overridden={tensor: {"dtype": "int16"} for tensor in outcome.overridden})
    (finding,) = facts_of(wrong, small().path)["quantizers.precision"].findings
    assert (finding.code, finding.measured) == ("asked_not_found", "dtype uint8")


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_a_range_that_is_not_the_calibrated_one_is_a_finding(factor: float) -> None:
    outcome = done(Static(subset_size=32))
    calibrated = {
        str(row["tensor"]): {**row, "calibrated_max": row["calibrated_max"] * factor}
        for row in outcome.tables["calibration"][1:2]
    }
    rows = quantizer_table.with_calibrated(quantizer_table.table(quantizers.read(outcome.quantized.path)), calibrated)
    (finding,) = facts_of(outcome, small().path, rows)["quantizers.scale"].findings
    assert finding.code == "range_not_as_calibrated"


def test_a_tensor_that_has_the_right_range_of_its_neighbour_is_no_finding() -> None:
    row = {"scale_max": 0.1, "scales": 1, "symmetric": False, "beta_min": -2.0, "alpha_max": 23.5}
    right = {**row, "tensor": "view", "calibrated_min": -2.0, "calibrated_max": 23.5}
    shared = {**row, "tensor": "select", "calibrated_min": -1.0, "calibrated_max": 7.0}
    outcome = done(Static(subset_size=32))
    assert codes(facts_of(outcome, small().path, [right, shared])["quantizers.scale"]) == []
    assert codes(facts_of(outcome, small().path, [shared])["quantizers.scale"]) == ["range_not_as_calibrated"]
