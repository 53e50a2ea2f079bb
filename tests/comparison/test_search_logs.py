"""A row for each log, with the numbers that MLflow's UI shows, and pages instead of a request for each run."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

import mlflow_aifsm as aifsm
from mlflow_aifsm.comparison.frames import IDENTITY, found
from mlflow_aifsm.errors import InputError, NotFoundError, TrackingError
from mlflow_aifsm.tracking import search
from tests.comparison.conftest import EXPERIMENT, Logged
from tests.comparison.copies import copies
from tests.comparison.found import conversion


def test_each_log_of_the_active_experiment_is_a_row_the_oldest_run_first(logged: Logged) -> None:
    frame = aifsm.search_logs()
    assert tuple(frame.columns[: len(IDENTITY)]) == IDENTITY
    assert list(frame["log_id"][:4]) == [result.log_id for result in logged.results]
    assert list(frame["log"]) == ["conversion", "optimization", "optimization", "optimization", "optimization"]
    assert list(frame["status"]) == [*(str(result.record.status) for result in logged.results), "failed"]
    assert set(frame["experiment"]) == {EXPERIMENT}
    assert logged.plain not in set(frame["run_id"])


def test_identity_is_that_of_the_record(logged: Logged) -> None:
    row, record = aifsm.search_logs(log="conversion").iloc[0], logged.frozen.record
    assert (row["model_version"], row["model_uri"]) == (logged.frozen.version_uri, logged.frozen.model_uri)
    assert (row["input_sha256"], row["output_sha256"]) == (record.input_sha256, record.output_sha256)
    assert (row["data"], row["data_sha256"]) == ("held out", record.verification.data_sha256)
    assert (row["runtime"], row["verification"]) == (record.verification.runtime, "verified on this host")
    assert row["record_sha256"] == record.sha256
    assert row["host"].endswith("x86_64") or row["host"]
    assert row["made_at"].isoformat().replace("+00:00", "")[:10] == record.made_at[:10]


def test_categories_and_numbers_are_those_that_mlflow_shows(logged: Logged) -> None:
    frame = aifsm.search_logs(log="optimization").set_index("run_id")
    for result in (logged.first, logged.layerwise, logged.dynamic):
        data, row = mlflow.get_run(result.run_id).data, frame.loc[result.run_id]
        fields = [field.key for field in result.record.template.fields if field.log_as == "param" and field.key in data.params]
        assert len(fields) > 10
        assert {key: row[key.removeprefix("aifsm.")] for key in fields} == {key: data.params[key] for key in fields}
        shown = [key for key in data.metrics if key.removeprefix("aifsm.") in frame.columns and key != "aifsm.model.parameters"]
        assert len(shown) > 10
        assert {key: row[key.removeprefix("aifsm.")] for key in shown} == {key: data.metrics[key] for key in shown}


def test_the_conversion_of_a_run_with_two_logs_has_its_own_numbers(logged: Logged) -> None:
    row = aifsm.search_logs(log="conversion").iloc[0]
    for name in ("size", "accuracy", "max_diff"):
        before, after = MlflowClient().get_metric_history(logged.frozen.run_id, f"aifsm.{name}")
        assert row[name] == before.value
        assert (before.step, after.step) == (0, 1)
    assert row["size"] == sum(file.size for file in logged.frozen.record.output_files)


def test_filter_order_and_limit_are_mlflows_own(logged: Logged) -> None:
    layered = aifsm.search_logs([EXPERIMENT], "params.`aifsm.ptq.granularity` = 'layerwise' AND metrics.`aifsm.accuracy` > 0.5")
    assert list(layered["run_id"]) == [logged.layerwise.run_id, logged.dynamic.run_id]
    ordered = aifsm.search_logs(log="optimization", order_by=["metrics.`aifsm.size` ASC"], max_results=2)
    assert list(ordered["run_id"]) == [logged.dynamic.run_id, logged.layerwise.run_id]
    assert len(aifsm.search_logs(max_results=0)) == 0


def test_a_kind_and_a_filter_go_together(logged: Logged) -> None:
    frame = aifsm.search_logs(filter_string="tags.`aifsm.optimization.log_id` LIKE '%'", log="conversion")
    assert list(frame["log_id"]) == [logged.frozen.log_id]


def test_nothing_found_is_an_empty_table_with_its_columns(logged: Logged) -> None:
    frame = aifsm.search_logs(filter_string="tags.`aifsm.optimization.log_id` = 'none such'")
    assert frame.empty
    assert tuple(frame.columns) == IDENTITY


def test_what_cannot_be_searched_is_told_in_a_line(logged: Logged) -> None:
    with pytest.raises(NotFoundError, match="there is no experiment unheard of; 'mlflow experiments search'"):
        aifsm.search_logs(["unheard of"])
    with pytest.raises(TrackingError, match="searching for runs: "):
        aifsm.search_logs(filter_string="accuracy is good")
    with pytest.raises(InputError, match="log 'training'; expected conversion or optimization"):
        aifsm.search_logs(log="training")
    with pytest.raises(InputError, match="max_results; got -1"):
        aifsm.search_logs(max_results=-1)


def test_a_database_that_is_not_there_is_not_made(logged: Logged, tmp_path: Path) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'none.db'}")
    with pytest.raises(NotFoundError, match="there is no database at"):
        aifsm.search_logs(["digits"])
    assert list(tmp_path.iterdir()) == []


def test_a_deleted_experiment_is_said_to_be_deleted(made: Logged, logged: Logged, tmp_path: Path) -> None:
    shutil.copy(made.database, tmp_path / "own.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'own.db'}")
    name = 'it\'s "gone"'
    MlflowClient().delete_experiment(number := MlflowClient().create_experiment(name))
    said = f"experiment {name} is deleted; 'mlflow experiments restore --experiment-id {number}' brings it back"
    with pytest.raises(NotFoundError, match=said):
        aifsm.search_logs([name])


def test_a_moment_is_read_whatever_its_form_and_whoever_wrote_the_one_before_it() -> None:
    dates = ("yesterday", "2026-01-02T03:04:05+00:00", "2026-01-02T05:04:05.5+02:00", "2026-01-02")
    moments = found([conversion(date=date) for date in dates])["made_at"]
    assert [None if pd.isna(moment) else moment.isoformat() for moment in moments] == [
        None,
        "2026-01-02T03:04:05+00:00",
        "2026-01-02T03:04:05.500000+00:00",
        "2026-01-02T00:00:00+00:00",
    ]


STRANGE = '{"run_name": 1, "": 2, "\\u001b[31m": 3, "group": 4, "size": 1' + "0" * 400 + ', "flips": 2}'


@pytest.mark.parametrize(
    "told", ["no numbers", "[1]", '{"size": "big", "accuracy": true, "speedup": NaN, "flips": 2}', STRANGE], ids=range(4)
)
def test_numbers_that_somebody_replaced_are_not_taken_for_numbers(
    told: str, made: Logged, logged: Logged, tmp_path: Path
) -> None:
    shutil.copy(made.database, tmp_path / "own.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'own.db'}")
    MlflowClient().set_tag(logged.dynamic.run_id, "aifsm.optimization.numbers", told)
    (log,) = search.logs_of_runs([logged.dynamic.run_id], search.experiments())[logged.dynamic.run_id]
    assert log.numbers == ({"flips": 2.0} if "flips" in told else {})


@pytest.mark.slow
def test_a_thousand_runs_are_fetched_in_pages(made: Logged, logged: Logged, tmp_path: Path, asked: list[str]) -> None:
    shutil.copy(made.database, tmp_path / "own.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'own.db'}")
    ids = copies(tmp_path / "own.db", made.dynamic.run_id, 1000)
    asked.clear()
    frame = aifsm.search_logs([EXPERIMENT])
    assert len(frame) == 1005
    assert set(ids) < set(frame["run_id"])
    assert asked == ["search_runs"] * 2
    asked.clear()
    compared = aifsm.compare(experiment=EXPERIMENT)
    assert len(compared) == 1005
    assert asked == ["search_runs"] * 2
    asked.clear()
    assert len(aifsm.compare(*ids)) == 1000
    assert asked == ["search_experiments", *["search_runs"] * 5]
