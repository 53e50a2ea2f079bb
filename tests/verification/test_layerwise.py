"""Error by layer, on files that both quantizers wrote, and with a ReLU that its quantizer took over."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nncf
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import State
from mlflow_aifsm.samples import Samples
from mlflow_aifsm.verification.augmented import AugmentedSession, augmented_session
from mlflow_aifsm.verification.layerwise import layer_facts, layer_sqnr


class Reader(CalibrationDataReader):
    def __init__(self, images: np.ndarray) -> None:
        self.items = iter([{"image": images[index : index + 1]} for index in range(60)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.items, None)


@pytest.fixture(scope="module")
def files(digits: Any, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The digits network in float, and quantized by NNCF, by ONNX Runtime as QDQ, and as operators on codes."""
    folder = tmp_path_factory.mktemp("layers")
    path, batch = folder / "float.onnx", torch.export.Dim("n", min=1, max=64)
    torch.onnx.export(digits.model, (digits.example,), path, dynamic_shapes=({0: batch},), verbose=False, external_data=False)
    samples = [{"image": digits.images[index : index + 1]} for index in range(60)]
    onnx.save(nncf.quantize(onnx.load(path), nncf.Dataset(samples)), folder / "nncf.onnx")
    for name, form in (("qdq", QuantFormat.QDQ), ("codes", QuantFormat.QOperator)):
        types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        quantize_static(path, folder / f"{name}.onnx", Reader(digits.images), quant_format=form, **types)
    quantized = {name: folder / f"{name}.onnx" for name in ("nncf", "qdq", "codes")}
    return SimpleNamespace(original=path, images=digits.images, **quantized)


def rows(files: SimpleNamespace, name: str, most: int = 32) -> dict[str, Any]:
    found = layer_sqnr(getattr(files, name), files.original, Samples.of(files.images), most)
    return {row["tensor"]: row["sqnr_db"] for row in found}


@pytest.mark.parametrize("name", ["nncf", "qdq", "codes"])
def test_every_quantizer_names_the_float_tensor_and_none_of_a_sound_model_lies_below_15_db(
    files: SimpleNamespace, name: str
) -> None:
    found = rows(files, name)
    assert {"image", "relu"} <= set(found)
    assert "getitem" not in found
    assert min(found.values()) > 15


def test_the_ratio_is_that_of_the_float_relu_and_the_dequantized_codes(files: SimpleNamespace) -> None:
    images = files.images[:32]
    expected = AugmentedSession(files.original, ["relu"]).run({"image": images})["relu"].astype(float)
    got = AugmentedSession(files.qdq, ["relu_DequantizeLinear_Output"]).run({"image": images})["relu_DequantizeLinear_Output"]
    ratio = 10 * math.log10(np.square(expected).sum() / np.square(expected - got).sum())
    assert rows(files, "qdq")["relu"] == pytest.approx(ratio, rel=1e-6)
    assert rows(files, "codes")["relu"] == pytest.approx(ratio, rel=1e-6)


def test_both_forms_of_one_quantization_agree_and_the_output_is_found_under_its_float_name(files: SimpleNamespace) -> None:
    nodes, codes = rows(files, "qdq"), rows(files, "codes")
    assert nodes["linear"] == pytest.approx(codes["linear"], rel=1e-3)


def test_no_more_samples_are_read_than_asked_for(files: SimpleNamespace) -> None:
    class Counted(list):
        def __iter__(self) -> Any:
            for self.read, item in enumerate(super().__iter__(), 1):
                yield item

    given = Counted(files.images[:50])
    layer_sqnr(files.qdq, files.original, Samples.of(lambda: iter(given)), most=6)
    assert given.read == 6


def test_the_fact_names_the_worst_tensors_and_the_median() -> None:
    table = [
        {"tensor": name, "layer": "l", "op": "Conv", "sqnr_db": ratio}
        for name, ratio in zip("abcd", (30, 9, 20, 40), strict=True)
    ]
    fact = layer_facts([*table, {"tensor": "e", "layer": "l", "op": "Conv", "sqnr_db": None}])
    assert fact.value.text == (
        "Lowest at b 9.0 dB, c 20.0 dB, a 30.0 dB; median 25.0 dB of 4 quantized tensors (1 more could not be compared)"
    )
    assert (fact.value.short, fact.value.data["median_db"]) == ("9.0 dB", 25)
    for empty in ([], [{"tensor": "e", "layer": "l", "op": "Conv", "sqnr_db": None}]):
        assert layer_facts(empty).state is State.NOT_RECORDED


def pair(folder: Path, batch: str | int, scale: float, kept: bool) -> tuple[Path, Path]:
    """A float file ``y = relu(x · 2)`` and its quantized form, with the Relu or without, weights of both as external data."""
    made = []
    for name, quantized in (("float", False), ("int8", True)):
        nodes = [helper.make_node("Mul", ["x", "two"], ["m"])]
        nodes += [] if quantized and not kept else [helper.make_node("Relu", ["m"], ["r"])]
        last = "r" if kept or not quantized else "m"
        held = [numpy_helper.from_array(np.full((1, 4), 2, np.float32), "two")]
        if quantized:
            held += [numpy_helper.from_array(np.array(scale, np.float32), "s"), numpy_helper.from_array(np.uint8(0), "z")]
            nodes += [helper.make_node("QuantizeLinear", [last, "s", "z"], ["q"])]
            nodes += [helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])]
        else:
            nodes += [helper.make_node("Identity", ["r"], ["y"])]
        ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, [batch, 4]) for end in "xy"]
        graph = helper.make_graph(nodes, name, ends[:1], ends[1:], held)
        (folder / name).mkdir()
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.save(model, folder / name / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
        made.append(folder / name / "m.onnx")
    return made[0], made[1]


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("batch", ["n", 8])
def test_a_relu_that_the_quantizer_took_over_is_compared_after_it(tmp_path: Path, kept: bool, batch: str | int) -> None:
    original, quantized = pair(tmp_path, batch, 8 / 255, kept)
    data = np.random.default_rng(0).uniform(-4, 4, (20, 4)).astype(np.float32)
    (row,) = layer_sqnr(quantized, original, Samples.of(data))
    assert row["tensor"] == "r"
    assert row["sqnr_db"] > 45


def test_a_batch_that_never_fills_is_an_error(tmp_path: Path) -> None:
    original, quantized = pair(tmp_path, 8, 8 / 255, kept=True)
    with pytest.raises(InputError, match="no whole batch; expected at least 8 samples"):
        layer_sqnr(quantized, original, Samples.of(np.zeros((5, 4), np.float32)))


def test_equal_tensors_have_no_noise_and_tensors_of_zeros_no_ratio(tmp_path: Path) -> None:
    original, quantized = pair(tmp_path, "n", 2.0, kept=True)
    assert layer_sqnr(quantized, original, Samples.of(np.ones((3, 4), np.float32)))[0]["sqnr_db"] == "inf"
    assert layer_sqnr(quantized, original, Samples.of(np.zeros((3, 4), np.float32)))[0]["sqnr_db"] is None


@pytest.mark.parametrize("optimize", [True, False])
def test_an_augmented_file_gives_its_inside_and_its_outputs_and_stays_as_it_is(tmp_path: Path, optimize: bool) -> None:
    original, _ = pair(tmp_path, "n", 1.0, kept=True)
    before = original.read_bytes()
    session = augmented_session(original, ["m", "x", "y", "m"], optimize)
    data = np.array([[-1, 0, 1, 2]], np.float32)
    assert [node.name for node in session.get_outputs()] == ["y", "m", "x"]
    assert session.run(["m"], {"x": data})[0].tolist() == [[-2, 0, 2, 4]]
    assert original.read_bytes() == before
    with pytest.raises(InputError, match="has no tensor 'nothing'"):
        augmented_session(original, ["nothing"])
