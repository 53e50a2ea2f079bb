"""The plots: what they say, that names stay text, and that the same tables give the same bytes everywhere."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest

from mlflow_aifsm.digests import sha256_bytes
from mlflow_aifsm.facts import Json
from mlflow_aifsm.report import plots as module
from mlflow_aifsm.report.characters import visible
from mlflow_aifsm.report.plot_drawing import spread
from mlflow_aifsm.report.plots import Plot, plots
from tests.report import hostile
from tests.report.plotted import distribution, names, tables

ALL = ["ranges.svg", "sqnr.svg", "sparsity.svg"]
BEFORE = (lambda row: row["zeros_before"], lambda _: 0)
"""Zeros of a float model that was pruned, and of one that was not."""
DIGESTS = """
from mlflow_aifsm.digests import sha256_bytes
from mlflow_aifsm.report.plots import plots
from tests.report.plotted import names, tables
print(*(sha256_bytes(plot.svg.encode()) for plot in plots(tables(names(12))).values()))
"""


def fresh(made: dict[str, tuple[dict[str, Json], ...]]) -> dict[str, Plot]:
    """The plots, drawn anew."""
    module._histograms.cache_clear()
    module._rows.cache_clear()
    return plots(made)


def words(svg: str) -> list[str]:
    """The texts of a picture, which must be sound XML."""
    return [text.text or "" for text in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def layers(*ratios: Json) -> dict[str, tuple[dict[str, Json], ...]]:
    return {"layers": tuple({"tensor": f"t{number}", "sqnr_db": ratio} for number, ratio in enumerate(ratios))}


def test_each_table_gives_its_plot_and_no_table_gives_none() -> None:
    made = tables(names(9))
    assert list(plots(made)) == ALL
    assert list(plots({"layers": made["layers"]})) == ["sqnr.svg"]
    assert list(plots({"distributions": made["distributions"]})) == ["ranges.svg"]
    assert plots({}) == {}
    assert plots(dict.fromkeys(made, ())) == {}
    assert plots({name: ({"tensor": "a"},) for name in made}) == {}


def test_zeros_are_plotted_only_where_a_share_is_above_five_percent() -> None:
    assert plots({"sparsity": ({"tensor": "w", "ratio": 0.05},)}) == {}
    (plot,) = plots({"sparsity": ({"tensor": "w", "ratio": 0.0501}, {"tensor": "v", "ratio": 0.0})}).values()
    assert "highest: w 5.0 percent and v 0 percent" in plot.alt


def test_alternative_texts_hold_the_numbers_in_words() -> None:
    made = plots(tables(names(12)))
    assert "lowest signal to quantization noise ratio" in made["ranges.svg"].alt
    assert "range −2.5 to 3.1, 29.5 decibels, 0.12 percent of the values outside" in made["ranges.svg"].alt
    assert "of 12 tensors in the order of the graph. From 26.5 to 42.0 decibels, median" in made["sqnr.svg"].alt
    assert "From 0 to 96.0 percent; highest: " in made["sparsity.svg"].alt


def test_pictures_hold_title_units_names_and_values_as_text() -> None:
    made = {name: words(plot.svg) for name, plot in plots(tables(names(12))).items()}
    assert {"SQNR by layer", "SQNR (dB), more is better", "42.0"} <= {*made["sqnr.svg"]}
    assert {"value (units of the tensor)", "count per bin", "10⁴", "SQNR 29.5 dB · 0.12 % clipped"} <= {*made["ranges.svg"]}
    assert {"Zeros (% of elements)", "96.0 %", "100"} <= {*made["sparsity.svg"]}
    assert made["sqnr.svg"][2:4] != made["sqnr.svg"][4:6]


def test_two_tensors_of_one_layer_bear_names_of_their_own() -> None:
    rows = ({"tensor": "relu", "layer": "fc", "sqnr_db": 20.0}, {"tensor": "view", "layer": "fc", "sqnr_db": 20.0})
    (plot,) = plots({"layers": rows}).values()
    assert {"relu", "view"} <= {*words(plot.svg)}


def test_where_no_layer_was_compared_the_calibration_says_what_each_tensor_loses_alone() -> None:
    made = tables(names(12))
    del made["layers"]
    assert "SQNR by tensor" in words(plots(made)["sqnr.svg"].svg)
    made["layers"] = ({"tensor": "a", "sqnr_db": None},)
    assert "what earlier layers lose is not in it" in plots(made)["sqnr.svg"].caption


def test_a_layer_without_difference_and_one_without_number_are_told_apart() -> None:
    (plot,) = plots(layers("inf", 20.04, None, float("nan"), -3.0)).values()
    assert plot.alt.endswith("From −3.0 to 20.0 decibels, median 8.5; lowest: t4 −3.0 and t1 20.0. 1 without any difference.")
    assert "open circle" in plot.caption
    assert "2 more tensors have no SQNR in the table." in plot.caption
    assert [text for text in words(plot.svg) if text == "equal"] == ["equal"]
    assert words(next(iter(plots(layers("inf")).values())).svg)


def test_the_worst_tensors_are_drawn_and_bins_that_are_left_out_are_empty() -> None:
    made = tables(names(12))
    made["distributions"] = tuple(row for name in names(12) for row in distribution(name) if row["count"] != 1)
    plot = plots(made)["ranges.svg"]
    assert plot.alt.count("decibels") == 6
    assert "29.5 decibels" in plot.alt
    assert "42.0" not in plot.alt


def test_the_same_tables_give_the_same_bytes_in_another_process_with_another_style() -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.run([sys.executable, "-c", DIGESTS], env=environment, capture_output=True, text=True, check=True)
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "black", "svg.fonttype": "path", "lines.markersize": 30}):
        before = dict(mpl.rcParams)
        here = [sha256_bytes(plot.svg.encode()) for plot in fresh(tables(names(12))).values()]
        assert dict(mpl.rcParams) == before
    assert other.stdout.split() == here


def test_threads_that_draw_at_once_give_the_same_bytes_and_leave_the_style_alone() -> None:
    before, made = dict(mpl.rcParams), {"layers": tables(names(5))["layers"]}
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda _: fresh(made), range(8)))
    assert all(each == drawn[0] for each in drawn)
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    "name", [*hostile.HOSTILE, r"$\frac{1}{$", "名前\uffff", "é" * 80], ids=range(len(hostile.HOSTILE) + 3)
)
def test_a_hostile_name_is_shown_as_it_is_written(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = plots(tables([name, f"{name} too", "c"]))
    assert list(made) == ALL
    begin = " ".join(visible(name).split())[:9]
    for plot in made.values():
        assert any(text.startswith(begin) for text in words(plot.svg)) or "…" in plot.alt
        assert "<script" not in plot.svg
        assert "\u202e" not in plot.svg + plot.alt
        assert len(plot.alt) < 2000


def test_long_names_keep_both_ends_and_stay_apart() -> None:
    long = [f"/model/backbone/stage{number}/{'block/' * 20}Conv" for number in range(12)]
    shown = [text for text in words(plots(tables(long))["sqnr.svg"].svg) if "…" in text]
    assert len({*shown}) == 12
    assert all(text.startswith("…stage") and text.endswith("Conv") and len(text) <= 40 for text in shown)


@pytest.mark.parametrize("count", [61, 300])
def test_of_many_layers_only_the_worst_bear_names_and_none_covers_another(count: int) -> None:
    fresh(tables(names(3)))
    made, begun = tables(names(count)), time.process_time()
    plot = fresh({"layers": made["layers"]})["sqnr.svg"]
    assert time.process_time() - begun < 1
    assert f"Only the 40 lowest of {count} bear their names." in plot.caption
    texts = ET.fromstring(plot.svg).iter("{http://www.w3.org/2000/svg}text")
    lines = [float(text.attrib["y"]) for text in texts if "conv" in (text.text or "")]
    assert len(lines) == 40
    assert all(below - above > 7.5 for above, below in zip(sorted(lines), sorted(lines)[1:], strict=False))


@pytest.mark.parametrize(
    ("wanted", "places"),
    [
        ([1.0, 5.0], [1.0, 5.0]),
        ([5.0, 5.0], [4.5, 5.5]),
        ([0.0, 0.0, 9.9], [0.5, 1.5, 9.5]),
        ([9.0, 9.9, 10.0], [7.5, 8.5, 9.5]),
    ],
)
def test_labels_stand_apart_and_as_near_as_they_can(wanted: Sequence[float], places: Sequence[float]) -> None:
    assert spread(wanted, 1.0, 10.0) == pytest.approx(places)


def test_a_plot_that_fails_is_told_and_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    made = tables(names(5))
    made["sparsity"] = ({"tensor": "w", "ratio": 10**400},)
    with caplog.at_level(logging.WARNING):
        assert list(plots(made)) == ALL[:2]
    assert "plot sparsity.svg cannot be drawn: OverflowError" in caplog.text


def test_matplotlib_is_not_imported_where_nothing_is_drawn() -> None:
    code = (
        "import sys; from mlflow_aifsm.report import html; from tests.report import samples; html.write(samples.optimization())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", f"{code}; assert 'matplotlib' not in sys.modules"], env=environment, check=True)


def test_zeros_of_the_float_model_are_marked_where_it_was_pruned() -> None:
    pruned = {"tensor": "w", "size": 100, "zeros": 60, "ratio": 0.6, "zeros_before": 50}
    rows = (pruned, {**pruned, "tensor": "v", "zeros_before": 0}, {"tensor": "u", "size": 0, "ratio": 0.0, "zeros_before": 0})
    marked, plain = (plots({"sparsity": tuple({**row, "zeros_before": before(row)} for row in rows)}) for before in BEFORE)
    assert "A line across a bar marks the share in the float model." in marked["sparsity.svg"].caption
    assert "In the float model from 0 to 50.0 percent." in marked["sparsity.svg"].alt
    assert "float model" not in plain["sparsity.svg"].caption + plain["sparsity.svg"].alt
    assert len(marked["sparsity.svg"].svg) > len(plain["sparsity.svg"].svg)
