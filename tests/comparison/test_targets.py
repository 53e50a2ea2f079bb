"""Whatever names a log is a target, and however many there are, they are fetched in few requests."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from mlflow_aifsm.comparison.targets import gather
from mlflow_aifsm.errors import NotFoundError
from tests.comparison.conftest import Logged


def found(*targets: str) -> list[tuple[str, str]]:
    return [(log.run_id, log.log) for log in gather(targets).logs]


def test_a_run_gives_all_its_logs_and_each_log_stands_once(logged: Logged) -> None:
    run, other = logged.first.run_id, logged.dynamic.run_id
    both = [(run, "conversion"), (run, "optimization")]
    assert found(run) == both
    assert found(other, f"runs:/{run}/model", run) == [(other, "optimization"), *both]


def test_a_registered_version_gives_the_log_that_delivered_it(logged: Logged) -> None:
    assert found(logged.first.version_uri) == [(logged.first.run_id, "optimization")]
    assert found(logged.frozen.version_uri) == [(logged.frozen.run_id, "conversion")]
    assert found("models:/int8/latest") == [(logged.layerwise.run_id, "optimization")]


def test_a_registered_model_gives_all_its_versions_in_their_order(logged: Logged) -> None:
    expected = [(logged.first.run_id, "optimization"), (logged.layerwise.run_id, "optimization")]
    assert found("models:/int8") == expected
    assert found("models:/int8", logged.layerwise.version_uri) == expected


def test_a_logged_model_and_its_folder_and_its_file_give_the_log_that_delivered_it(logged: Logged, tmp_path: Path) -> None:
    expected = [(logged.dynamic.run_id, "optimization")]
    assert found(logged.dynamic.model_uri) == expected
    folder = mlflow.artifacts.download_artifacts(artifact_uri=logged.dynamic.model_uri, dst_path=str(tmp_path / "model"))
    assert found(folder) == expected
    assert found(str(shutil.copy(logged.dynamic.path, tmp_path / "renamed.onnx"))) == expected


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("0" * 32, "does not exist; 'mlflow runs list"),
        ("runs:/0a1b/model", "run 0a1b, which runs:/0a1b/model names, does not exist"),
        ("models:/int8/17", "registered model models:/int8/17 does not exist"),
        ("models:/int8@best", "registered model models:/int8@best does not exist"),
        ("models:/unheard of", "has no version with a log"),
        (f"models:/m-{'0' * 32}", "no log delivered models:/m-0000"),
        ("no/such/file.onnx", "there is no file or folder no/such/file.onnx"),
    ],
)
def test_a_target_that_is_not_there_is_told_in_a_line(target: str, said: str, logged: Logged) -> None:
    with pytest.raises(NotFoundError, match=said):
        gather([target])


def test_a_run_without_a_log_and_a_file_that_nobody_delivered_are_told_in_a_line(logged: Logged, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=f"run {logged.plain} holds no log; make one with"):
        gather([logged.plain])
    (tmp_path / "other.onnx").write_bytes(Path(logged.dynamic.path).read_bytes() + b"\x7a\x01x")
    with pytest.raises(NotFoundError, match=r"no run delivered .*other\.onnx, sha256"):
        gather([str(tmp_path / "other.onnx")])


def test_versions_without_a_log_are_left_out_and_named_and_an_alias_is_resolved(
    made: Logged, logged: Logged, tmp_path: Path
) -> None:
    shutil.copy(made.database, tmp_path / "own.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'own.db'}")
    client = MlflowClient()
    client.create_model_version("int8", logged.dynamic.model_uri)
    client.set_registered_model_alias("int8", "best", "2")
    gathered = gather(["models:/int8"])
    assert len(gathered.logs) == 2
    assert gathered.notes == ("Left out, as no log made them: version 3 of models:/int8.",)
    assert found("models:/int8@best") == [(logged.layerwise.run_id, "optimization")]
    with pytest.raises(NotFoundError, match="models:/int8/3 has no log"):
        gather(["models:/int8/3"])


def test_versions_of_a_deleted_run_are_left_out_and_named_until_none_is_left(
    made: Logged, logged: Logged, tmp_path: Path
) -> None:
    shutil.copy(made.database, tmp_path / "own.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'own.db'}")
    MlflowClient().delete_run(logged.layerwise.run_id)
    gathered = gather(["models:/int8"])
    assert [log.run_id for log in gathered.logs] == [logged.first.run_id]
    (note,) = gathered.notes
    assert note == f"Left out, as run {logged.layerwise.run_id}, which models:/int8 names, is deleted or holds no such log."
    MlflowClient().delete_run(logged.first.run_id)
    with pytest.raises(NotFoundError, match=f"run {logged.first.run_id}, which models:/int8 names, does not exist"):
        gather(["models:/int8"])
    with pytest.raises(NotFoundError, match="does not exist"):
        gather(["models:/int8/2", logged.dynamic.run_id])


def test_versions_and_runs_are_fetched_in_one_request_each(logged: Logged, asked: list[str]) -> None:
    gather(["models:/int8/1", "models:/int8/2", logged.dynamic.run_id, logged.failed])
    assert asked == ["search_experiments", "search_model_versions", "search_runs"]
