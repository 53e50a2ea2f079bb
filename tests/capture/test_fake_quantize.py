"""OpenVINO's FakeQuantize is read as the quantizer that it simulates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlflow_aifsm.capture.layer_weights import layer_weights
from mlflow_aifsm.capture.onnx_graph import opened
from mlflow_aifsm.capture.quantizer_facts import facts
from mlflow_aifsm.capture.quantizers import read
from mlflow_aifsm.errors import InputError

WEIGHT = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


def saved(folder: Path, low: list[float], high: list[float], levels: int = 255, domain: str = "org.openvinotoolkit") -> Path:
    """``y = x · W`` with both operands fake-quantized: data in [0, 2.55], a weight ``[3, 4]`` per column."""
    ends = {"il": np.float32([0]), "ih": np.float32([2.55]), "wl": np.float32([low]), "wh": np.float32([high])}
    nodes = [
        helper.make_node("FakeQuantize", ["x", "il", "ih", "il", "ih"], ["xq"], "data", domain=domain, levels=256),
        helper.make_node("FakeQuantize", ["w", "wl", "wh", "wl", "wh"], ["wq"], "weight", domain=domain, levels=levels),
        helper.make_node("MatMul", ["xq", "wq"], ["y"], "product"),
    ]
    stored = [numpy_helper.from_array(array, name) for name, array in {"w": WEIGHT, **ends}.items()]
    inputs, outputs = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [1, 3]), ("y", [1, 4]))
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(domain, 1)]
    model = helper.make_model(helper.make_graph(nodes, "g", [inputs], [outputs], stored), opset_imports=opsets, ir_version=10)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def test_levels_and_range_tell_type_scale_and_zero_point(tmp_path: Path) -> None:
    path = saved(tmp_path, [-1.27, -1, -1, -1], [1.27, 1, 1, 1])
    data, weight = read(path)
    assert (data.tensor, data.kind, data.dtype, data.zero_point, data.axis) == ("x", "activation", "uint8", (0,), None)
    assert data.scale == pytest.approx((0.01,))
    assert (weight.tensor, weight.kind, weight.dtype, weight.layer, weight.axis) == ("w", "weight", "int8", "product", 1)
    assert weight.scale == pytest.approx((0.01, 1 / 127, 1 / 127, 1 / 127))
    assert (weight.symmetric, weight.size, weight.codes_min) == (True, 12, -104)


def test_a_range_that_is_not_symmetric_has_a_zero_point(tmp_path: Path) -> None:
    row = read(saved(tmp_path, [-0.5] * 4, [2.05] * 4, levels=256))[1]
    assert row.zero_point == (-78, -78, -78, -78)
    assert row.beta == pytest.approx((-0.5,) * 4)
    assert row.alpha == pytest.approx((2.05,) * 4)


def test_facts_say_that_codes_are_simulated_and_that_no_layer_is_in_float(tmp_path: Path) -> None:
    found = {fact.name: fact for fact in facts(saved(tmp_path, [-1] * 4, [1] * 4))}
    assert found["quantizers.technique"].value.brief == "integer quantization (static, simulated by FakeQuantize)"
    assert found["quantizers.float_layers"].value.text == "0 of 1 layers in float"
    assert found["quantizers.precision"].value.brief == "int8 weights, uint8 activations"


def test_weights_behind_it_are_found_with_the_zeros_that_rounding_makes(tmp_path: Path) -> None:
    path = saved(tmp_path, [-1] * 4, [1] * 4, levels=3)
    (weight,) = layer_weights(path)
    assert (weight.tensor, weight.layer) == ("w", "product")
    assert int(weight.zero(opened(path)).sum()) == int((np.abs(WEIGHT) < 0.5).sum())


@pytest.mark.parametrize(("low", "high", "levels"), [([1.0], [-1.0], 255), ([-1.0], [1.0], 0)])
def test_a_range_that_is_none_is_damage(tmp_path: Path, low: list[float], high: list[float], levels: int) -> None:
    with pytest.raises(InputError, match="quantizer weight is damaged"):
        read(saved(tmp_path, low * 4, high * 4, levels))


def test_values_that_leave_in_another_range_are_those_of_no_integer_quantizer(tmp_path: Path) -> None:
    path = saved(tmp_path, [-1] * 4, [1] * 4)
    model = onnx.load(path)
    model.graph.node[1].input[4] = "ih"
    onnx.save(model, path)
    with pytest.raises(InputError, match="another range on the way out"):
        read(path)


@pytest.mark.parametrize(
    ("levels", "low", "dtype", "codes"),
    [(15, -1, "int4", (-7, 7)), (16, -8 / 7, "int4", (-7, 7)), (3, -1, "int2", (-1, 1)), (2**16, -1, "int16", (-32768, 32767))],
)
def test_levels_tell_the_width(tmp_path: Path, levels: int, low: float, dtype: str, codes: tuple[int, int]) -> None:
    row = read(saved(tmp_path, [low] * 4, [1] * 4, levels))[1]
    assert (row.dtype, (row.codes_min, row.codes_max), row.zero_point) == (dtype, codes, (0,) * 4)


def test_an_operator_of_that_name_from_elsewhere_is_none(tmp_path: Path) -> None:
    assert read(saved(tmp_path, [-1] * 4, [1] * 4, domain="com.example")) == ()
