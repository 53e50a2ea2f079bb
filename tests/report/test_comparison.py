"""A comparison in each format: the same words, nothing a name can break out of, readable plots."""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stdout
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from markdown_it import MarkdownIt

from mlflow_aifsm.report import comparison_formats
from mlflow_aifsm.report.comparison import Comparison, Row
from mlflow_aifsm.report.comparison_scatter import plotted, scatters
from mlflow_aifsm.report.comparison_terminal import printed
from tests.report.hostile import HOSTILE

WARNING = "Verified on different data, so not ranked against each other: a; b."


def row(
    number: int, name: str, accuracy: float | None = None, size: float = 1000.0, speedup: float | None = None, **more: object
) -> Row:
    measured = {"accuracy": accuracy, "size": size, "speedup": speedup}
    numbers = {key: value for key, value in measured.items() if value is not None}
    words = {"ptq.precision": "int8 weights", "calibration.method": f"method of {name}"}
    base = Row(number, name, f"run{number}", "optimization", f"id{number}", "complete", f"models:/net/{number}", words, numbers)
    return replace(base, **{"group": 1, "judged_on": "data", "seconds_of": "clock", **more})


def comparison(*rows: Row, warnings: tuple[str, ...] = ()) -> Comparison:
    differing, numbers = ("ptq.precision", "calibration.method"), ("accuracy", "size", "speedup")
    same = {"conversion.opset": "20", "recovery.qat": "not applicable", "recovery.learned": "not applicable"}
    return Comparison("Logs of digits", rows, differing, numbers, same, "accuracy", 0, warnings)


def sample() -> Comparison:
    rows = (
        row(1, "float", 0.95, 4000.0, log="conversion", seconds_of=""),
        row(2, "entropy", 0.93, 1000.0, 1.5, best=True),
        row(3, "percentile", 0.92, 1100.0, 1.2, group=2),
        row(4, "missed", 0.5, 900.0, 2.0, group=0, status="verification failed"),
    )
    return comparison(*rows, warnings=(WARNING,))


def terminal(made: Comparison, width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    out = io.StringIO()
    with redirect_stdout(out):
        printed(made)
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_terminal_shows_all_cells_within_its_width(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = terminal(sample(), width, monkeypatch)
    assert max(map(len, shown.splitlines())) <= width
    for words in ("entropy", "0.93", "−0.02", "1,000", "−75 %", "1.5", "method of", "verification failed", "net/3"):
        assert words in shown
    assert " ".join(shown.split()).count("Verified on different data, so not ranked against each other: a; b.") == 1
    assert re.search(r"2★ +entropy", shown)
    assert "3★" not in shown


def test_the_terminal_says_what_is_the_same_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = " ".join(terminal(sample(), 100, monkeypatch).split())
    assert "The same for all that have it: conversion.opset 20 · not applicable recovery.qat, recovery.learned" in shown


def test_of_a_thousand_rows_the_terminal_shows_the_baseline_and_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(number, f"run {number}", 0.5, best=number == 900) for number in range(1, 1001)]
    shown = terminal(comparison(*rows), 80, monkeypatch)
    assert len(shown.splitlines()) < 200
    assert "900★  run 900" in shown
    assert "1,000, 40 of them shown: the baseline, the best ones and others" in " ".join(shown.split())


def test_of_many_rows_the_terminal_shows_what_models_are_chosen_by_and_names_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(number, f"run {number}", 0.5 + number / 100) for number in range(1, 8)]
    rows = [replace(one, numbers={**one.numbers, "clip_fraction": one.number / 7}, version="") for one in rows]
    shown = terminal(replace(comparison(*rows), numbers=("accuracy", "size", "clip_fraction")), 80, monkeypatch)
    assert "accuracy" in shown
    assert "0.1429" not in shown
    assert "Differs as well, in a file: clip fraction\n" in shown
    assert "0.1429" in comparison_formats.md(replace(comparison(*rows), numbers=("clip_fraction",))).decode()


def test_two_logs_stand_beside_each_other_with_a_line_for_each_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    made = sample()
    lines = terminal(replace(made, rows=made.rows[:2]), 80, monkeypatch).splitlines()
    assert any(re.search(r"1 float +2★ entropy", line) for line in lines)
    assert any(re.search(r"^calibration.method +method of float +method of entropy", line) for line in lines)
    assert any(re.search(r"^accuracy +0.95 +0.93 −0.02", line) for line in lines)


def test_html_runs_nothing_fetches_nothing_and_has_its_plots_in_it() -> None:
    page = comparison_formats.html(sample()).decode()
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page
    assert "<script" not in page
    assert "http:" not in re.sub(r"data:image/svg\+xml;base64,[\w+/=]+", "", page)
    assert page.count('<img src="data:image/svg+xml;base64,') == 2
    for words in (WARNING, "entropy", "verification failed", "not applicable", '<span class="badge good">best</span>'):
        assert words in page
    assert page.index("What differs<") < page.index("Numbers<") < page.index("The same for all that have it<")


def test_the_same_comparison_gives_the_same_bytes() -> None:
    for form in (comparison_formats.html, comparison_formats.md, comparison_formats.json):
        assert form(sample()) == form(sample())


def test_markdown_is_tables_that_hold_all_rows() -> None:
    text = comparison_formats.md(sample()).decode()
    assert text.startswith("# Logs of digits\n")
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    assert sum(token.type == "table_open" for token in tokens) >= 3
    assert "| 2 entropy <kbd>best</kbd> net/2 |" in text
    assert "0.93 −0.02" in text


def test_json_holds_every_number_and_no_rounding() -> None:
    made = sample()
    told = json.loads(comparison_formats.json(made))
    assert told["baseline"] == "float"
    assert [one["values"] for one in told["rows"]] == [dict(one.numbers) for one in made.rows]
    assert told["rows"][1]["deltas"]["accuracy"] == 0.93 - 0.95
    assert told["rows"][1]["best"] is True
    assert told["warnings"] == [WARNING]


@pytest.mark.parametrize("string", HOSTILE)
def test_no_name_breaks_out_of_a_document(string: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = [
        replace(
            one, name=f"{string}{one.number}", categories=dict.fromkeys(one.categories, f"{string}{one.number}"), version=string
        )
        for one in sample().rows
    ]
    made = replace(sample(), title=string, rows=tuple(hostile), same={"opset": string}, warnings=(string,))
    page = comparison_formats.html(made).decode("utf-8")
    assert "<script" not in page
    assert not re.search(r"<img (?!src=\"data:image/svg)", page)
    for plot in plotted(made).values():
        ET.fromstring(plot.svg)
        assert "<script" not in plot.svg
    tokens = MarkdownIt("commonmark").enable("table").parse(comparison_formats.md(made).decode("utf-8"))
    inline = [child.type for token in tokens for child in token.children or ()]
    assert {"image", "link_open"}.isdisjoint(inline)
    shown = terminal(made, 80, monkeypatch)
    assert max(map(len, shown.splitlines())) <= 80
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e\u2066]", shown)
    comparison_formats.json(made)


def test_a_speedup_that_has_no_time_is_not_drawn() -> None:
    made = comparison(row(1, "a", 0.9, speedup=2.0), row(2, "b", 0.8, speedup=1.0), row(3, "c", 0.7, speedup=5e-324))
    assert [dot.name for dot in scatters(made)["accuracy-time.svg"].dots] == ["a", "b"]
    assert set(plotted(made)) == {"accuracy-size.svg", "accuracy-time.svg"}


def test_plots_need_two_rows_with_both_numbers() -> None:
    assert set(scatters(sample())) == {"accuracy-size.svg", "accuracy-time.svg"}
    assert set(scatters(comparison(row(1, "a", 0.9), row(2, "b", 0.8)))) == {"accuracy-size.svg"}
    assert scatters(comparison(row(1, "a", 0.9), row(2, "b"))) == {}
    assert scatters(replace(sample(), quality="")) == {}


def test_a_front_is_what_no_other_row_of_its_group_beats_on_both_axes() -> None:
    rows = [row(1, "a", 0.9, 1000.0), row(2, "b", 0.95, 2000.0), row(3, "c", 0.89, 1500.0), row(4, "d", 0.99, 500.0, group=0)]
    other = [row(5, "e", 0.7, 900.0, group=2), row(6, "f", 0.6, 800.0, group=2)]
    shown = scatters(comparison(*rows, *other))["accuracy-size.svg"]
    assert [[dot.name for dot in front] for front in shown.fronts] == [["a", "b"], ["f", "e"]]


def test_times_of_two_clocks_have_two_fronts() -> None:
    rows = [row(1, "a", 0.9, speedup=2.0), row(2, "b", 0.8, speedup=4.0), row(3, "c", 0.7, speedup=8.0, seconds_of="other")]
    shown = scatters(comparison(*rows, row(4, "d", 0.6, speedup=9.0, seconds_of="other")))["accuracy-time.svg"]
    assert [[dot.name for dot in front] for front in shown.fronts] == [["b", "a"], ["d", "c"]]
    assert [dot.x for dot in shown.dots] == [0.5, 0.25, 0.125, 1 / 9]


def letters(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_each_row_of_a_plot_is_named_beside_it_and_numbered_in_it() -> None:
    made = comparison(*(row(number, f"name {number}", 0.8 + number / 100, 1000.0 * number) for number in range(1, 13)))
    shown = letters(plotted(made)["accuracy-size.svg"].svg)
    assert {f"name {number}" for number in range(1, 13)} <= set(shown)
    assert sum(text == "7" for text in shown) == 2


def test_rows_at_one_place_share_a_label() -> None:
    made = comparison(*(row(number, f"name {number}", 0.9, 1000.0) for number in (1, 2, 3)), row(4, "far", 0.5, 9000.0))
    assert "1, 2, 3" in letters(plotted(made)["accuracy-size.svg"].svg)


def test_labels_of_thirty_rows_do_not_stand_on_each_other() -> None:
    made = comparison(
        *(row(number, f"n{number}", 0.8 + (number * 7 % 30) / 150, 1000.0 + number * 211) for number in range(1, 31))
    )
    svg = plotted(made)["accuracy-size.svg"].svg
    places = re.findall(r"text-anchor: middle[^>]*x=\"([\d.]+)\" y=\"([\d.]+)\"[^>]*>([\d, +]+)<", svg)
    boxes = [(float(x), float(y), 4.9 * len(text)) for x, y, text in places]
    assert len(boxes) >= 20
    hits = [
        1
        for at, one in enumerate(boxes)
        for other in boxes[:at]
        if abs(one[0] - other[0]) < (one[2] + other[2]) / 2 and abs(one[1] - other[1]) < 7
    ]
    assert len(hits) <= 1


def test_ten_thousand_rows_are_a_small_picture_and_the_best_are_named() -> None:
    rows = [
        row(number, f"run {number}", 0.5 + number % 97 / 200, 1000.0 + number % 89, best=number == 777)
        for number in range(1, 10_001)
    ]
    svg = plotted(comparison(*rows))["accuracy-size.svg"].svg
    assert len(svg) < 300_000
    assert {"run 1", "run 777"} <= set(letters(svg))
    assert "run 778" not in letters(svg)
