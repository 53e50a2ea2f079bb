"""A comparison in a real browser: nothing in a name runs, nothing is fetched, and no width needs sideways scrolling."""

from __future__ import annotations

from dataclasses import replace

import pytest
from playwright.sync_api import Page

from mlflow_aifsm.report import comparison_formats
from tests.report.test_browser import ATTACK, browser, page, shown
from tests.report.test_comparison import sample

__all__ = ["browser", "page"]  # fixtures, which pytest looks for by name


def test_a_hostile_comparison_runs_no_script_and_asks_the_network_for_nothing(page: Page) -> None:
    rows = tuple(replace(row, name=f"{row.number} {ATTACK}", version=ATTACK) for row in sample().rows)
    made = replace(sample(), title=ATTACK, rows=rows, warnings=(ATTACK,), same={ATTACK: ATTACK})
    frame, asked = shown(page, comparison_formats.html(made))
    assert frame.evaluate("window.hacked") is None
    assert "window.hacked = 1" in frame.locator("main").inner_text()
    assert frame.locator("figure img").count() == 2
    assert frame.evaluate("[...document.images].every(image => image.naturalWidth > 300)")
    assert asked == []


@pytest.mark.parametrize("width", [700, 1000, 1400])
def test_the_page_itself_never_scrolls_sideways(width: int, page: Page) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    rows = tuple(replace(row, name="x" * 300) for row in sample().rows)
    page.set_content(comparison_formats.html(replace(sample(), rows=rows)).decode("utf-8"))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
