"""The plots in the report: embedded where nothing in them can run, named in Markdown, whole on a printed page."""

from __future__ import annotations

import base64

import pytest
from playwright.sync_api import sync_playwright

from mlflow_aifsm.report import html
from mlflow_aifsm.report.annex_plots import figures
from mlflow_aifsm.report.blocks import Figure, Heading
from mlflow_aifsm.report.document import document
from mlflow_aifsm.report.plots import plots
from mlflow_aifsm.report.reading import spans
from tests.report import hostile, samples
from tests.report.plotted import evidence, names
from tests.report.test_html import Page
from tests.report.test_markdown import rendered

PATHS = ["plots/ranges.svg", "plots/sqnr.svg", "plots/sparsity.svg"]
MEASURED = "[...document.querySelectorAll('figure')].map(figure => [figure.offsetWidth, figure.offsetHeight])"


def images(page: Page) -> list[dict[str, str | None]]:
    return [attributes for tag, attributes in page.tags if tag == "img"]


def test_the_figures_stand_in_annex_b_after_the_tables_of_layers() -> None:
    blocks = document(evidence(names(9))).blocks
    places = [place for place, block in enumerate(blocks) if isinstance(block, Figure)]
    titles = [block.title.text for block in blocks[: places[0]] if isinstance(block, Heading)]
    assert titles[-1] == "Plots"
    assert titles.index("Sparsity") < titles.index("Plots")
    after = next(block for block in blocks[places[-1] :] if isinstance(block, Heading))
    assert after.number == "Annex C"


def test_a_log_without_such_tables_has_no_figure_and_no_heading_for_one() -> None:
    assert list(figures(samples.optimization())) == []
    assert images(Page(html.write(samples.optimization()))) == []


def test_the_page_holds_each_picture_to_the_byte_with_its_words() -> None:
    shown = evidence(names(9))
    page, made = Page(html.write(shown)), plots(shown.tables)
    for image, plot in zip(images(page), made.values(), strict=True):
        kind, _, content = str(image["src"]).partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert base64.b64decode(content).decode() == plot.svg
        assert image["alt"] == plot.alt
        assert plot.caption in page.text


def test_alternative_text_and_caption_are_words_of_the_document() -> None:
    figure = next(block for block in figures(evidence(names(9))) if isinstance(block, Figure))
    assert list(spans(figure)) == [figure.alt, figure.caption]
    assert "Signal to Quantization Noise Ratio" in Page(html.write(evidence(names(9)))).text


def test_markdown_says_what_each_plot_shows_and_links_its_file() -> None:
    shown = evidence(names(9))
    page = rendered(shown)
    assert [attributes["href"] for tag, attributes in page.tags if tag == "a"] == PATHS
    assert images(page) == []
    for plot in plots(shown.tables).values():
        assert plot.alt in page.text
        assert plot.caption in page.text


@pytest.mark.parametrize("string", hostile.HOSTILE, ids=range(len(hostile.HOSTILE)))
def test_a_hostile_tensor_adds_no_markup_to_either_report(string: str) -> None:
    bad, good = evidence([string, f"{string}2"]), evidence(["a", "b"])
    assert [tag for tag, _ in Page(html.write(bad)).tags] == [tag for tag, _ in Page(html.write(good)).tags]
    page = rendered(bad)
    assert [attributes["href"] for tag, attributes in page.tags if tag == "a"] == PATHS
    assert not {tag for tag, _ in page.tags} & {"img", "script"}


def test_the_browser_shows_every_picture_and_no_page_cuts_one(chromium: str) -> None:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu"])
        page = running.new_page(viewport={"width": 700, "height": 900})
        page.set_content(html.write(evidence(names(60))).decode())
        assert page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth)") == [720] * 3
        assert page.evaluate("document.documentElement.scrollWidth") <= 700
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 658, "height": 963})
        # 174 by 255 mm of an A4 page are 658 by 963 pixels of CSS
        assert all(width <= 658 and height < 963 for width, height in page.evaluate(MEASURED))
        running.close()
