"""Switching to evaluation mode, on real modules and real exported programs, judged by their outputs."""

from __future__ import annotations

import copy
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import nn

from mlflow_aifsm.capture.evaluation_mode import evaluation_copy, to_evaluation, training_flags
from mlflow_aifsm.capture.torch_module import state_digest
from mlflow_aifsm.errors import InputError

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning"),
]
"""PyTorch's own: copying a graph and exporting an LSTM warn about PyTorch's internals."""


class Everything(nn.Module):
    """Each kind of training behaviour an operator's schema knows, one of them in a nested graph."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.batch_only = nn.BatchNorm2d(4, track_running_stats=False)
        self.instance = nn.InstanceNorm1d(4, track_running_stats=True)
        self.attention = nn.MultiheadAttention(36, 2, dropout=0.5, batch_first=True)
        self.memory = nn.LSTM(36, 8, 2, dropout=0.5, batch_first=True)
        self.drop, self.slope, self.fc = nn.Dropout(0.5), nn.RReLU(), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.instance(self.batch_only(self.norm(self.conv(x))).flatten(2))
        x = self.memory(self.attention(x, x, x, need_weights=False)[0])[0][:, -1]
        with torch.no_grad():
            x = self.drop(x)
        result: torch.Tensor = self.slope(nn.functional.dropout(self.fc(x), 0.5, self.training))
        return result


def small() -> nn.Sequential:
    parts = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3))
    module = nn.Sequential(*parts)
    for _ in range(3):
        module(torch.randn(8, 1, 8, 8))
    return module


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(7)


def exported(module: nn.Module) -> torch.export.ExportedProgram:
    return torch.export.export(module.train(), (torch.randn(4, 1, 8, 8),))


def test_every_training_flag_is_switched_off_and_nothing_else() -> None:
    module, images = Everything(), torch.randn(4, 1, 8, 8)
    module(images)
    program = exported(module)
    changed, notes = to_evaluation(program)
    expected = copy.deepcopy(module).eval()(images)
    assert training_flags(changed) == {}
    assert torch.allclose(changed.module()(images), expected, atol=1e-6)
    assert set(training_flags(program)) == {note.partition(":")[0] for note in notes if "->" in note}
    assert "aten.dropout.default: train True -> False, 2 nodes" in notes
    assert "aten.scaled_dot_product_attention.default: dropout_p 0.5 -> 0.0, 1 node" in notes


def test_the_program_that_was_given_stays_as_it_is() -> None:
    program = exported(small())
    before, digest, code = training_flags(program), state_digest(program), program.graph_module.code
    changed, notes = to_evaluation(program)
    assert notes[-1].endswith("1 node")
    assert changed is not program
    assert (training_flags(program), state_digest(program), program.graph_module.code) == (before, digest, code)
    assert before == {"aten.dropout.default": 1, "aten.batch_norm.default": 1}


def test_running_the_changed_program_no_longer_counts_batches() -> None:
    changed, notes = to_evaluation(exported(small()))
    runnable, images = changed.module(), torch.randn(4, 1, 8, 8)
    digest = state_digest(runnable)
    runnable(images)
    assert state_digest(runnable) == digest
    assert "aten.add_.Tensor on num_batches_tracked: removed, 1 node" in notes


def test_the_changed_program_exports_to_a_clean_graph_with_equal_outputs(tmp_path: Path) -> None:
    module = small()
    torch.export.save(exported(module), tmp_path / "model.pt2")
    program, _ = to_evaluation(torch.export.load(tmp_path / "model.pt2"))
    torch.onnx.export(program, (), tmp_path / "model.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    images = torch.randn(4, 1, 8, 8)
    (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert torch.allclose(torch.from_numpy(found), module.eval()(images), atol=1e-5)
    exported_model = torch.onnx.export(program, (), dynamo=True, verbose=False)
    assert exported_model is not None
    assert {node.op_type for node in exported_model.model.graph}.isdisjoint({"Dropout", "BatchNormalization"})
    assert len(exported_model.model.graph.outputs) == 1


def test_a_program_in_evaluation_mode_comes_back_itself() -> None:
    program = torch.export.export(small().eval(), (torch.randn(4, 1, 8, 8),))
    assert to_evaluation(program) == (program, ())
    graph = program.module()
    assert evaluation_copy(graph) == (graph, ())


def test_a_graph_module_that_refuses_eval_is_copied_into_evaluation_mode() -> None:
    module, images = small(), torch.randn(4, 1, 8, 8)
    graph = exported(module).module()
    with pytest.raises(NotImplementedError):
        graph.eval()
    changed, notes = evaluation_copy(graph)
    assert torch.allclose(changed(images), copy.deepcopy(module).eval()(images), atol=1e-6)
    assert len(notes) == 3
    assert not torch.equal(graph(images), graph(images))


def test_a_live_module_keeps_its_modes_and_statistics() -> None:
    module = small().eval()
    module[3].train()
    modes, digest = [part.training for part in module.modules()], state_digest(module)
    changed, notes = evaluation_copy(module)
    assert changed is not module
    assert not any(part.training for part in changed.modules())
    assert notes == ("an evaluation-mode copy was converted: 1 of 7 modules were in training mode",)
    assert ([part.training for part in module.modules()], state_digest(module)) == (modes, digest)
    assert evaluation_copy(changed) == (changed, ())


def test_a_module_that_cannot_be_copied_names_the_remedy() -> None:
    module = nn.Linear(2, 2)
    object.__setattr__(module, "batches", (number for number in range(3)))
    with pytest.raises(InputError, match=r"call model.eval\(\)"):
        evaluation_copy(module)
    assert evaluation_copy(module.eval()) == (module, ())
