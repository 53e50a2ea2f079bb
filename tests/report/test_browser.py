"""The page as MLflow shows it: in a sandboxed frame, from a blob, in a real browser."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Frame, Page, sync_playwright

from mlflow_aifsm.report import html
from tests.report import hostile, samples

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
FRAME = """async ([encoded, sandbox]) => {
    const bytes = Uint8Array.from(atob(encoded), char => char.charCodeAt(0));
    const frame = document.createElement("iframe");
    frame.setAttribute("sandbox", sandbox);
    frame.width = 1000;
    frame.src = URL.createObjectURL(new Blob([bytes], {type: "text/html"}));
    await new Promise(done => { frame.onload = done; document.body.append(frame); });
}"""
ATTACK = "".join(hostile.HOSTILE[:4])


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    yield opened
    opened.close()


def shown(page: Page, content: bytes) -> tuple[Frame, list[str]]:
    """The frame that shows ``content``, and all that the page asked the network for."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto("about:blank")
    page.evaluate(FRAME, [base64.b64encode(content).decode(), "allow-scripts"])
    return page.frames[1], [url for url in asked if not url.startswith(("blob:", "about:"))]


def test_the_report_shows_in_a_sandboxed_frame_and_asks_the_network_for_nothing(page: Page) -> None:
    frame, asked = shown(page, html.write(samples.conversion()))
    assert frame.locator("h1").inner_text() == "Model Conversion Log"
    assert frame.locator(".status .word").inner_text() == "Complete"
    assert asked == []


def test_a_hostile_report_runs_no_script_and_asks_the_network_for_nothing(page: Page) -> None:
    frame, asked = shown(page, html.write(hostile.evidence(ATTACK)))
    assert frame.evaluate("window.hacked") is None
    assert "window.hacked = 1" in frame.locator("main").inner_text()
    assert asked == []


def test_the_frame_would_see_a_script_if_one_ran(page: Page) -> None:
    frame, _ = shown(page, b"<!DOCTYPE html><script>window.hacked = 1</script>")
    assert frame.evaluate("window.hacked") == 1


@pytest.mark.parametrize("width", [700, 1000, 1400])
def test_no_width_from_700_to_1400_needs_sideways_scrolling(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    for sample in (samples.optimization_with_findings(), samples.optimization(), hostile.evidence("x" * 10_000)):
        page.set_content(html.write(sample).decode("utf-8"))
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_report_prints_on_a4(page: Page) -> None:
    page.set_content(html.write(samples.conversion()).decode("utf-8"))
    printed = page.pdf(prefer_css_page_size=True)
    sizes = {tuple(round(float(side)) for side in box.split()) for box in re.findall(rb"/MediaBox \[0 0 ([\d. ]+)\]", printed)}
    assert sizes == {(595, 842)}
