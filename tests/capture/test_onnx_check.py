"""Damaged and hostile ONNX files: each is refused in one line before a weight of it is read."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

from mlflow_aifsm.capture.file_kind import FileKind, kind_of
from mlflow_aifsm.capture.onnx_graph import opened, read
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.measurement import measure

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)


def linear(*more: onnx.NodeProto) -> ModelProto:
    """``y = x @ W`` and then the given nodes."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"], "product"), *more],
        "g",
        inputs,
        outputs,
        [numpy_helper.from_array(WEIGHT, "W")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def saved(folder: Path, change: Callable[[TensorProto], object] = id, model: ModelProto | None = None) -> Path:
    """The model with its weight changed, all in one file."""
    model = model or linear()
    change(model.graph.initializer[0])
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def external(folder: Path, **place: object) -> Path:
    """The model with its weight in ``weights.bin``, which holds it from byte 0 on, described as ``place`` says."""

    def outside(weight: TensorProto) -> None:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in {"location": "weights.bin", **place}.items():
            weight.external_data.add(key=key, value=str(value))

    folder.mkdir(exist_ok=True)
    (folder / "weights.bin").write_bytes(WEIGHT.tobytes())
    return saved(folder, outside)


def refused(path: Path, words: str) -> None:
    for reader in (read, measure):
        with pytest.raises(InputError, match=words) as caught:
            reader(path)
        assert "\n" not in str(caught.value)


def test_a_sound_file_passes_with_its_weights_inside_or_beside_it(tmp_path: Path) -> None:
    assert np.array_equal(opened(saved(tmp_path)).array(read(saved(tmp_path)).graph.initializer[0]), WEIGHT)
    path = external(tmp_path / "beside", offset=0, length=48)
    assert np.array_equal(opened(path).array(read(path).graph.initializer[0]), WEIGHT)


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../weights.bin", "a/../../weights.bin", "C:\\weights.bin", "..\\weights.bin"]
)
def test_weights_at_a_path_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "weights.bin").write_bytes(WEIGHT.tobytes())
    refused(external(tmp_path / "model", location=location), "names weights outside its folder")


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_weights_behind_a_link_that_leads_outside_are_refused(tmp_path: Path, linked: str) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "weights.bin").write_bytes(WEIGHT.tobytes())
    path = external(tmp_path / "model", location="weights.bin" if linked == "file" else "data/weights.bin")
    (path.parent / "weights.bin").unlink()
    if linked == "file":
        (path.parent / "weights.bin").symlink_to(tmp_path / "secret" / "weights.bin")
    else:
        (path.parent / "data").symlink_to(tmp_path / "secret")
    refused(path, "names weights outside its folder; got .* a link to")


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    path = external(tmp_path / "model", location="linked.bin")
    (path.parent / "linked.bin").symlink_to("weights.bin")
    assert len(opened(path).files) == 2


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({"location": "nowhere.bin"}, "are missing; got no file nowhere.bin"),
        ({"location": "."}, "are missing"),
        ({"offset": 4}, "which is cut short; got bytes 4 to 52 of a file of 48"),
        ({"offset": -4}, "lies outside its file"),
        ({"offset": 10**18}, "lies outside its file"),
        ({"length": 40}, "40 bytes in the file; expected 48 for shape"),
        ({"length": 10**15}, "1,000,000,000,000,000 bytes"),
        ({"offset": "zero"}, "is damaged"),
    ],
)
def test_external_data_that_is_not_where_the_graph_says_is_refused(
    tmp_path: Path, place: dict[str, object], words: str
) -> None:
    refused(external(tmp_path, **place), words)


def dims(*sizes: int) -> Callable[[TensorProto], object]:
    def change(weight: TensorProto) -> None:
        del weight.dims[:]
        weight.dims.extend(sizes)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dims(2**40, 2**20), "tensor 'W' of model.onnx is damaged; got 48 bytes in the file"),
        (dims(3, 5), "expected 60 for shape"),
        (dims(-3, -4), r"shape \[-3, -4\]"),
        (dims(0, 4), "expected 0 for shape"),
        (lambda weight: setattr(weight, "data_type", TensorProto.DOUBLE), r"expected 96 for shape \[3, 4\] of float64"),
        (lambda weight: setattr(weight, "data_type", 99), "element type 99"),
        (lambda weight: setattr(weight, "data_type", 0), "element type 0"),
        (lambda weight: weight.ClearField("raw_data"), "0 values in the file"),
    ],
)
def test_a_weight_of_another_size_than_its_shape_is_refused(
    tmp_path: Path, change: Callable[[TensorProto], object], words: str
) -> None:
    refused(saved(tmp_path, change), words)


def test_an_absurd_constant_in_a_subgraph_is_refused(tmp_path: Path) -> None:
    bomb = helper.make_node(
        "Constant", [], ["c"], value=TensorProto(data_type=TensorProto.FLOAT, dims=[2**50], raw_data=b"1234")
    )
    branch = helper.make_graph([bomb], "branch", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, None)])
    choice = helper.make_node("If", ["y"], ["z"], then_branch=branch, else_branch=branch)
    refused(saved(tmp_path, model=linear(choice)), "is damaged; got 4 bytes")


@pytest.mark.parametrize(
    ("added", "words"),
    [
        (
            [helper.make_node("Add", ["y", "b"], ["a"], "first"), helper.make_node("Relu", ["a"], ["b"])],
            "Add node 'first' reads 'b'",
        ),
        ([helper.make_node("Identity", ["loop"], ["loop"], "self")], "Identity node 'self' reads 'loop'"),
        ([helper.make_node("Identity", ["x"], ["x"], "self")], "makes x twice"),
        ([helper.make_node("Relu", ["x"], ["y"], "again")], "makes y twice; got node 'again'"),
        ([helper.make_node("Relu", ["nothing"], ["z"], "lost")], "reads 'nothing' before any node makes it"),
    ],
)
def test_a_graph_with_a_cycle_or_out_of_order_is_refused(tmp_path: Path, added: list[onnx.NodeProto], words: str) -> None:
    refused(saved(tmp_path, model=linear(*added)), words)


def test_a_long_chain_of_copies_is_measured(tmp_path: Path) -> None:
    names = ["y", *(f"t{index}" for index in range(3000))]
    chain = [helper.make_node("Identity", [old], [new]) for old, new in pairwise(names)]
    facts = {fact.name: fact.value.data for fact in measure(saved(tmp_path, model=linear(*chain))).facts}
    assert facts["graph.operators"] == {"Identity": 3000, "MatMul": 1}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refused(path, "damaged or no ONNX file|holds no whole ONNX graph|is damaged")


class Hostile:
    """A pickle that leaves a trace when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (__import__, ("antigravity",))


def zipped(**records: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in records.items():
            archive.writestr(f"model/{name}", content)
    return stream.getvalue()


def module() -> bytes:
    torch.save(torch.nn.Linear(2, 2), stream := io.BytesIO())
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps(Hostile()), "is a pickle, no frozen model"),
        (pickle.dumps(Hostile(), protocol=0), "damaged or no ONNX file"),
        (module(), "holds a pickled Python object, no frozen model"),
        (zipped(text=b"1"), "is a zip archive, no frozen model"),
        (zipped(archive_format=b"pt2"), "damaged or no onnx file; got a pt2 archive"),
        (b"PK\x03\x04 and no more", "is a damaged zip archive"),
        (b"", "holds no whole ONNX graph"),
    ],
    ids=["pickle", "text pickle", "pickled module", "zip", "pt2", "cut zip", "empty"],
)
def test_what_is_no_onnx_file_but_called_so_is_refused_and_never_unpickled(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    refused(path, words)


def test_the_kind_follows_from_the_content_and_must_agree_with_the_name(tmp_path: Path) -> None:
    onnx_file = saved(tmp_path)
    assert kind_of(onnx_file) is FileKind.ONNX
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), tmp_path / "model.pt")
    assert kind_of(tmp_path / "model.pt") is FileKind.TORCHSCRIPT
    renamed = onnx_file.rename(tmp_path / "renamed.pt2")
    with pytest.raises(InputError, match="damaged or no pt2 file; got no archive of PyTorch"):
        kind_of(renamed)
    with pytest.raises(InputError, match="cannot read"):
        kind_of(tmp_path / "missing.onnx")
