"""The flavor: the verified bytes themselves, served by MLflow alone, with the log beside them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
import yaml

import mlflow_aifsm as aifsm
from mlflow_aifsm.digests import sha256_file
from mlflow_aifsm.errors import InputError
from tests.conftest import REPOSITORY
from tests.models import Digits


@pytest.fixture(scope="module")
def frozen(database: str, digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> aifsm.Result:
    """A registered frozen model, made from another one."""
    folder, patch = tmp_path_factory.mktemp("flavor"), pytest.MonkeyPatch()
    with patch.context() as context:
        context.chdir(folder)
        context.setenv("MLFLOW_AIFSM_RESPONSIBLE", "A. Ito")
        mlflow.set_tracking_uri(database)
        made = mlflow.create_experiment(str(folder), artifact_location=(folder / "artifacts").as_uri())
        with mlflow.start_run(experiment_id=made):
            how = {"name": "digits", "registered_model_name": "flavor-digits", "serialization_format": "pickle"}
            mlflow.pytorch.log_model(digits.model, input_example=digits.images[:4], **how)
        with mlflow.start_run(experiment_id=made):
            uri, name = "models:/flavor-digits/1", "flavor-frozen"
            return aifsm.freeze(uri, config=aifsm.Onnx(dynamic_shapes="batch"), registered_model_name=name)


def with_external_data(given: Path, folder: Path) -> Path:
    """The same model with its weights in a file beside it."""
    folder.mkdir()
    onnx.save(onnx.load(given), folder / "split.onnx", save_as_external_data=True, location="weights.bin", size_threshold=1024)
    return folder / "split.onnx"


def digests(folder: Path) -> dict[str, str]:
    return {file.name: sha256_file(file) for file in folder.iterdir() if file.suffix in (".onnx", ".bin")}


def predicted(uri: str, images: np.ndarray) -> np.ndarray:
    (scores,) = mlflow.pyfunc.load_model(uri).predict({"image": images}).values()
    return np.asarray(scores)


def test_the_bytes_are_those_of_the_file_external_data_included(frozen: aifsm.Result, digits: Digits, tmp_path: Path) -> None:
    given = with_external_data(frozen.path, tmp_path / "given")
    aifsm.save_model(given, tmp_path / "model")
    assert len(digests(given.parent)) == 2
    assert digests(tmp_path / "model") == digests(given.parent)
    assert np.array_equal(predicted(str(tmp_path / "model"), digits.images[:9]), predicted(frozen.model_uri, digits.images[:9]))


def test_a_logged_model_keeps_its_bytes_and_its_numbers(
    frozen: aifsm.Result, digits: Digits, experiment: str, tmp_path: Path
) -> None:
    given = with_external_data(frozen.path, tmp_path / "given")
    info = aifsm.log_model(given, "split", registered_model_name="flavor-split")
    uri = f"models:/flavor-split/{info.registered_model_version}"
    assert digests(Path(mlflow.artifacts.download_artifacts(uri))) == digests(given.parent)
    expected = digits.model(digits.example).detach().numpy()
    np.testing.assert_allclose(predicted(uri, digits.example.numpy()), expected, atol=1e-4)


def test_load_model_gives_the_graph_with_its_weights(frozen: aifsm.Result) -> None:
    loaded = aifsm.load_model(frozen.model_uri)
    assert loaded.SerializeToString() == onnx.load(frozen.path).SerializeToString()


SERVE = """
import sys
sys.path = [path for path in sys.path if path not in ("", sys.argv[3])]
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "mlflow_aifsm":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
try:
    import mlflow_aifsm
except ModuleNotFoundError:
    pass
else:
    sys.exit("mlflow_aifsm is there")
import mlflow, numpy as np
(scores,) = mlflow.pyfunc.load_model(sys.argv[1]).predict({"image": np.load(sys.argv[2])}).values()
np.save(sys.argv[2], scores)
"""


def test_the_model_serves_where_this_package_is_not_installed(frozen: aifsm.Result, digits: Digits, tmp_path: Path) -> None:
    folder = mlflow.artifacts.download_artifacts(frozen.model_uri, dst_path=str(tmp_path / "model"))
    np.save(tmp_path / "images.npy", digits.images[:5])
    arguments = [sys.executable, "-c", SERVE, folder, str(tmp_path / "images.npy"), str(REPOSITORY)]
    done = subprocess.run(arguments, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "images.npy"), predicted(frozen.model_uri, digits.images[:5]))


def test_requirements_are_what_serving_needs_and_this_package_is_not_among_them(frozen: aifsm.Result) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(frozen.model_uri))
    lines = (folder / "requirements.txt").read_text("utf-8").splitlines()
    assert [line.partition("==")[0] for line in lines] == ["mlflow", "onnx", "onnxruntime", "numpy"]
    assert "aifsm" not in (folder / "conda.yaml").read_text("utf-8")
    described = yaml.safe_load((folder / "MLmodel").read_text("utf-8"))
    assert described["flavors"]["python_function"]["loader_module"] == "mlflow.onnx"


def test_record_and_manifest_lie_inside_the_model(frozen: aifsm.Result) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(frozen.model_uri))
    assert sorted(file.name for file in (folder / "aifsm").iterdir()) == ["manifest.json", "record.json"]
    assert sha256_file(folder / "aifsm" / "record.json") == frozen.record.sha256
    listed = {entry["path"]: entry["sha256"] for entry in json.loads((folder / "aifsm" / "manifest.json").read_text("utf-8"))}
    assert listed["record.json"] == frozen.record.sha256
    ours = yaml.safe_load((folder / "MLmodel").read_text("utf-8"))["flavors"]["aifsm"]
    assert (ours["log_id"], ours["sha256"]) == (frozen.log_id, frozen.record.output_sha256)


def test_a_registered_version_says_what_it_is_and_what_it_was_made_from(frozen: aifsm.Result) -> None:
    version = mlflow.MlflowClient().get_model_version("flavor-frozen", frozen.version_uri.rpartition("/")[2])
    record = frozen.record
    assert version.tags == version.tags | {
        "aifsm.conversion.log_id": frozen.log_id,
        "aifsm.conversion.run_id": frozen.run_id,
        "aifsm.conversion.status": str(record.status),
        "aifsm.conversion.record_sha256": record.sha256,
        "aifsm.conversion.input_sha256": record.input_sha256,
        "aifsm.conversion.output_sha256": sha256_file(frozen.path),
        "aifsm.precision": "float32",
        "aifsm.made_from": "models:/flavor-digits/1",
    }
    assert all(words in version.description for words in (frozen.log_id, "models:/flavor-digits/1", record.output_sha256))


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(frozen: aifsm.Result, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", "utf-8")
    with pytest.raises(InputError, match="expected an empty or a new folder"):
        aifsm.save_model(frozen.path, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04 archive", None], ids=["empty", "text", "zip", "missing"])
def test_what_is_no_onnx_file_is_refused_before_anything_is_written(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "model.onnx"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.onnx"):
        aifsm.save_model(file, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_model_whose_weights_are_gone_is_refused(frozen: aifsm.Result, tmp_path: Path) -> None:
    given = with_external_data(frozen.path, tmp_path / "given")
    (given.parent / "weights.bin").unlink()
    with pytest.raises(InputError, match=r"weights\.bin"):
        aifsm.save_model(given, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
