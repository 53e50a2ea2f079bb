"""Annex C: environment and packages in words, and what validated the tool."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlflow_aifsm.facts import Json
from mlflow_aifsm.record import Evidence
from mlflow_aifsm.report.annexes import annexes
from mlflow_aifsm.report.blocks import Heading
from mlflow_aifsm.report.reading import spans
from tests.report import samples
from tests.report.reading import tables


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("accelerator", {"text": "no NVIDIA GPU", "devices": []}, ["Accelerator", "no NVIDIA GPU"]),
        ("torch", {"seed": 0, "cuda_of_the_build": None}, ["PyTorch", "built without CUDA, seed 0"]),
        ("torch", {"cuda_of_the_build": "13.0"}, ["PyTorch", "built for CUDA 13.0"]),
        ("torch", None, ["PyTorch", "not loaded"]),
        ("variables", {}, ["Environment variables", "none of those that set threads or seeds is set"]),
        ("memory", 2**33, ["Memory", "8,589,934,592 bytes (8.0 GiB)"]),
        ("new_thing", {"a": [1, {"b": True}]}, ["New thing", "a 1, b yes"]),
    ],
)
def test_the_environment_is_told_in_words(name: str, value: Json, said: list[str]) -> None:
    sample = samples.conversion()
    key = "aifsm.conversion.environment"
    entry = sample.record.entries[key]
    entries = {**sample.record.entries, key: replace(entry, value=replace(entry.value, data={"python": "3.11", name: value}))}
    assert said in tables(*annexes(replace(sample, record=replace(sample.record, entries=entries))))


def test_packages_stand_several_in_a_row_in_alphabetical_order_down_each_column() -> None:
    rows = tables(*annexes(samples.conversion()))
    assert ["numpy", "2.4.2", "onnxscript", "0.7.1", "torch", "2.13.0"] in rows
    assert ["onnx", "1.21.0", "protobuf", "6.33.1", "", ""] in rows


def test_the_validation_of_the_tool_stands_with_the_environment_and_other_notes_with_the_findings() -> None:
    sample = samples.conversion()
    about = f"Tool {sample.record.tool}, files sha256 {'0' * 64}: there is no validation record of this environment."
    other = "Tool of somebody else: not looked at."
    told = replace(sample, record=replace(sample.record, notes=(about, other)))
    assert after(told, "The tool's own validation") == about
    assert after(told, "Notes") == other


def test_a_log_that_says_nothing_of_its_tool_is_said_to_say_nothing() -> None:
    assert after(samples.conversion(), "The tool's own validation") == "Whether the tool was validated was not recorded."
    silent = replace(samples.conversion(), record=replace(samples.conversion().record, notes=()))
    assert after(silent, "Notes") == "No note was made."


def after(evidence: Evidence, title: str) -> str:
    """The words of the block that follows the heading ``title`` of the annexes, up to the next heading."""
    blocks = annexes(evidence)
    place = next(n for n, block in enumerate(blocks) if isinstance(block, Heading) and block.title.text == title) + 1
    end = next((n for n in range(place, len(blocks)) if isinstance(blocks[n], Heading)), len(blocks))
    return " ".join(span.text for block in blocks[place:end] for span in spans(block))
