"""The example that compares ways to make MobileNetV2 small, by its own code and with fewer of them."""

from __future__ import annotations

import re
from pathlib import Path

import mlflow
import pandas as pd
import pytest

import mlflow_aifsm as aifsm
from examples import compare_optimizations as example
from examples import pruning
from tests.mobilenet import pretrained

COLUMNS = ["log", "group", "pareto", "speedup"]
NAMES = ["int8", "int8, first and last in float", "weights of 8 bits"]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        ([("optimization", 2, False, 1.5)], "b"),
        ([("optimization", 0, False, 1.5)], ""),
        ([("optimization", 2, True, None)], ""),
        ([("optimization", 2, True, 1.2), ("optimization", 2, True, 1.5), ("optimization", 0, False, 9.0)], "c"),
        ([("optimization", 2, True, 1.5), ("optimization", 2, False, 1.5)], "b"),
    ],
)
def test_the_winner_is_the_fastest_that_met_the_limit_or_none(rows: list[tuple[object, ...]], name: str) -> None:
    names = [chr(ord("a") + at) for at in range(len(rows) + 1)]
    frame = pd.DataFrame([("conversion", 1, False, None), *rows], columns=COLUMNS, index=names)
    assert example.winner(frame) == name


def test_the_winner_is_registered_with_a_dossier_of_both_its_logs(
    own_experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = pretrained(tmp_path)
    pruning.experiment(example.EXPERIMENT)
    results = example.optimized(model, NAMES, "A. Ito")
    frame = aifsm.compare(experiment=example.EXPERIMENT)
    assert list(frame.index) == ["float", *NAMES]
    ranked = frame[frame["group"] == frame.loc["int8, first and last in float", "group"]]
    assert "float" not in ranked.index  # it is held against the module, they are held against it
    assert frame.loc["int8", "agreement"] < frame.loc["int8, first and last in float", "agreement"]
    capsys.readouterr()
    example.conclude(results)
    printed = capsys.readouterr().out
    name, uri = re.findall(r"^winner   (.*): (models:/\S+)$", printed, re.MULTILINE)[0]
    assert frame.loc[name, "pareto"]
    assert results[name].verification.passed
    assert ranked["speedup"].max() == ranked.loc[name, "speedup"]
    delivered = Path(mlflow.artifacts.download_artifacts(uri))
    assert aifsm.load_record(uri).output_sha256 == results[name].record.output_sha256
    assert any(path.read_bytes() == results[name].path.read_bytes() for path in delivered.glob("*.onnx"))
    dossier = Path(re.findall(r"^dossier  (.*)$", printed, re.MULTILINE)[0]).read_text("utf-8")
    assert all(result.log_id in dossier for result in (results["float"], results[name]))
    plot = Path("pareto.svg").read_text("utf-8")
    assert "<svg" in plot
    assert "weights of 8 bits" in re.sub(r"<!--|-->", "", plot)
