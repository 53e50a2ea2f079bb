"""Models of every kind, frozen to ONNX and compared with their source: what goes in and out, what is left of training."""

from __future__ import annotations

from collections.abc import Mapping

import mlflow
import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.export import Dim

import mlflow_aifsm as aifsm
from mlflow_aifsm.capture.onnx_graph import nodes
from mlflow_aifsm.operations.configs import EXPORTERS

pytestmark = pytest.mark.usefixtures("experiment")
NOISE = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return NOISE.normal(size=shape).astype(np.float32)


def frozen(
    model: nn.Module, data: Mapping[str, np.ndarray], config: aifsm.Onnx | aifsm.Pt2 | None = None, **how: object
) -> aifsm.Result:
    """``model`` frozen from the first samples of ``data``, dynamic batch, verified on all of them."""
    torch.manual_seed(0)
    example = {name: array[:3] for name, array in data.items()}
    config = config or aifsm.Onnx(dynamic_shapes="batch")
    verification = aifsm.Verification(dict(data), **how)
    return aifsm.freeze(model.eval(), example, config, verified_model="model_1", verification=verification)


def brief(result: aifsm.Result, row: str) -> str:
    return result.record.entries[f"aifsm.elimination.{row}"].value.brief


def operators(result: aifsm.Result) -> set[str]:
    return {node.op_type for node in nodes(onnx.load(result.path))}


class Pairs(nn.Module):
    """Two inputs, a third by keyword only; a dict of a tensor and a tuple goes out."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 3), nn.Linear(5, 3)

    def forward(self, left: torch.Tensor, right: torch.Tensor, *, scale: torch.Tensor) -> dict[str, object]:
        total = (self.left(left) + self.right(right)) * scale
        return {"total": total, "parts": (total.relu(), total.sum(1))}


class Recurrent(nn.Module):
    """Two layers with dropout between them, both directions where the cell is an LSTM."""

    def __init__(self, cell: str) -> None:
        super().__init__()
        self.cell = getattr(nn, cell)(4, 6, 2, batch_first=True, dropout=0.3, bidirectional=cell == "LSTM")
        self.head = nn.Linear(12 if cell == "LSTM" else 6, 3)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(sequence)[0][:, -1])


class Attention(nn.Module):
    """One layer of a transformer, with dropout in and behind the attention."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        return self.layer(sequence).mean(1)


class Branches(nn.Module):
    """Control flow that depends on data; dropout in one branch only."""

    def __init__(self) -> None:
        super().__init__()
        self.yes, self.no, self.drop = nn.Linear(4, 3), nn.Linear(4, 3), nn.Dropout(0.5)

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        taken = torch.cond(vector.mean() > 0, self.yes, lambda given: self.drop(self.no(given)), (vector,))
        return taken.reshape(-1, 3)


class Unfoldable(nn.Module):
    """BatchNorm behind the activation, where no convolution can take it in."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.norm(torch.relu(self.conv(image)))


CONFIGS = [aifsm.Onnx(dynamic_shapes="batch"), aifsm.Pt2(dynamic_shapes="batch")]
IDS = ["onnx", "pt2"]


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_several_inputs_one_by_keyword_and_nested_outputs_are_matched_in_order(config: aifsm.Onnx | aifsm.Pt2) -> None:
    result = frozen(Pairs(), {"left": noise(9, 4), "right": noise(9, 5), "scale": noise(9, 1)}, config)
    assert result.verification.passed
    assert result.verification.samples == 9
    inputs = result.record.entries["aifsm.model.inputs"].value.data
    assert [(row["name"], row["shape"][1:]) for row in inputs] == [("left", [4]), ("right", [5]), ("scale", [1])]
    outputs = result.record.entries["aifsm.model.outputs"].value.data
    assert [row["shape"][1:] for row in outputs] == [[3], [3], []]


def test_a_constant_argument_is_part_of_the_frozen_file() -> None:
    class Powers(nn.Module):
        def forward(self, base: torch.Tensor, exponent: int = 2, offset: torch.Tensor | None = None) -> torch.Tensor:
            return base**exponent if offset is None else base**exponent + offset

    example = {"base": noise(3, 4), "exponent": 3, "offset": noise(3, 4)}
    data = {"base": noise(8, 4), "offset": noise(8, 4)}
    result = aifsm.freeze(
        Powers().eval(),
        example,
        aifsm.Onnx(dynamic_shapes="batch"),
        verified_model="m_1",
        verification=aifsm.Verification(data),
    )
    assert result.verification.passed
    assert [row["name"] for row in result.record.entries["aifsm.model.inputs"].value.data] == ["base", "offset"]


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_recurrent_layers_lose_the_dropout_between_them(cell: str, config: aifsm.Onnx | aifsm.Pt2) -> None:
    result = frozen(Recurrent(cell), {"sequence": noise(9, 7, 4)}, config)
    assert result.verification.passed
    assert brief(result, "dropout") == ("eliminated" if isinstance(config, aifsm.Onnx) else "inert")
    trained_with = result.record.entries["aifsm.elimination.dropout"].beside[0]
    assert "0.3" in trained_with.value.text


def test_attention_is_frozen_without_its_dropout() -> None:
    result = frozen(Attention(), {"sequence": noise(9, 7, 8)})
    assert result.verification.passed
    assert {"Softmax", "LayerNormalization"} <= operators(result)
    assert (brief(result, "dropout"), brief(result, "batch_normalization")) == ("eliminated", "eliminated")


def test_control_flow_becomes_subgraphs_and_they_are_looked_into() -> None:
    data = {"vector": np.concatenate([np.abs(noise(32, 4)), -np.abs(noise(32, 4))])}
    result = aifsm.freeze(Branches().eval(), data["vector"][:32], verified_model="m_1", verification=aifsm.Verification(data))
    assert result.verification.passed
    assert {"If", "Gemm"} <= operators(result)
    assert sum(node.op_type == "Gemm" for node in nodes(onnx.load(result.path))) == 2
    assert brief(result, "dropout") == "eliminated"


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_a_batch_norm_that_cannot_be_folded_is_frozen_and_named(config: aifsm.Onnx | aifsm.Pt2) -> None:
    result = frozen(Unfoldable(), {"image": noise(9, 1, 8, 8)}, config)
    assert result.verification.passed
    assert brief(result, "batch_normalization") == "frozen"
    text = result.record.entries["aifsm.elimination.batch_normalization"].value.text
    assert "batch_norm" in text.lower() or "BatchNormalization" in text
    assert result.record.entries["aifsm.elimination.batch_normalization"].value.data["frozen"]


def test_a_top_level_sequential_folds_and_drops_as_a_module_of_ones_own() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(), nn.Linear(144, 2))
    result = frozen(model, {"input": noise(9, 1, 8, 8)})
    assert result.verification.passed
    assert (brief(result, "dropout"), brief(result, "batch_normalization")) == ("eliminated", "folded")


def test_spatial_sizes_may_be_dynamic() -> None:
    axes = ({0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)
    small, large = noise(4, 1, 8, 8), noise(4, 1, 20, 12)
    for config in (aifsm.Onnx(dynamic_shapes=axes), aifsm.Pt2(dynamic_shapes=axes)):
        verification = aifsm.Verification({"image": large})
        result = aifsm.freeze(Unfoldable().eval(), small, config, verified_model="m_1", verification=verification)
        assert result.verification.passed
        (row,) = result.record.entries["aifsm.model.inputs"].value.data
        assert [isinstance(size, str) for size in row["shape"]] == [True, False, True, True]


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_half_precision_is_judged_by_what_half_precision_can_tell_apart(exporter: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).half()
    config = aifsm.Onnx(dynamic_shapes="batch", exporter=exporter)
    example = torch.from_numpy(noise(3, 1, 8, 8)).half()
    verification = aifsm.Verification(noise(20, 1, 8, 8))
    result = aifsm.freeze(model.eval(), example, config, verified_model="m_1", verification=verification)
    assert result.verification.passed
    assert result.verification.epsilon == pytest.approx(10 / 1024)
    assert result.verification.numbers["max_diff"] < result.verification.epsilon
    assert not result.verification.reason
    strict = aifsm.Verification(noise(20, 1, 8, 8), epsilon=1e-7)
    again = aifsm.freeze(model, example, config, verified_model="m_1", verification=strict, nested=True)
    assert again.verification.epsilon == 1e-7


@pytest.mark.parametrize("cell", ["LSTM"])
def test_the_torchscript_exporter_is_used_on_request_and_logged_with_its_arguments(cell: str) -> None:
    config = aifsm.Onnx(exporter="torchscript", opset=17, dynamic_shapes="batch")
    result = frozen(Recurrent(cell), {"sequence": noise(9, 7, 4)}, config)
    assert result.verification.passed
    call = result.record.entries["aifsm.conversion.converter"].value.data
    assert call["arguments"]["dynamo"] is False
    assert call["arguments"]["opset_version"] == 17
    assert result.record.entries["aifsm.conversion.opset"].value.data == 17
    assert brief(result, "dropout") == "eliminated"


def test_the_torchscript_exporter_takes_several_inputs_and_axes_by_name() -> None:
    axes = {name: {0: "n"} for name in ("left", "right", "scale")}
    config = aifsm.Onnx(exporter="torchscript", dynamic_shapes=axes)
    result = frozen(Pairs(), {"left": noise(9, 4), "right": noise(9, 5), "scale": noise(9, 1)}, config)
    assert result.verification.passed
    with pytest.raises(aifsm.AifsmError, match=r"dynamic_shapes for the TorchScript exporter; got .*middle"):
        frozen(
            Pairs(),
            {"left": noise(9, 4), "right": noise(9, 5), "scale": noise(9, 1)},
            aifsm.Onnx(exporter="torchscript", dynamic_shapes={"middle": {0: "n"}}),
        )


def test_weights_above_64_mib_lie_in_a_file_of_their_own_and_the_set_is_delivered_whole() -> None:
    model = nn.Linear(4200, 4200, bias=False)
    result = frozen(model, {"input": noise(4, 4200)})
    assert result.verification.passed
    files = {file.path: file.size for file in result.record.output_files}
    assert files["model.onnx.data"] >= 4 * 4200**2
    assert files["model.onnx"] < 10_000
    loaded = mlflow.onnx.load_model(result.model_uri)
    assert sum(np.prod(weight.dims) for weight in loaded.graph.initializer) >= 4200**2
