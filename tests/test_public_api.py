"""The public names, and what importing them costs: no framework before one is needed."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys

import pytest

import mlflow_aifsm as aifsm

NAMES = [
    "NNCF",
    "ORT",
    "AifsmError",
    "Data",
    "Dynamic",
    "Entry",
    "Finding",
    "FineTuning",
    "Gradient",
    "Magnitude",
    "Onnx",
    "Pt2",
    "QuantizationAwareTraining",
    "Record",
    "Result",
    "State",
    "Static",
    "Training",
    "Value",
    "Verification",
    "WeightOnly",
    "autolog",
    "compare",
    "declare",
    "freeze",
    "load_model",
    "load_record",
    "log_model",
    "optimization",
    "prune",
    "quantization_aware_training",
    "quantize",
    "record_conversion",
    "record_optimization",
    "render_report",
    "save_model",
    "search_logs",
]
FRAMEWORKS = ("mlflow", "torch", "torchao", "onnx", "onnxruntime", "nncf", "pandas")


def imported_by(code: str) -> set[str]:
    """The frameworks that a new process has imported after ``code``."""
    report = f"\nimport sys, json\nprint(json.dumps([name for name in {FRAMEWORKS!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + report], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_public_names_are_these() -> None:
    assert aifsm.__all__ == NAMES
    assert dir(aifsm) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_resolves_to_something_documented_and_stays_the_same(name: str) -> None:
    found = getattr(aifsm, name)
    assert getattr(aifsm, name) is found
    assert found.__module__.startswith("mlflow_aifsm.")
    assert inspect.getdoc(found)
    assert getattr(importlib.import_module(found.__module__), found.__name__) is found


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'mlflow_aifsm' has no attribute 'unfreeze'"):
        _ = aifsm.unfreeze


def test_importing_the_package_imports_no_framework() -> None:
    assert imported_by("import mlflow_aifsm; mlflow_aifsm.State; mlflow_aifsm.Record; mlflow_aifsm.AifsmError") == set()


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["report", "--help"], ["templates"], ["templates", "--json"]])
def test_the_command_line_imports_no_framework_before_it_needs_one(argv: list[str]) -> None:
    code = f"import sys; sys.argv = ['mlflow-aifsm', *{argv!r}]\nfrom mlflow_aifsm.cli.main import main\nmain()"
    assert imported_by(code) == set()


@pytest.mark.parametrize("module", ["errors", "digests", "config", "facts", "template", "record", "fill", "report.formats"])
def test_the_vocabulary_and_the_report_import_no_framework(module: str) -> None:
    assert imported_by(f"import mlflow_aifsm.{module}") == set()


@pytest.mark.parametrize("module", ["audit", "rendering", "cli.logs"])
def test_reading_a_log_imports_neither_torch_nor_nncf(module: str) -> None:
    assert imported_by(f"import mlflow_aifsm.{module}").isdisjoint({"torch", "nncf", "torchao", "onnxruntime"})


def test_inspecting_a_file_does_not_import_mlflow() -> None:
    assert "mlflow" not in imported_by("import mlflow_aifsm.measurement, mlflow_aifsm.report.inspection")
