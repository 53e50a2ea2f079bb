"""The integer file of a fake-quantized module: codes, standard operators, and the same values."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from mlflow_aifsm.backends.fake_quantized import held, ranges
from mlflow_aifsm.backends.fake_quantized import quantizers as quantizers_of
from mlflow_aifsm.backends.integer_agreement import compared
from mlflow_aifsm.backends.integer_export import integer_file
from mlflow_aifsm.capture import quantizers, weight_codes
from mlflow_aifsm.capture.onnx_graph import opened
from mlflow_aifsm.errors import OptimizationError
from mlflow_aifsm.verification import integer_execution
from tests.backends.integer_nets import Concatenated, Grouped, GroupedNormalized, Recurrent, Residual, Smooth, Transposed, made

ALL = (Residual, Concatenated, Smooth, Transposed, Recurrent)
WHOLE = (Residual, Concatenated)


def operators(kind: type[nn.Module], activations: str = "uint8") -> list[str]:
    return [node.op_type for node in onnx.load(made(kind, activations)[1].path).graph.node]


def outputs(kind: type[nn.Module], optimized: bool) -> tuple[np.ndarray, np.ndarray]:
    model, file, samples = made(kind)
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file.path), options)
    fed = {spec.name: part.numpy() for spec, part in zip(session.get_inputs(), samples, strict=True)}
    with torch.no_grad():
        return session.run(None, fed)[0], model(*samples).numpy()


@pytest.mark.parametrize("kind", ALL)
def test_weights_are_stored_as_codes_and_all_operators_are_standard(kind: type[nn.Module]) -> None:
    _, file, _ = made(kind)
    model = onnx.load(file.path)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    assert file.weights
    assert all(stored[f"{weight}_quantized"].data_type == onnx.TensorProto.INT8 for weight in file.weights.values())
    assert not set(file.weights.values()) & set(stored)
    assert {node.domain for node in model.graph.node} | {one.domain for one in model.opset_import} == {""}
    assert not model.functions


@pytest.mark.parametrize("kind", ALL)
def test_every_layer_gives_the_codes_of_the_trained_module_within_one(kind: type[nn.Module]) -> None:
    model, file, samples = made(kind)
    found = compared(file, model, [(tuple(part[:8] for part in samples), {}), (tuple(part[8:] for part in samples), {})])
    assert found.samples == 16
    assert {row.quantizer for row in found.rows} == {one.name for one in held(model)} - file.weights.keys()
    assert max(row.largest for row in found.rows) <= 1
    assert sum(row.different for row in found.rows) < 0.002 * sum(row.codes for row in found.rows)
    assert found.outputs < 1e-3


@pytest.mark.parametrize("kind", ALL)
def test_codes_are_those_of_the_trained_float_weights_in_a_file_exported_apart(kind: type[nn.Module]) -> None:
    file = opened(made(kind)[1].path)
    fact = weight_codes.weight_codes(file, made(kind)[1].float_path, quantizers.read(file))
    assert fact.value.data["different"] == 0
    assert fact.value.data["compared"] > 0


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize("kind", WHOLE)
def test_the_file_computes_what_the_module_computes(kind: type[nn.Module], optimized: bool) -> None:
    found, expected = outputs(kind, optimized)
    assert np.abs(found - expected).max() < 0.02 * np.ptp(expected)


@pytest.mark.parametrize("kind", WHOLE)
def test_onnx_runtime_computes_every_layer_in_integers(kind: type[nn.Module]) -> None:
    facts = {fact.name: fact for fact in integer_execution.facts(made(kind)[1].path)}
    assert facts["runtime.integer_ratio"].value.data == 1.0
    assert "QLinearConv" in facts["runtime.integer_operators"].value.data["integer"]
    assert integer_execution.float_layers(made(kind)[1].path) == []
    assert made(kind)[1].reasons == {}


def test_normalizations_with_negative_and_zero_gain_are_folded_into_the_scales() -> None:
    model, file, _ = made(Residual)
    assert "BatchNormalization" not in operators(Residual)
    factor = np.asarray(file.factors["stem.weight"])
    assert (factor < 0).any()
    assert (factor == 0).any()
    row = next(row for row in quantizers.read(file.path) if row.label == "stem.weight")
    step = np.asarray(next(one.step for one in held(model) if file.weights.get(one.name) == "stem.weight"))
    assert np.allclose(row.scale, step * np.where(factor == 0, 1, np.abs(factor)), rtol=1e-6)


@pytest.mark.parametrize(("kind", "named"), [(Smooth, "not quantized before"), (Transposed, "")])
def test_what_the_runtime_computes_in_float_is_named(kind: type[nn.Module], named: str) -> None:
    file = made(kind)[1]
    in_float = integer_execution.float_layers(file.path)
    assert in_float
    if named:
        assert any(named in file.reasons[name] for name in in_float if name in file.reasons)


def test_a_clamp_that_the_range_reaches_beyond_stands_between_two_quantizers() -> None:
    torch.manual_seed(0)
    model, _, samples = made(Residual)
    wide = copy.deepcopy(model)
    name = next(one for one in quantizers_of(wide) if "hardtanh" in one)
    with torch.no_grad():
        quantizers_of(wide)[name].input_low.fill_(-1.0)
        quantizers_of(wide)[name].input_range = torch.nn.Parameter(torch.tensor([9.0]))
    file = integer_file(wide, (samples, {}), "uint8", dynamic_shapes="batch")
    assert integer_execution.float_layers(file.path) == []
    found = compared(file, wide, [(samples, {})])
    assert max(row.largest for row in found.rows) <= 1


@pytest.mark.parametrize("activations", ["uint8", "int8"])
@pytest.mark.parametrize("preset", ["mixed", "performance"])
def test_activations_have_the_type_that_is_asked_whatever_their_sign(activations: str, preset: str) -> None:
    model, file, samples = made(Residual, activations, preset)
    rows = [row for row in quantizers.read(file.path) if row.kind == "activation"]
    assert {row.dtype for row in rows} == {activations}
    assert max(row.largest for row in compared(file, model, [(samples, {})]).rows) <= 1
    # ONNX Runtime turns signed codes into unsigned ones but for those that two nodes read, and then the types do not match
    assert (integer_execution.float_layers(file.path) == []) == (activations == "uint8")


def test_biases_are_int32_codes_of_data_step_times_weight_step() -> None:
    _, file, _ = made(Residual)
    rows = {row.tensor: row for row in quantizers.read(file.path)}
    biases = [row for row in rows.values() if row.kind == "bias"]
    assert len(biases) == 4
    weight, data = (
        rows["head.weight_quantized"],
        next(row for row in rows.values() if row.kind == "activation" and row.op == "Gemm"),
    )
    bias = rows["head.bias_quantized"]
    assert np.allclose(bias.scale, np.asarray(weight.scale) * data.scale[0], rtol=1e-6)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(file.path).graph.initializer}
    values = stored["head.bias_quantized"] * np.asarray(bias.scale)
    assert np.abs(values - made(Residual)[0].head.bias.detach().numpy()).max() <= max(bias.scale) / 2 + 1e-9


def test_a_bias_whose_groups_share_scales_stays_in_float_with_its_reason() -> None:
    model, file, samples = made(Grouped)
    assert "its bias has 8 channels, its weight 2 scales that groups share" in file.reasons.values()
    assert "up.bias" in {tensor.name for tensor in onnx.load(file.path).graph.initializer}
    assert max(row.largest for row in compared(file, model, [(samples, {})]).rows) <= 1


def test_weights_are_not_compared_with_floats_that_have_a_normalization_folded_in() -> None:
    file = opened(made(GroupedNormalized)[1].path)
    assert "BatchNormalization" in operators(GroupedNormalized)
    fact = weight_codes.weight_codes(file, made(GroupedNormalized)[1].float_path, quantizers.read(file))
    assert "batch normalization folded into it" in fact.value.data["not_compared"]["up.weight"]
    assert fact.value.data["different"] == 0
    assert fact.findings == ()


def test_a_scale_that_is_no_number_is_refused() -> None:
    broken = copy.deepcopy(made(Residual)[0])
    first = next(iter(quantizers_of(broken).values()))
    with torch.no_grad():
        next(iter(ranges(first).values())).fill_(float("nan"))
    with pytest.raises(OptimizationError, match=r"the scale of quantizer .* is no positive number"):
        held(broken)
