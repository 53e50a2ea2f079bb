"""What the log says of a calibration."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mlflow_aifsm.calibration.estimators import ESTIMATORS, estimate
from mlflow_aifsm.calibration.facts import clip_fact, distributions, method_fact, table, words
from mlflow_aifsm.calibration.observer import Observation
from mlflow_aifsm.calibration.reading import Seen
from mlflow_aifsm.calibration.statistics import Grid
from mlflow_aifsm.facts import Fact, jsonable
from mlflow_aifsm.samples import Data, Samples
from tests.calibration.conftest import observed

VALUES = np.random.default_rng(0).standard_normal((20, 500)).astype(np.float32)


def samples(values: np.ndarray = VALUES) -> Samples:
    return Samples.of(Data(values, name="noise", version="2"))


def fact(seen: Seen, asked: int, values: np.ndarray = VALUES) -> Fact:
    return method_fact("Minimum and maximum", "min_max", seen, samples(values), asked, preprocess="")


def test_the_cell_names_method_data_preprocessing_classes_and_loss(digits_observation: Observation) -> None:
    ranges = estimate(digits_observation, "mean_min_max", Grid())
    phrase = words("mean_min_max", Grid(), 99.99)
    made = method_fact(phrase, "mean_min_max", Seen(20, 10, ()), samples(), 20, preprocess="scale", estimates=ranges)
    assert made.value.text.startswith(
        "Mean over samples of each sample's minimum and maximum; ranges from 20 of 20 samples asked; data: noise version 2"
    )
    assert "; preprocessing: scale; 10 classes covered; min_max instead in " in made.value.text
    assert "; largest clip fraction " in made.value.text
    assert made.value.brief == "mean_min_max"
    assert made.findings == ()
    assert made.value.data["replaced"]["image"] == "an input of the graph: min_max used instead"
    assert made.value.data["sha256"] == samples().digest
    number = clip_fact(ranges).metrics["aifsm.clip_fraction"]
    assert number == made.value.data["clip_fraction"] == max(one.clip_fraction for one in ranges.values()) > 0


def test_what_is_not_known_is_said_so() -> None:
    text = fact(Seen(20, None, ()), 20).value.text
    assert "classes not known: the data have no class labels" in text
    assert "preprocessing: none by this tool" in text
    assert "clip fraction" not in text


def test_labels_that_are_no_classes_are_not_called_absent() -> None:
    text = fact(Seen(20, None, (), other_labels=True), 20).value.text
    assert "classes not known: the labels are no classes" in text
    assert "no class labels" not in text


def test_one_constant_input_among_others_is_named_in_the_text_alone() -> None:
    made = fact(Seen(20, 3, ("mask",)), 20)
    assert "; one value everywhere in input mask" in made.value.text
    assert made.findings == ()


@pytest.mark.parametrize(
    ("seen", "asked", "values", "codes"),
    [
        (Seen(20, 3, ()), 20, VALUES, []),
        (Seen(20, 3, ()), 300, VALUES, ["fewer_calibration_samples"]),
        (Seen(20, 1, ()), 20, VALUES, ["one_class_calibration"]),
        (Seen(20, 3, ("x",), alike=True), 20, VALUES, ["constant_calibration_data"]),
        (Seen(20, 3, ("mask",)), 20, VALUES, []),
        (Seen(20, 3, ()), 20, VALUES[:1].repeat(20, 0), ["constant_calibration_data"]),
        (Seen(1, 1, ()), 1, VALUES[:1], ["one_class_calibration", "constant_calibration_data"]),
    ],
)
def test_a_poor_basis_for_ranges_is_a_finding(seen: Seen, asked: int, values: np.ndarray, codes: list[str]) -> None:
    assert [finding.code for finding in fact(seen, asked, values).findings] == codes


@pytest.mark.parametrize(
    ("method", "percentile", "clips"),
    [("min_max", 100.0, 0), ("mean_min_max", 100.0, 0), ("percentile", 99.0, 0), ("percentile", 80.0, 2)],
)
def test_ranges_that_cut_off_much_of_the_values_are_a_finding(method: str, percentile: float, clips: int) -> None:
    ranges = estimate(observed(signed=VALUES, rectified=np.maximum(VALUES, 0)), method, Grid(), percentile)
    made = method_fact("words", method, Seen(20, 10, ()), samples(), 20, preprocess="", estimates=ranges)
    assert [found.code for found in made.findings] == ["calibration_clips"] * bool(clips)
    assert all(found.measured.startswith(f"{clips} of 2 ranges clip; the worst ") for found in made.findings)


def test_every_method_has_words() -> None:
    phrases = {words(method, Grid(16), 99.9) for method in ESTIMATORS}
    assert len(phrases) == len(ESTIMATORS)
    assert "Percentile 99.9 of the distribution of absolute values" in phrases
    assert "Entropy (KL divergence), 16 levels" in phrases


def test_tables_are_json_and_show_the_worst_tensors() -> None:
    observation = observed(**{f"t{power}": VALUES**power for power in range(1, 9)}, zero=0 * VALUES)
    ranges = estimate(observation, "min_max", Grid())
    rows = table(ranges)
    json.dumps(jsonable(rows), allow_nan=False)
    assert [row["tensor"] for row in rows] == list(ranges)
    assert rows[-1]["sqnr_db"] is None
    bins = distributions(observation.tensors, ranges, worst=3)
    worst = sorted(rows[:-1], key=lambda row: row["sqnr_db"])[:3]
    assert list(dict.fromkeys(row["tensor"] for row in bins)) == [row["tensor"] for row in worst]
    assert sum(row["count"] for row in bins) == 3 * VALUES.size
    assert {row["calibrated_max"] for row in bins} == {row["calibrated_max"] for row in worst}
