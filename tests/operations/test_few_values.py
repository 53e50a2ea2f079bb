"""A network of few neurons: the mean of each sample's extremes clips what are no outliers, so it is not used there."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from mlflow_aifsm.capture import quantizers
from mlflow_aifsm.operations.quantization import Static
from tests.operations.quantized_models import asked, done, saved

NODE = helper.make_node
RNG = np.random.default_rng(0)
DATA = RNG.standard_normal((332, 8)).astype(np.float32)
CALIBRATED = 300


@pytest.fixture
def perceptron(tmp_path: Path) -> Path:
    """Eight features, two hidden layers of 16 neurons, three outputs; random weights, which training would not change here."""
    names = ["x", "a", "b", "y"]
    sizes = (8, 16, 16, 3)
    tensors = {
        f"w{at}": (RNG.standard_normal((old, new)) * (2 / old) ** 0.5).astype(np.float32)
        for at, (old, new) in enumerate(pairwise(sizes))
    }
    nodes = []
    for at, (before, after) in enumerate(pairwise(names)):
        nodes.append(NODE("Gemm", [before, f"w{at}"], [after if after == "y" else f"{after}0"], f"fc{at}"))
        nodes += [NODE("Relu", [f"{after}0"], [after], f"relu{at}")] if after != "y" else []
    return saved(tmp_path, nodes, tensors, x_shape=["n", 8], y_shape=["n", 3])


def sqnr(path: Path, quantized: Path) -> float:
    """Of the outputs on samples that calibration has not seen, in dB."""
    before, after = (
        onnxruntime.InferenceSession(str(file)).run(None, {"x": DATA[CALIBRATED:]})[0].astype(float)
        for file in (path, quantized)
    )
    return float(10 * np.log10((before**2).sum() / ((before - after) ** 2).sum()))


@pytest.mark.parametrize("backend", ["onnxruntime", "nncf"])
def test_layers_of_few_neurons_keep_what_they_show_and_the_log_says_so(perceptron: Path, backend: str) -> None:
    outcome = done(Static(backend=backend, bias_correction=False), perceptron, DATA[:CALIBRATED], CALIBRATED)
    rows = {row["tensor"]: row for row in outcome.tables["calibration"]}
    for name in ("a", "b"):
        assert rows[name]["method"] == "min_max"
        assert "at min_max): min_max used instead" in str(rows[name]["note"])
        assert rows[name]["clip_fraction"] == 0
    fact = asked(outcome)["calibration.method"]
    assert fact.value.data["replaced"].keys() >= {"a", "b"}
    assert "min_max instead in" in fact.value.text
    assert fact.findings == ()
    assert sqnr(perceptron, outcome.quantized.path) > 30


@pytest.mark.parametrize("backend", ["onnxruntime", "nncf"])
def test_the_file_holds_the_ranges_of_the_table(perceptron: Path, backend: str) -> None:
    outcome = done(Static(backend=backend, bias_correction=False), perceptron, DATA[:CALIBRATED], CALIBRATED)
    held = {row.label.removesuffix("0"): row for row in quantizers.read(outcome.quantized.path) if row.kind == "activation"}
    for row in outcome.tables["calibration"]:
        quantizer = held[str(row["tensor"])]
        assert quantizer.alpha[0] == pytest.approx(row["calibrated_max"], abs=1.5 * quantizer.scale[0])
        assert quantizer.beta[0] == pytest.approx(row["calibrated_min"], abs=1.5 * quantizer.scale[0])
