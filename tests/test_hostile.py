"""Hostile text in every place that text comes from: it is shown, and nothing of it runs, leaves its folder or its cell."""

from __future__ import annotations

import csv
from html.parser import HTMLParser
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
import torch
from markdown_it import MarkdownIt
from onnx import TensorProto, helper
from torch import nn

import mlflow_aifsm as aifsm
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.tracking.staging import FORMULA
from tests.command import command

SCRIPT = "<script>window.hacked=1</script>"
IMAGE = '"><img src=x onerror=window.hacked=1>'
FORMULAS = ("=cmd|' /C calc'!A0", "+1+1", "@SUM(A1)", "-2+3")
HOSTILE = f"{SCRIPT}{IMAGE} ../../outside {{{{ 7*7 }}}} | cell\n# heading [x](javascript:alert(1))"

pytestmark = pytest.mark.usefixtures("experiment")


class Page(HTMLParser):
    """What a browser would make of a page: elements, attributes, text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def assert_inert(page: str) -> None:
    parsed = Page(page)
    assert "window.hacked=1" in parsed.text
    assert "49" not in parsed.text.split("{{ 7*7 }}")[0][-9:]
    for tag, attributes in parsed.elements:
        assert tag not in ("script", "iframe", "object", "embed", "img", "base"), (tag, attributes)
        assert not any(name.startswith("on") or name == "src" for name in attributes), (tag, attributes)
        assert not str(attributes.get("href", "")).lower().startswith(("javascript", "data")), (tag, attributes)


def assert_log_is_inert(run_id: str, tmp_path: Path) -> None:
    """Reports in both formats, tables and places of a log, made, stored and rendered anew."""
    stored = tmp_path / "artifacts"
    folder = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="aifsm/conversion"))
    assert_inert((folder / "report.html").read_text("utf-8"))
    for name in ("html", "md"):
        (file,) = aifsm.render_report(run_id, name, tmp_path / f"out.{name}")
        text = file.read_text("utf-8")
        assert_inert(text if name == "html" else MarkdownIt("commonmark", {"html": True}).enable("table").render(text))
    for table in folder.glob("*.csv"):
        with table.open(encoding="utf-8", newline="") as lines:
            assert not [cell for row in csv.reader(lines) for cell in row if cell.startswith(FORMULA) and not number(cell)]
    assert not list(tmp_path.rglob("outside*"))
    assert {path.name for path in tmp_path.iterdir()} <= {"artifacts", "out.html", "out.md", "given"}
    assert all(path.resolve().is_relative_to(stored) for path in stored.rglob("*"))
    assert command("check", run_id).code in (3, 4)


def number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def hostile_module() -> nn.Module:
    """A module whose class and layer names are hostile; a layer's name may hold no dot, and its exporter takes no quote."""
    layers = nn.Sequential()
    for name in (SCRIPT, IMAGE, *FORMULAS):
        layers.add_module(name.translate({ord("."): "", ord('"'): ""}), nn.Linear(4, 4))
    layers.add_module("act", nn.ReLU())
    made: nn.Module = type(f"{SCRIPT}{IMAGE}", (nn.Module,), {"forward": lambda self, x: self.layers(x)})()
    made.add_module("layers", layers)
    return made.eval()


def test_names_of_runs_params_tags_data_and_layers_are_only_text(tmp_path: Path) -> None:
    model, data = hostile_module(), np.random.default_rng(0).random((8, 4), np.float32)
    with mlflow.start_run(run_name=HOSTILE) as training:
        mlflow.log_param("optimizer", HOSTILE)
        mlflow.log_metric("accuracy", 0.5)
        mlflow.set_tag("note", HOSTILE)
        mlflow.log_input(mlflow.data.from_numpy(data, name=HOSTILE), context=SCRIPT)
        how = {"serialization_format": "pickle", "pip_requirements": ["torch"]}
        info = mlflow.pytorch.log_model(nn.Sequential(nn.Linear(4, 4)), name="hostile", **how)
    judged = aifsm.Verification(aifsm.Data(data, name=HOSTILE), epsilon=0.1, reason=HOSTILE)
    with mlflow.start_run(run_name=HOSTILE):
        how = {"verification": judged, "responsible": HOSTILE, "verified_model": info.model_uri}
        result = aifsm.freeze(model, torch.zeros(2, 4), aifsm.Onnx(dynamic_shapes="batch"), **how)
    assert result.record.entries["aifsm.conversion.responsible"].value.text == HOSTILE
    assert training.info.run_id in result.record.entries["aifsm.model.training_run"].value.text
    assert_log_is_inert(result.run_id, tmp_path)


def hostile_file(folder: Path) -> Path:
    """An ONNX file whose name, tensors, nodes, producer and documentation are hostile."""
    weights = [helper.make_tensor(name, TensorProto.FLOAT, [2, 2], [1.0] * 4) for name in (SCRIPT, IMAGE, *FORMULAS)]
    names = ["x", *(f"{HOSTILE}{index}" for index in range(len(weights)))]
    chain = zip(names, weights, names[1:], strict=False)
    nodes = [
        helper.make_node("MatMul", [read, weight.name], [made], name=f"{weight.name} node") for read, weight, made in chain
    ]
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", names[-1])]
    graph = helper.make_graph(nodes, HOSTILE, shapes[:1], shapes[1:], weights, doc_string=HOSTILE)
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name=HOSTILE, doc_string=HOSTILE)
    folder.mkdir()
    onnx.save(model, folder / f"{IMAGE} =1+1.onnx")
    return folder / f"{IMAGE} =1+1.onnx"


def test_names_in_a_file_that_came_from_elsewhere_are_only_text(tmp_path: Path) -> None:
    given = hostile_file(tmp_path / "given")
    with aifsm.record_conversion(verified_model=HOSTILE.replace("\n", " "), responsible=HOSTILE, log_id="hostile-1") as log:
        log.output(given)
        log.note(HOSTILE, *FORMULAS)
        log.declare("data_sets", HOSTILE, by=HOSTILE)
        log.data(HOSTILE, "0" * 64, SCRIPT)
    assert log.finished.record.output_files[0].path == given.name
    assert_log_is_inert(log.finished.run_id, tmp_path)


def test_what_is_declared_later_is_only_text(tmp_path: Path) -> None:
    with aifsm.record_conversion(verified_model="detector_4", log_id="hostile-2") as log:
        log.note(HOSTILE)
    aifsm.declare(log.finished.run_id, "data_sets", HOSTILE, by=HOSTILE)
    assert_log_is_inert(log.finished.run_id, tmp_path)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname"])
def test_a_file_whose_weights_lie_outside_its_folder_is_refused(tmp_path: Path, location: str) -> None:
    given = hostile_file(tmp_path / "given")
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    model = onnx.load(given)
    (weight := model.graph.initializer[0]).ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    given.write_bytes(model.SerializeToString())
    with pytest.raises(InputError), aifsm.record_conversion(verified_model="detector_4", log_id="hostile-3") as log:
        log.output(given)
    assert mlflow.get_run(log.place.run_id).data.tags["aifsm.conversion.status"] == "failed"
