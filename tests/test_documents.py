"""The documents' code runs as it stands, and what they say of the package is what the package holds."""

from __future__ import annotations

import re
import shutil
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from matplotlib.image import imread

import mlflow_aifsm as aifsm
from examples.pruning import tuning
from mlflow_aifsm.capture.patterns import Pattern
from mlflow_aifsm.capture.zero_patterns import holds
from mlflow_aifsm.operations.support import ANY, Support, table
from tests import patterns_picture
from tests.conftest import REPOSITORY

GUIDE = REPOSITORY / "docs" / "quantization.md"
PRUNING = REPOSITORY / "docs" / "pruning.md"
README = REPOSITORY / "README.md"
HEAD = "| technique | backend | type | scheme | granularity | ONNX Runtime computes it | |\n|---|---|---|---|---|---|---|"
DOES = {"integer": "in integers", "float": "in float", "partly": "in integers, partly", "refused": "refused"}


def blocks(document: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", document.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def between(document: Path, mark: str) -> str:
    found = re.search(rf"<!-- {mark}: begin -->\n(.*?)<!-- {mark}: end -->", document.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return found[1].strip()


def rendered(row: Support) -> str:
    technique, backend, *parts = astuple(row.cell)
    pairs = [tuple(parts[at : at + 2]) for at in (0, 2, 4)]
    cells = ["any" if set(pair) == {ANY} else " · ".join(words(part) for part in pair) for pair in pairs]
    why = "; instead: ".join(filter(None, (row.why, row.instead)))
    return f"| {technique} | {words(backend)} | {' | '.join(cells)} | {DOES[row.does]} | {why} |"


def words(part: str) -> str:
    return "any" if part == ANY else ", ".join(part.split())


@dataclass(frozen=True)
class Prepared:
    """What the documents' examples presuppose: the quickstart's network, trained and registered, and its data."""

    model: torch.nn.Module
    uri: str
    data: dict[str, tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def prepared(own_experiment: str) -> Prepared:
    from examples.quickstart import digits, register, train

    data = digits()
    with mlflow.start_run():
        model = train(*data["training"], epochs=4)
        return Prepared(model, register(model, *data["verification"]), data)


@pytest.mark.slow
def test_each_example_of_the_quantization_guide_runs_and_passes_its_verification(prepared: Prepared) -> None:
    (images, labels), (others, other_labels) = prepared.data["verification"], prepared.data["calibration"]
    names = {
        "aifsm": aifsm,
        "frozen": aifsm.freeze(prepared.uri, verification=aifsm.Verification(images, labels)),
        "calibration": aifsm.Data(others, name="digits, calibration", labels=other_labels),
        "held_out": aifsm.Verification(images, labels, limits={"accuracy_drop": 0.1}),
    }
    for block in blocks(GUIDE):
        made = dict(names)
        exec(compile(block, str(GUIDE), "exec"), made)
        if "int8" in made:
            assert made["int8"].verification.passed, block
            assert made["int8"].record.gaps == (), block
    found = mlflow.search_runs(filter_string="params.`aifsm.calibration.method` = 'entropy'")
    assert len(found) == 1


@pytest.mark.slow
def test_each_example_of_the_pruning_guide_runs_and_its_log_is_whole(prepared: Prepared) -> None:
    (images, labels), (others, _) = prepared.data["verification"], prepared.data["calibration"]
    names: dict[str, Any] = {
        "aifsm": aifsm,
        "nn": torch.nn,
        "model": prepared.model,
        "train": tuning(prepared.data, epochs=1).train,
        "training": aifsm.Data(prepared.data["training"][0], name="digits, training", labels=prepared.data["training"][1]),
        "calibration": aifsm.Data(others, name="digits, calibration"),
        "held_out": aifsm.Verification(images, labels, limits={"accuracy_drop": 0.5, "worst_class_drop": 1.0}, reason="a test"),
    }
    for block in blocks(PRUNING):
        exec(compile(block, str(PRUNING), "exec"), names)
        made = names.pop("sparse", None)
        if made is not None:  # one block only makes what the next one uses
            assert made.verification.passed, block
            assert made.record.gaps == (), block
            assert made.findings == (), block
    found = mlflow.search_runs(filter_string="params.`aifsm.pruning.patterns` = 'block:4x4'")
    assert len(found) == 1


@pytest.mark.slow
def test_the_examples_of_the_readme_run_one_after_the_other(prepared: Prepared) -> None:
    images, labels = prepared.data["verification"]
    optimizer = torch.optim.Adam(prepared.model.parameters())
    names: dict[str, Any] = {
        "model": prepared.model,
        "images": images,
        "labels": labels,
        "others": prepared.data["calibration"][0],
        "training_images": prepared.data["training"][0],
        "optimizer": optimizer,
        "scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
        "loss": torch.nn.CrossEntropyLoss(),
        "train": tuning(prepared.data, epochs=1).train,
    }
    shutil.copy(aifsm.freeze(prepared.uri).path, "detector.onnx")
    for block in blocks(README):
        exec(compile(block, str(README), "exec"), names)
    assert names["int8"].verification.passed
    assert names["frozen"].findings == ()
    assert names["steps"].result.record.gaps == ()
    assert names["steps"].result.verification.passed


def test_the_support_table_of_the_guide_is_the_one_that_quantize_asks() -> None:
    assert between(GUIDE, "support") == "\n".join((HEAD, *map(rendered, table())))


def unknown(codes: set[str]) -> set[str]:
    """Those of ``codes`` that no line of the package makes."""
    source = "\n".join(path.read_text("utf-8") for path in (REPOSITORY / "mlflow_aifsm").rglob("*.py"))
    return {code for code in codes if f'"{code}"' not in source}


def test_each_finding_that_the_guide_names_is_one_that_the_package_makes() -> None:
    traps = GUIDE.read_text("utf-8").partition("## Traps")[2].partition("\n## ")[0]
    rows = [line for line in traps.splitlines() if line.startswith("| ") and "what the log says" not in line]
    named = {code for row in rows for code in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", row.rpartition(" | ")[2])}
    assert len(rows) >= 12
    assert unknown(named - {"record_optimization"}) == set()


def test_each_finding_that_the_pruning_guide_names_is_one_that_the_package_makes() -> None:
    table = PRUNING.read_text("utf-8").partition("Findings:")[2].partition("\n\nAnother")[0]
    codes = set(re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE))
    assert len(codes) == 8
    assert unknown(codes) == set()


def test_the_picture_of_the_patterns_is_what_they_select() -> None:
    kept = patterns_picture.masks()
    words = re.findall(r"^\| `([^`]+)` \| [^|]+ \| [^|]* \|$", PRUNING.read_text("utf-8"), re.MULTILINE)
    kinds = {"n:m" if word.startswith("<") else word.partition(":")[0] for word in words}
    assert kinds - {"pattern"} == {Pattern.of(word).kind for word in kept}
    assert all(holds(~mask, Pattern.of(word)) and mask.mean() == 0.5 for word, mask in kept.items())


def test_the_committed_picture_of_the_patterns_is_what_its_script_draws(tmp_path: Path) -> None:
    patterns_picture.draw(tmp_path / "patterns.png")
    committed, drawn = (imread(path) for path in (patterns_picture.PICTURE, tmp_path / "patterns.png"))
    assert committed.shape == drawn.shape
    assert np.abs(committed - drawn).mean() < 0.01  # letters differ a little between versions of the library


def test_each_link_between_the_documents_leads_somewhere() -> None:
    for document in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")):
        targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text("utf-8"))
        assert [target for target in targets if not (document.parent / target).exists()] == [], document.name
