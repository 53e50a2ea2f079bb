"""Frozen PyTorch files run from disk like an ONNX file does: same names, same pieces, same refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.verification.session import OnnxSession
from mlflow_aifsm.verification.sessions import session_of

X = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def layer() -> nn.Module:
    return nn.Linear(4, 3).eval()


def exported(module: nn.Module, folder: Path, *, dynamic: bool, dtype: torch.dtype = torch.float32) -> Path:
    shapes = ({0: Dim.DYNAMIC},) if dynamic else None
    torch.export.save(
        torch.export.export(module, (torch.zeros(2, 4, dtype=dtype),), dynamic_shapes=shapes), folder / "model.pt2"
    )
    return folder / "model.pt2"


def expected(layer: nn.Module) -> np.ndarray:
    with torch.no_grad():
        return layer(torch.from_numpy(X)).numpy()


@pytest.mark.parametrize("dynamic", [True, False], ids=["free batch", "fixed batch"])
def test_a_pt2_archive_gives_what_its_module_gives(layer: nn.Module, tmp_path: Path, dynamic: bool) -> None:
    session = session_of(exported(layer, tmp_path, dynamic=dynamic))
    assert session.fixed_batch == (None if dynamic else 2)
    assert [(spec.name, spec.dtype, spec.shape[1:]) for spec in session.inputs] == [("input", np.float32, (4,))]
    assert session.description == f"PyTorch {torch.__version__}, exported program, CPU"
    for count in (1, 2, 7):
        (output,) = session.run({"input": X[:count]}).values()
        assert np.allclose(output, expected(layer)[:count], atol=1e-6)


def test_a_pt2_archive_refuses_data_that_do_not_fit(layer: nn.Module, tmp_path: Path) -> None:
    session = session_of(exported(layer, tmp_path, dynamic=True))
    with pytest.raises(InputError, match="data of input 'input' do not fit"):
        session.run({"input": np.zeros((2, 5))})
    with pytest.raises(InputError, match="data do not name the model's inputs"):
        session.run({"image": X})


def test_bfloat16_is_fed_and_read_as_float32_and_known_as_what_it_is(tmp_path: Path) -> None:
    layer = nn.Linear(4, 3).to(torch.bfloat16).eval()
    session = session_of(exported(layer, tmp_path, dynamic=True, dtype=torch.bfloat16))
    assert session.output_types == ("bfloat16",)
    (output,) = session.run({"input": X}).values()
    with torch.no_grad():
        assert np.array_equal(output, layer(torch.from_numpy(X).bfloat16()).float().numpy())


def test_a_torchscript_takes_data_as_they_are_and_floats_as_its_weights(layer: nn.Module, tmp_path: Path) -> None:
    torch.jit.script(layer).save(tmp_path / "model.pt")
    session = session_of(tmp_path / "model.pt")
    assert (session.fixed_batch, session.ranks, session.outputs) == (None, {}, ("output",))
    assert session.description == f"PyTorch {torch.__version__}, TorchScript, CPU"
    (output,) = session.run({"input": X.astype(np.float64)}).values()
    assert np.allclose(output, expected(layer), atol=1e-6)


class Named(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"y": x}


def test_a_torchscript_that_returns_no_tensors_is_refused(tmp_path: Path) -> None:
    torch.jit.script(Named()).save(tmp_path / "model.pt")
    with pytest.raises(InputError, match="takes or returns no tensor as its output; got Dict"):
        session_of(tmp_path / "model.pt")


def test_the_runtime_follows_from_the_file(tmp_path: Path) -> None:
    torch.onnx.export(nn.ReLU(), (torch.zeros(2, 4),), tmp_path / "model.onnx", verbose=False)
    assert isinstance(session_of(tmp_path / "model.onnx"), OnnxSession)
    (tmp_path / "model.onnx").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="damaged zip archive"):
        session_of(tmp_path / "model.onnx")
