"""Freezing to pt2: the file is measured, runs again from disk, holds no pickle, and is served by MLflow alone."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from torch import nn

import mlflow_aifsm as aifsm
from mlflow_aifsm import audit
from mlflow_aifsm.capture import pt2_file
from mlflow_aifsm.digests import sha256_file
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import State
from mlflow_aifsm.measurement import measure
from tests.models import Digits, DigitsNet

pytestmark = pytest.mark.usefixtures("experiment")
BATCH = aifsm.Pt2(dynamic_shapes="batch")


@pytest.fixture
def frozen(digits: Digits) -> aifsm.Result:
    verification = aifsm.Verification(digits.images, digits.labels)
    return aifsm.freeze(digits.model, digits.example, BATCH, verified_model="digits_1", verification=verification)


def test_the_log_is_as_complete_as_that_of_an_onnx_file(frozen: aifsm.Result, digits: Digits) -> None:
    assert frozen.path.name == "model.pt2"
    assert frozen.verification.passed
    assert frozen.verification.samples == len(digits.images)
    assert frozen.verification.numbers["accuracy_after"] > 0.9
    assert "exported program, CPU" in frozen.verification.runtime
    entries = frozen.record.entries
    briefs = [
        entries[f"aifsm.elimination.{row}"].value.brief for row in ("dropout", "batch_normalization", "gradient_clipping")
    ]
    assert briefs == ["inert", "frozen", "eliminated"]
    assert {entries[f"aifsm.elimination.{row}"].state for row in ("dropout", "lr_scheduling", "other")} == {State.MEASURED}
    assert entries["aifsm.conversion.opset"].state is State.NOT_APPLICABLE
    assert "ATen operators" in entries["aifsm.conversion.opset"].reason
    assert entries["aifsm.conversion.converter"].value.data["function"] == "torch.export.export"
    assert {gap.key.rpartition(".")[2] for gap in frozen.record.gaps} <= {
        "training_framework",
        "training_run",
        "data_sets",
        "baseline_metrics",
    }


def test_what_is_measured_is_read_from_the_file_again(frozen: aifsm.Result) -> None:
    facts = {fact.name: fact for fact in measure(frozen.path).facts}
    assert facts["graph.operators"].value.data["aten.conv2d.default"] == 1
    assert facts["graph.inputs"].value.data[0]["name"] == "image"
    assert facts["graph.producer"].value.text == f"PyTorch {torch.__version__}"
    assert facts["zeros.ratio"].value.text == "0 of 5,192 weights are zero"
    assert facts["graph.size"].value.data == frozen.path.stat().st_size
    assert (
        facts["graph.canonical_digest"].value
        == {fact.name: fact for fact in measure(frozen.path).facts}["graph.canonical_digest"].value
    )


def test_the_archive_holds_neither_data_nor_source_path_and_two_exports_have_the_same_bytes(digits: Digits) -> None:
    kept = aifsm.freeze(digits.model, digits.example, aifsm.Pt2(strip_source_paths=False), verified_model="d_1")
    one, two = (aifsm.freeze(digits.model, digits.example, BATCH, verified_model="d_1", nested=True) for _ in range(2))
    assert sha256_file(one.path) == sha256_file(two.path)
    folder = str(Path(__file__).parents[1]).encode()
    with zipfile.ZipFile(one.path) as archive:
        assert not [name for name in archive.namelist() if folder in archive.read(name)]
        (example,) = [name for name in archive.namelist() if "sample_inputs" in name]
        ((zeros,), kept_by_name) = torch.load(io.BytesIO(archive.read(example)), weights_only=True)
    assert (tuple(zeros.shape), zeros.any().item(), zeros.untyped_storage().nbytes(), kept_by_name) == (
        (4, 1, 8, 8),
        False,
        4,
        {},
    )
    assert one.record.entries["aifsm.conversion.converter"].beside[0].value.brief == "none"
    assert kept.record.entries["aifsm.conversion.converter"].beside[0].value.brief == "left in the file"


def test_the_canonical_digest_covers_weights_and_graph_and_no_metadata(digits: Digits) -> None:
    def digest(model: nn.Module, **how: bool) -> str:
        result = aifsm.freeze(model, digits.example, aifsm.Pt2(**how), verified_model="d_1", nested=True)
        return {fact.name: fact.value.data for fact in measure(result.path).facts}["graph.canonical_digest"]

    other = DigitsNet()
    other.load_state_dict({name: tensor.clone() for name, tensor in digits.model.state_dict().items()})
    base = digest(digits.model)
    assert digest(digits.model, strip_source_paths=False) == base
    with torch.no_grad():
        other.fc.bias[0] += 1e-3
    assert digest(other.eval()) != base


def test_a_model_in_training_mode_is_frozen_in_evaluation_mode(digits: Digits) -> None:
    model = DigitsNet()
    model.load_state_dict(digits.model.state_dict())
    result = aifsm.freeze(model.train(), digits.example, BATCH, verified_model="d_1")
    assert result.record.entries["aifsm.elimination.dropout"].value.brief == "inert"
    assert not result.findings


def test_a_dropout_or_batch_norm_left_in_training_is_a_finding(digits: Digits, tmp_path: Path) -> None:
    model = DigitsNet().train()
    program = torch.export.export(model, (digits.example,))
    torch.export.save(program, tmp_path / "training.pt2")
    facts = {fact.name: fact for fact in measure(tmp_path / "training.pt2").facts}
    for name in ("graph.dropout", "graph.batch_normalization"):
        assert facts[name].value.short == "left in the file"
        assert [finding.code for finding in facts[name].findings] == ["training_operation_left"]


def test_mlflow_loads_and_serves_it_without_this_package_and_without_unpickling(frozen: aifsm.Result, digits: Digits) -> None:
    with torch.no_grad():
        expected = digits.model(digits.example).numpy()
    scores = mlflow.pyfunc.load_model(frozen.model_uri).predict(digits.images[:4])
    assert np.allclose(scores, expected, atol=1e-5)
    code = (
        "import sys, mlflow, torch, numpy as np\n"
        "sys.modules['mlflow_aifsm'] = None\n"
        "model = mlflow.pytorch.load_model(sys.argv[1])\n"
        "print(model(torch.zeros(3, 1, 8, 8)).shape)"
    )
    folder = mlflow.artifacts.download_artifacts(frozen.model_uri)
    environment = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code, folder], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "torch.Size([3, 10])"
    assert sha256_file(Path(folder) / "model.pt2") == sha256_file(frozen.path)
    assert torch.equal(aifsm.load_model(frozen.model_uri).module()(digits.example), torch.from_numpy(expected))


def test_it_can_be_frozen_again_from_its_uri_and_its_report_holds(frozen: aifsm.Result, digits: Digits) -> None:
    (report,) = aifsm.render_report(frozen.run_id, format="md")
    assert "model.pt2" in Path(report).read_text("utf-8")
    again = aifsm.freeze(
        frozen.model_uri, digits.example, aifsm.Onnx(), nested=True, verification=aifsm.Verification(digits.images[:20])
    )
    assert again.verification.passed


def rewritten(source: Path, target: Path, name: str, content: bytes, *, extra: bool = False) -> Path:
    """``source`` with the record that ends in ``name`` replaced, or one added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, content if info.filename.endswith(name) and not extra else old.read(info))
        if extra:
            new.writestr(f"model/{name}", content)
    return target


class Trace:
    """A pickle that writes a file when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (exec, ("open('unpickled', 'w').close()",))


def test_a_hostile_archive_is_refused_and_nothing_in_it_runs(frozen: aifsm.Result, tmp_path: Path) -> None:
    torch.save(Trace(), pickled := tmp_path / "trace.pt")
    bad, config = pickled.read_bytes(), "data/weights/model_weights_config.json"
    with zipfile.ZipFile(frozen.path) as archive:
        weights = json.loads(archive.read(f"model/{config}"))
    for entry in weights["config"].values():
        entry["use_pickle"] = True
    target = tmp_path / "hostile.pt2"
    hostile = [
        (rewritten, ("data/sample_inputs/model.pt", bad), "holds Python objects"),
        (rewritten, (config, json.dumps(weights).encode()), "as a pickle, which is never loaded"),
        (rewritten, (config, b"{"), "is damaged"),
    ]
    for make, (name, content), words in hostile:
        with pytest.raises(InputError, match=words):
            aifsm.freeze(make(frozen.path, target, name, content))
    for name in ("data/weights/model.pt", "data/aotinductor/model/model.so", "data/constants/opaque_obj_0"):
        with pytest.raises(InputError, match="holds a record that is not needed"):
            measure(rewritten(frozen.path, target, name, bad, extra=True))
    assert not (tmp_path / "unpickled").exists()
    assert not Path("unpickled").exists()


def test_an_archive_of_torch_export_with_example_inputs_is_taken_as_it_is(digits: Digits, tmp_path: Path) -> None:
    path = tmp_path / "plain.pt2"
    torch.export.save(torch.export.export(digits.model, (digits.example,)), path)
    result = aifsm.freeze(path, verified_model="d_1", verification=aifsm.Verification(digits.images[:8], digits.labels[:8]))
    assert sha256_file(result.path) == sha256_file(path)
    assert result.verification.passed
    assert result.verification.numbers["accuracy_after"] > 0.8
    assert all(check.holds is not False for evidence in audit.read(result.run_id) for check in evidence.checks)
    assert len(pt2_file.inputs_outputs(pt2_file.load(path))[0]) == 1


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_truncated_archive_is_one_line(frozen: aifsm.Result, tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.pt2"
    path.write_bytes(frozen.path.read_bytes()[: int(frozen.path.stat().st_size * share)])
    with pytest.raises(InputError, match="damaged zip archive") as caught:
        measure(path)
    assert "\n" not in str(caught.value)


def test_files_that_a_user_packed_beside_the_program_are_no_obstacle(digits: Digits, tmp_path: Path) -> None:
    program = torch.export.export(digits.model, (digits.example,))
    torch.export.save(program, tmp_path / "noted.pt2", extra_files={"classes.txt": "zero, one"})
    assert {fact.name: fact for fact in measure(tmp_path / "noted.pt2").facts}["graph.dropout"].value.short == "inert"
