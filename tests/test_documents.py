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

import mlflow_aifsm as aifsm
from mlflow_aifsm.operations.support import ANY, Support, table
from tests.conftest import REPOSITORY

GUIDE = REPOSITORY / "docs" / "quantization.md"
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
def prepared(experiment: str) -> Prepared:
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
    }
    shutil.copy(aifsm.freeze(prepared.uri).path, "detector.onnx")
    for block in blocks(README):
        exec(compile(block, str(README), "exec"), names)
    assert names["int8"].verification.passed
    assert names["frozen"].findings == ()


def test_the_support_table_of_the_guide_is_the_one_that_quantize_asks() -> None:
    assert between(GUIDE, "support") == "\n".join((HEAD, *map(rendered, table())))


def test_each_finding_that_the_guide_names_is_one_that_the_package_makes() -> None:
    traps = GUIDE.read_text("utf-8").partition("## Traps")[2].partition("\n## ")[0]
    rows = [line for line in traps.splitlines() if line.startswith("| ") and "what the log says" not in line]
    named = {code for row in rows for code in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", row.rpartition(" | ")[2])}
    source = "\n".join(path.read_text("utf-8") for path in (REPOSITORY / "mlflow_aifsm").rglob("*.py"))
    assert len(rows) >= 12
    assert {code for code in named - {"record_optimization"} if f'"{code}"' not in source} == set()


def test_each_link_between_the_documents_leads_somewhere() -> None:
    for document in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")):
        targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text("utf-8"))
        assert [target for target in targets if not (document.parent / target).exists()] == [], document.name
