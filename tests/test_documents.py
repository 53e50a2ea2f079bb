"""The documents' code runs as it stands, and what they say of the package is what the package holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import mlflow
import pytest

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


@pytest.fixture
def prepared(experiment: str, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What the examples presuppose: the quickstart's network, trained, registered and frozen, its data apart."""
    from examples.quickstart import digits, register, train

    data = digits()
    (images, labels), (others, other_labels) = data["verification"], data["calibration"]
    with mlflow.start_run():
        model = train(*data["training"], epochs=4)
        uri = register(model, images, labels)
        frozen = aifsm.freeze(uri, verification=aifsm.Verification(images, labels), registered_model_name="digits-frozen")
    yield {
        "aifsm": aifsm,
        "mlflow": mlflow,
        "frozen": frozen,
        "calibration": aifsm.Data(others, name="digits, calibration", labels=other_labels),
        "held_out": aifsm.Verification(images, labels, limits={"accuracy_drop": 0.1}),
    }


@pytest.mark.slow
def test_each_example_of_the_quantization_guide_runs_and_passes_its_verification(prepared: dict[str, Any]) -> None:
    for block in blocks(GUIDE):
        made = dict(prepared)
        exec(compile(block, str(GUIDE), "exec"), made)
        if "int8" in made:
            assert made["int8"].verification.passed, block
            assert made["int8"].record.gaps == (), block
    found = mlflow.search_runs(filter_string="params.`aifsm.calibration.method` = 'entropy'")
    assert len(found) == 1


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
