"""``compare`` gives one table of real logs: identity, what differs, numbers with their differences, the best marked."""

from __future__ import annotations

import numpy as np
import pytest

import mlflow_aifsm as aifsm
from mlflow_aifsm.comparison.frames import IDENTITY
from mlflow_aifsm.errors import InputError, NotFoundError
from tests.comparison.conftest import EXPERIMENT, Logged

NAMES = ["float · conversion", "float · optimization", "layerwise", "dynamic", "broken"]


def test_columns_are_identity_then_what_differs_then_numbers_with_differences(logged: Logged) -> None:
    frame = aifsm.compare(experiment=EXPERIMENT)
    columns = list(frame.columns)
    assert list(frame.index) == NAMES
    assert tuple(columns[: len(IDENTITY)]) == IDENTITY
    assert columns[-2:] == ["group", "pareto"]
    assert columns[len(IDENTITY)] == "ptq.precision"
    assert columns.index("ptq.granularity") < columns.index("accuracy")
    assert columns[columns.index("accuracy") + 1] == "accuracy_delta"
    assert (frame["pareto"].dtype, frame["group"].dtype, frame["size"].dtype) == (bool, "int64", "float64")


def test_differences_are_from_the_conversion_and_attributes_say_the_rest(logged: Logged) -> None:
    frame = aifsm.compare(experiment=EXPERIMENT)
    assert frame.attrs["baseline"] == "float · conversion"
    assert frame.attrs["quality"] == "accuracy"
    assert frame.attrs["same"]["conversion.precision"] == "float32"
    assert frame.attrs["same"]["recovery.qat"] == "not applicable"
    assert frame.attrs["warnings"] == ("Not ranked, as it failed: broken.",)
    for name in ("size", "accuracy"):
        known = frame[name].notna()
        assert (frame[f"{name}_delta"] == frame[name] - frame.loc["float · conversion", name])[known].all()
    assert np.isnan(frame.loc["broken", "accuracy_delta"])


def test_a_row_that_another_one_beats_in_everything_is_not_best(logged: Logged) -> None:
    frame = aifsm.compare(experiment=EXPERIMENT)
    ranked = frame[frame["group"] == 1]
    assert set(frame.index) - set(ranked.index) == {"broken"}
    smallest = ranked["size"].idxmin()
    assert smallest == "dynamic"
    assert ranked.loc[ranked[ranked["size"] == ranked["size"].min()]["accuracy"].idxmax(), "pareto"]
    assert not frame.loc["broken", "pareto"]
    assert ranked["pareto"].any()


@pytest.mark.parametrize("named", ["dynamic", "log_id", "run_id"])
def test_a_row_is_the_baseline_by_its_name_its_log_or_its_run(named: str, logged: Logged) -> None:
    wanted = getattr(logged.dynamic, named, named)
    frame = aifsm.compare(experiment=EXPERIMENT, baseline=wanted)
    assert frame.attrs["baseline"] == "dynamic"
    assert frame.loc["dynamic", "size_delta"] == 0


def test_a_baseline_that_is_not_among_the_rows_comes_first(logged: Logged) -> None:
    frame = aifsm.compare("models:/int8", baseline=logged.dynamic.model_uri)
    assert list(frame["run_id"]) == [logged.dynamic.run_id, logged.first.run_id, logged.layerwise.run_id]
    assert frame.attrs["baseline"] == "dynamic"


def test_a_baseline_that_another_target_names_is_the_row_that_is_there(logged: Logged) -> None:
    frame = aifsm.compare(experiment=EXPERIMENT, baseline=str(logged.layerwise.path))
    assert len(frame) == 5
    assert frame.attrs["baseline"] == "layerwise"


def test_nothing_and_too_much_and_nobody_are_told_in_a_line(logged: Logged) -> None:
    with pytest.raises(InputError, match="nothing is named to compare; name runs"):
        aifsm.compare()
    with pytest.raises(InputError, match="targets and an experiment are both named"):
        aifsm.compare("models:/int8", experiment=EXPERIMENT)
    with pytest.raises(NotFoundError, match="no run of experiment Default has a log; make one with"):
        aifsm.compare(experiment="Default")
    with pytest.raises(NotFoundError, match="run unheard does not exist"):
        aifsm.compare("models:/int8", baseline="unheard")


def test_one_log_is_a_table_of_one_row(logged: Logged) -> None:
    frame = aifsm.compare(logged.dynamic.run_id)
    assert list(frame.index) == ["dynamic"]
    assert frame["accuracy"].notna().all()
    assert not frame["pareto"].any()
