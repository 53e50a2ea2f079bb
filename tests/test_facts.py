"""Facts have a name of the catalogue, data that is JSON, and a state with its constructor."""

from __future__ import annotations

import enum
import json
import math
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlflow_aifsm.errors import RecordError
from mlflow_aifsm.facts import (
    CATALOGUE,
    Facts,
    Finding,
    Source,
    State,
    Value,
    captured,
    jsonable,
    measured,
    not_applicable,
    not_recorded,
)
from tests.strategies import data


class Kind(enum.IntEnum):
    A = 3


@pytest.mark.parametrize(
    ("given_", "plain"),
    [
        (np.float32("nan"), "nan"),
        (np.inf, "inf"),
        (-math.inf, "-inf"),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.array([[1, 2]], np.uint8), [[1, 2]]),
        (np.array([1.5, np.nan], np.float32), [1.5, "nan"]),
        (torch.tensor([1, 2]), [1, 2]),
        (State.MEASURED, "measured"),
        (Kind.A, 3),
        ((1, (2,)), [1, [2]]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", 1, "a", None}), [None, 1, "a", "b"]),
        ({1: {"a": (np.float64(0.5),)}}, {"1": {"a": [0.5]}}),
    ],
)
def test_data_of_array_libraries_and_python_becomes_plain_json(given_: object, plain: object) -> None:
    found = jsonable(given_)
    assert found == plain
    assert json.dumps(found) == json.dumps(plain)


@given(data)
def test_plain_data_is_json_and_stays_as_it_is(content: object) -> None:
    plain = jsonable(content)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert jsonable(plain) == plain


@pytest.mark.parametrize("alien", [object(), b"bytes", datetime.now(UTC), {"a": [b""]}, 1j])
def test_data_without_json_form_is_refused_at_once(alien: object) -> None:
    with pytest.raises(RecordError, match="expected a JSON value"):
        Value("x", alien)


def test_a_name_that_the_catalogue_does_not_hold_is_refused() -> None:
    with pytest.raises(RecordError, match=r"fact 'graph.colour'; expected a name of catalogue.CATALOGUE"):
        measured("graph.colour", "red", source="file")


def test_each_constructor_gives_its_state_and_what_belongs_to_it() -> None:
    finding = Finding("training_operation_left")
    one = measured("graph.dropout", "1 node", 1, source="model.onnx", short="left", findings=[finding])
    assert (one.state, one.value, one.source, one.findings) == (
        State.MEASURED,
        Value("1 node", 1, "left"),
        Source("model.onnx"),
        (finding,),
    )
    two = captured("log.date", "2026-11-21", source="clock", at="2026-11-21T10:00:00+01:00")
    assert (two.state, two.source.at) == (State.CAPTURED, "2026-11-21T10:00:00+01:00")
    three = not_applicable("pruning.patterns", "0 of 5,530 weights are zero", 0, source="model.onnx")
    assert (three.state, three.value.text, three.reason) == (
        State.NOT_APPLICABLE,
        "Not applicable",
        "0 of 5,530 weights are zero",
    )
    four = not_recorded("training.run", "no run was named", "pass training=run_id")
    assert (four.state, four.value.text, four.reason, four.remedy) == (
        State.NOT_RECORDED,
        "",
        "no run was named",
        "pass training=run_id",
    )


def test_states_are_ordered_by_how_well_a_value_is_known() -> None:
    assert sorted(State, key=lambda state: -state.strength)[:3] == [State.MEASURED, State.CAPTURED, State.DECLARED]
    assert State.NOT_APPLICABLE.strength == State.NOT_RECORDED.strength == 0


def test_the_catalogue_names_each_fact_once_and_its_metrics_are_ours() -> None:
    assert all(name == kind.name and kind.meaning for name, kind in CATALOGUE.items())
    metrics = [kind.metric for kind in CATALOGUE.values() if kind.metric]
    assert len(metrics) == len(set(metrics))
    assert all(key.startswith("aifsm.") for key in metrics)
    assert all(kind.unit for kind in CATALOGUE.values() if kind.metric)


@pytest.mark.parametrize(
    ("number", "logged"), [(3, {"aifsm.size": 3.0}), (0, {"aifsm.size": 0.0}), (True, {}), ("nan", {}), (None, {})]
)
def test_only_a_number_is_a_metric(number: object, logged: dict[str, float]) -> None:
    assert measured("graph.size", "x", number, source="f").metrics == logged
    assert measured("graph.opset", "18", number, source="f").metrics == {}


def test_later_facts_lie_over_earlier_ones() -> None:
    first = Facts().with_facts([measured("graph.size", "1", 1, source="a"), measured("zeros.ratio", "0", 0.0, source="a")])
    both = first.with_facts([measured("graph.size", "2", 2, source="b")])
    assert both.metrics == {"aifsm.size": 2.0, "aifsm.zeros": 0.0}
    assert first.metrics["aifsm.size"] == 1.0
    assert both.get("log.id") is None


@given(st.text(), st.text())
def test_the_brief_form_is_the_short_one_where_there_is_one(text: str, short: str) -> None:
    assert Value(text, short=short).brief == (short or text)


def test_a_source_says_who_and_when() -> None:
    assert str(Source("declared", "A. Ito", "2026-11-21")) == "declared by A. Ito, 2026-11-21"
    assert str(Source("model.onnx")) == "model.onnx"
