"""What quantization-aware training begins with: models of all forms, and one clear line where it cannot begin."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
import torch
from nncf.torch.quantization.extensions import QuantizedFunctionsCPU
from torch import nn

import mlflow_aifsm as aifsm
from mlflow_aifsm.backends import nncf_training
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.verification import integer_execution
from tests.backends.integer_nets import Concatenated
from tests.conftest import REPOSITORY
from tests.models import digits
from tests.operations.qat_training import accuracy, begun, beside, calibration, codes, epoch, held_out, run, trained
from tests.operations.quantized_models import small


def refused(model: object, data: object, config: object = None, **settings: object) -> str:
    """The one line of the refusal; nothing was logged."""
    with pytest.raises(InputError) as caught, aifsm.quantization_aware_training(model, data, config, **settings):
        pass
    assert mlflow.search_runs(search_all_experiments=False).empty
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (aifsm.Dynamic(), "expected Static() or NNCF()"),
        (aifsm.WeightOnly(), "expected Static() or NNCF()"),
        (aifsm.ORT(), "expected Static() or NNCF()"),
        (aifsm.Static(activations="int16"), "activations of a trained integer file; got 'int16'; expected 'uint8' or 'int8'"),
        (aifsm.Static(activations="int8", scheme="symmetric"), "symmetric activations of a trained integer file; got 'int8'"),
        (aifsm.Static(weights="uint8"), "weights of a trained integer file; got 'uint8'; expected 'int8'"),
        (aifsm.Static(granularity="group"), "granularity of weights; got 'group'"),
        (aifsm.Static(granularity={"activations": "channel"}), "granularity of activations; got 'channel'; expected 'layer'"),
        (aifsm.Static(granularity="layer"), "batch normalization ('features.1') is folded into scales by channel"),
        (aifsm.Static(ranges="entropy"), "ranges before training; got 'entropy'"),
        (aifsm.Static(accuracy_target=0.1), "accuracy_target is no setting of training"),
        (aifsm.Static(backend="onnxruntime"), "backend is no setting of training"),
        (aifsm.Static(keep_float=("haed",)), "keep_float names no layer; got 'haed'"),
    ],
)
def test_a_config_that_cannot_be_trained_is_refused_before_work(experiment: str, config: object, words: str) -> None:
    assert words in refused(trained(), digits()[0][:8], config)


def test_a_frozen_file_is_refused_because_training_needs_the_module(experiment: str) -> None:
    for model in (str(small().path), small().path, onnx.load(small().path), None, 3):
        assert "quantization-aware training needs the module" in refused(model, digits()[0][:8])
    program = torch.export.export(trained(), (torch.zeros(2, 1, 8, 8),))
    assert "qat.freeze() makes the file after training" in refused(program, digits()[0][:8])


def test_data_are_needed_for_the_ranges(experiment: str) -> None:
    assert "no calibration data; got None" in refused(trained(), None)


def test_a_model_that_cannot_be_copied_is_refused(experiment: str) -> None:
    model = trained()
    with Path(__file__).open() as held_open:
        model.log = held_open
        assert "SmallNet cannot be copied, and the caller's module is not changed" in refused(model, digits()[0][:8])


def test_what_a_resumed_training_lacks_is_named(experiment: str, tmp_path: Path) -> None:
    assert "no checkpoint to go on from; got resume=True" in refused(trained(), None, resume=True)
    words = refused(trained(), None, resume=True, checkpoint=tmp_path)
    assert "cannot be called to go on with its training; got no example inputs" in words
    assert "pass the calibration samples again as data=, or example_inputs=" in words


def test_a_file_is_no_place_for_a_checkpoint(experiment: str) -> None:
    assert "a checkpoint is a folder; got the file" in refused(trained(), digits()[0][:8], checkpoint=__file__)


def test_data_that_are_not_finite_are_refused(experiment: str) -> None:
    images = digits()[0][:8].copy()
    images[3, 0, 0, 0] = np.nan
    assert "not finite at calibration sample 3" in refused(trained(), images)


def test_a_sequential_works_and_keeps_the_names_of_its_layers(experiment: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)).train()
    with aifsm.quantization_aware_training(model, calibration(), aifsm.Static(subset_size=64)) as qat:
        assert qat.model.training
        epoch(qat.model, torch.optim.Adam(qat.model.parameters(), 1e-3), 128)
    int8 = qat.freeze()
    assert integer_execution.float_layers(int8.path) == []
    assert beside(int8, "agreement").value.data["largest"] <= 1
    assert next(iter(model.state_dict())) == "0.weight"


def test_several_inputs_by_position_and_by_name(experiment: str) -> None:
    torch.manual_seed(0)
    images = torch.rand(16, 1, 10, 10).numpy()
    for data in ({"one": images, "other": images[::-1].copy()}, [(image, image) for image in images]):
        with aifsm.quantization_aware_training(Concatenated(), data, aifsm.Static(subset_size=16)) as qat:
            optimizer = torch.optim.SGD(qat.model.parameters(), 0.01)
            qat.model(torch.from_numpy(images), torch.from_numpy(images)).square().mean().backward()
            optimizer.step()
        int8 = qat.freeze()
        assert [value.name for value in onnx.load(int8.path).graph.input] == ["one", "other"]
        assert beside(int8, "agreement").value.data["largest"] <= 1


def test_layers_that_stay_in_float_are_named_and_are_float(experiment: str) -> None:
    int8 = run(config=aifsm.Static(subset_size=64, keep_float=("head",))).freeze()
    assert "head" in beside(int8, "float_layers").value.text
    assert "1 of 4 layers in float" in int8.record.entries["aifsm.recovery.partial"].value.text


@pytest.mark.parametrize(("activations", "scheme"), [("int8", "asymmetric"), ("uint8", "symmetric")])
def test_types_and_schemes_are_what_is_asked(experiment: str, activations: str, scheme: str) -> None:
    int8 = run(config=aifsm.Static(subset_size=64, activations=activations, scheme=scheme)).freeze()
    assert "asked_not_found" not in codes(int8)
    assert int8.record.entries["aifsm.ptq.precision"].value.data["activations"] == [activations]


def test_a_model_of_the_registry_is_named_with_its_run(experiment: str) -> None:
    with mlflow.start_run():
        logged = mlflow.pytorch.log_model(
            trained(),
            name="net",
            serialization_format="pickle",
            registered_model_name="qat-digits",
            input_example=digits()[0][:4],
        )
    uri = f"models:/qat-digits/{logged.registered_model_version}"
    with aifsm.quantization_aware_training(uri, calibration(), aifsm.Static(subset_size=64)) as qat:
        epoch(qat.model, torch.optim.SGD(qat.model.parameters(), 0.01), 64)
    int8 = qat.freeze(verification=held_out())
    assert int8.record.entries["aifsm.optimization.input_id"].value.text == f"qat-digits_{logged.registered_model_version}"
    assert beside(int8, "base").value.data["model"] == uri
    assert qat.conversion is not None
    assert "changed_after_verification" in {finding.code for finding in qat.conversion.findings}


def test_training_recovers_what_quantization_lost(experiment: str) -> None:
    with begun() as qat:
        before = accuracy(qat.model)
        optimizer = torch.optim.Adam(qat.model.parameters(), 1e-3)
        for _ in range(2):
            epoch(qat.model, optimizer)
    int8 = qat.freeze(verification=held_out())
    assert int8.verification is not None
    assert int8.verification.numbers["accuracy_after"] == pytest.approx(accuracy(qat.model), abs=0.004)
    assert int8.verification.numbers["accuracy_after"] > before


SCRIPT = """
import mlflow_aifsm as aifsm
from tests.operations.qat_training import run
qat = run(samples=64)
print(qat.freeze().record.entries["aifsm.recovery.qat"].beside[1].value.text)
"""


@pytest.mark.parametrize(("given", "during"), [(None, "900"), ("30", "30")])
def test_nncf_has_time_to_compile_unless_somebody_says_how_long(
    given: str | None, during: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NNCF_EXTENSION_LOAD_TIMEOUT", raising=False)
    if given:
        monkeypatch.setenv("NNCF_EXTENSION_LOAD_TIMEOUT", given)
    seen: list[str | None] = []
    monkeypatch.setattr(QuantizedFunctionsCPU, "get", lambda _: seen.append(os.environ.get("NNCF_EXTENSION_LOAD_TIMEOUT")))
    nncf_training.operations()
    assert seen == [during]
    assert os.environ.get("NNCF_EXTENSION_LOAD_TIMEOUT") == given


@pytest.mark.slow
def test_without_a_compiler_it_works_and_says_nothing(experiment: str, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    environment = {
        **os.environ,
        "PATH": str(tools),
        "CXX": str(tools / "none"),
        "TORCH_EXTENSIONS_DIR": str(tmp_path / "extensions"),
    }
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    environment |= {"PYTHONPATH": str(REPOSITORY), "MLFLOW_AIFSM_QUIET": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "fake quantizers ran on PyTorch's own operations" in done.stdout
    assert "compile" not in done.stderr.lower()


def test_lightnings_trainer_tells_what_it_does(experiment: str, tmp_path: Path) -> None:
    import lightning.pytorch as lightning

    class Classifier(lightning.LightningModule):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
            loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
            self.log("train/loss", loss)
            return loss

        def configure_optimizers(self) -> object:
            optimizer = torch.optim.Adam(self.net.parameters(), 1e-3)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]

    images, labels = digits()
    rows = torch.utils.data.TensorDataset(torch.from_numpy(images[:128]), torch.from_numpy(labels[:128]))
    with begun() as qat:
        trainer = lightning.Trainer(
            max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[qat.callback()], default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(Classifier(qat.model), torch.utils.data.DataLoader(rows, 64))
    int8 = qat.freeze()
    assert beside(int8, "epochs").value.data == 2
    assert beside(int8, "optimizer").value.data[0]["class"] == "Adam"
    assert beside(int8, "schedule").value.data[0]["class"] == "StepLR"
    assert len(beside(int8, "metrics").value.data["train/loss"]) == 2
    assert mlflow.MlflowClient().get_metric_history(qat.run_id, "aifsm.qat.train/loss")[-1].step == 2
