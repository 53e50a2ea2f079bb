"""What is read of a source model, on real modules and real exported programs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from mlflow_aifsm.capture.torch_module import facts, state_digest
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact, State


class DigitsNet(nn.Module):
    """Two convolutions with batch normalization, a module dropout and a functional one."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(4 * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.drop(self.features(x)).flatten(1)
        return nn.functional.dropout(self.fc(hidden), 0.3, self.training)


class Tied(nn.Module):
    """Shared weights, a buffer outside the state dict, dropout inside other modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)
        self.register_buffer("scale", torch.full((8,), 2.0), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.second(self.first(x)) * self.scale
        attended: torch.Tensor = self.attention(hidden, hidden, hidden, need_weights=False)[0]
        return attended


IMAGE = torch.zeros(2, 1, 8, 8)


def by_name(model: nn.Module | torch.export.ExportedProgram) -> dict[str, Fact]:
    return {fact.name: fact for fact in facts(model)}


def exported(module: nn.Module, example: torch.Tensor = IMAGE) -> torch.export.ExportedProgram:
    return torch.export.export(module, (example,))


def reloaded(module: nn.Module, folder: Path, example: torch.Tensor = IMAGE) -> torch.export.ExportedProgram:
    torch.export.save(exported(module, example), folder / "model.pt2")
    return torch.export.load(folder / "model.pt2")


def test_a_live_module_names_its_layers_and_says_what_it_cannot_show() -> None:
    found = by_name(DigitsNet().eval())
    assert found["model.architecture"].value.text == "DigitsNet: Conv2d ×2, BatchNorm2d ×2, ReLU ×1, Dropout ×1, Linear ×1"
    assert found["training.dropout"].value.text.startswith("Dropout ×1 (p 0.2); functional dropout is not visible")
    assert "momentum 0.1" in found["training.batch_normalization"].value.text
    assert str(found["model.architecture"].source) == "module DigitsNet"
    assert {fact.state for fact in found.values()} == {State.CAPTURED}


def test_parameters_are_counted_once_where_they_are_shared(tmp_path: Path) -> None:
    module = Tied()
    count = sum(parameter.numel() for parameter in module.parameters())
    assert by_name(module)["model.parameters"].value.data == count
    assert by_name(exported(module, torch.zeros(2, 3, 8)))["model.parameters"].value.data == count
    assert (
        by_name(DigitsNet())["model.parameters"].value.data
        == by_name(reloaded(DigitsNet(), tmp_path))["model.parameters"].value.data
    )


@pytest.mark.parametrize("as_module", [0, 1], ids=["program", "graph module"])
def test_a_reloaded_program_names_modules_and_functional_dropout(tmp_path: Path, as_module: int) -> None:
    program = reloaded(DigitsNet(), tmp_path)
    found = by_name(program.module() if as_module else program)
    assert found["model.architecture"].value.text == "DigitsNet: Conv2d ×2, BatchNorm2d ×2, ReLU ×1, Dropout ×1, Linear ×1"
    assert found["training.dropout"].value.text == "Dropout ×2 (p 0.2, 0.3; training flag True) [aten.dropout.default]"
    assert found["training.batch_normalization"].value.text.startswith("Batch Normalization ×2 (eps 1e-05; momentum 0.1")
    assert found["model.mode"].value.brief == "training"
    assert str(found["model.mode"].source) == "exported program"


def test_a_program_without_module_stacks_is_described_by_its_operators() -> None:
    program = exported(DigitsNet().eval())
    for node in program.graph.nodes:
        node.meta.pop("nn_module_stack", None)
    text = by_name(program)["model.architecture"].value.text
    assert text.startswith("exported program: aten.conv2d.default ×2, aten.batch_norm.default ×2")


def test_the_mode_counts_the_modules_left_in_training() -> None:
    module = DigitsNet().eval()
    assert by_name(module)["model.mode"].value.text == "evaluation mode"
    module.drop.train()
    mode = by_name(module)["model.mode"].value
    assert (mode.data, mode.text) == ({"training": True, "modules_in_training": 1}, "training mode: 1 of 9 modules")
    assert by_name(exported(DigitsNet().eval()))["model.mode"].value.data == {"training": False, "flags": {}}


def test_dropout_inside_attention_and_recurrent_layers_is_seen() -> None:
    assert "MultiheadAttention ×1 (dropout 0.1)" in by_name(Tied())["training.dropout"].value.text
    assert "LSTM ×1 (dropout 0.3)" in by_name(nn.LSTM(4, 4, 2, dropout=0.3))["training.dropout"].value.text
    assert by_name(nn.Linear(2, 2))["training.dropout"].value.text.startswith("no dropout module; functional")
    program = exported(Tied(), torch.zeros(2, 3, 8))
    assert "scaled_dot_product_attention.default ×1 (dropout_p 0.1)" in by_name(program)["training.dropout"].value.text


def test_a_setting_that_is_no_number_is_kept_as_text() -> None:
    module = type("ScheduledDropout", (nn.Module,), {"p": property(lambda _: Fraction(1, 2))})()
    assert by_name(module)["training.dropout"].value.data == [{"name": "", "type": "ScheduledDropout", "p": "1/2"}]


def test_other_training_only_parts_are_named() -> None:
    module = nn.Module()
    module.normed = parametrizations.weight_norm(nn.Linear(4, 4))
    module.pruned = nn.Linear(4, 4)
    prune.L1Unstructured.apply(module.pruned, "weight", 0.5)  # type: ignore[no-untyped-call]
    module.spectral = nn.utils.spectral_norm(nn.Linear(4, 4))
    module.aux_head = nn.Linear(4, 2)
    module.path = type("DropPath", (nn.Module,), {})()
    text = by_name(module)["training.other"].value.text
    assert text == "parametrization ×1; pruning mask ×1; spectral norm ×1; stochastic layer ×1; auxiliary head ×1"
    names = {part["kind"]: part["name"] for part in by_name(module)["training.other"].value.data}
    assert (names["parametrization"], names["pruning mask"], names["auxiliary head"]) == (
        "normed.weight",
        "pruned.weight",
        "aux_head",
    )
    assert "Linear ×4" in by_name(module)["model.architecture"].value.text
    assert by_name(nn.Linear(2, 2))["training.other"].value.brief == "none found"


def test_a_module_and_its_exported_forms_have_one_digest(tmp_path: Path) -> None:
    module, example = Tied().eval(), torch.zeros(2, 3, 8)
    digest = state_digest(module)
    program = reloaded(module, tmp_path, example)
    assert state_digest(exported(module, example)) == state_digest(program) == state_digest(program.module()) == digest
    with torch.no_grad():
        module.first.bias[0] += 1
    assert state_digest(module) != digest


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_the_digest_takes_every_dtype_and_ignores_strides() -> None:
    holder = nn.Module()
    for index, dtype in enumerate((torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.complex64)):
        holder.register_buffer(f"b{index}", torch.ones(2, 3).to(dtype))
    holder.register_buffer("quantized", torch.quantize_per_tensor(torch.ones(3), 0.5, 1, torch.qint8))
    holder.register_buffer("scalar", torch.tensor(3.0))
    digest = state_digest(holder)
    holder.register_buffer("b0", torch.ones(3, 2, dtype=torch.bfloat16).t())
    assert state_digest(holder) == digest
    holder.quantized = torch.quantize_per_tensor(torch.ones(3), 0.25, 1, torch.qint8)
    assert state_digest(holder) != digest


def test_a_tensor_without_data_is_an_error_that_names_it() -> None:
    with pytest.raises(InputError, match=r"weight|bias"):
        state_digest(nn.Linear(2, 2, device="meta"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_frozen_torchscript_does_not_pretend_to_have_no_parameters() -> None:
    script = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)).eval())
    assert by_name(script)["model.parameters"].value.data == 6
    assert by_name(script)["model.architecture"].value.text == "Sequential: Linear ×1, Dropout ×1"
    frozen = torch.jit.freeze(script)
    assert by_name(frozen)["model.parameters"].state is State.NOT_RECORDED
    with pytest.raises(InputError, match="constants"):
        state_digest(frozen)
