"""What MLflow's own pages show of a log, in a real browser before a real server, with nothing of ours running there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import mlflow
import pytest
from playwright.sync_api import Page, expect, sync_playwright

import mlflow_aifsm as aifsm
from tests.models import Digits
from tests.report.test_browser import FLAGS
from tests.server import serving

PATIENCE = 30_000
"""Milliseconds for a page of MLflow's; its first one loads the whole application."""
HOSTILE = "<img src=x onerror=window.hacked=1>**x**"


@dataclass(frozen=True)
class Shown:
    """A server's experiment with two optimizations of one model, and a page of the browser."""

    page: Page
    address: str
    results: tuple[aifsm.Result, ...]

    def open(self, place: str) -> None:
        self.page.goto(f"{self.address}/#/{place}")


@pytest.fixture(scope="module")
def shown(digits: Digits, chromium: str, tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes(migrated.read_bytes())
    with pytest.MonkeyPatch.context() as patched, serving(folder) as server, sync_playwright() as playwright:
        patched.setenv("MLFLOW_TRACKING_URI", server.uri)
        patched.setenv("MLFLOW_AIFSM_RESPONSIBLE", "A. Ito")
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(server.uri)
        mlflow.set_experiment("digits, optimizations")
        results = optimized(digits)
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1500, "height": 1800})
        page.set_default_timeout(PATIENCE)
        yield Shown(page, server.uri, results)
        browser.close()
        mlflow.set_tracking_uri(before)


def optimized(digits: Digits) -> tuple[aifsm.Result, ...]:
    """The model in integers by tensor and by channel, its verification data having a name that would like to be markup."""
    frozen = aifsm.freeze(digits.model, digits.example, aifsm.Onnx(dynamic_shapes="batch"), verified_model="digits_1")
    verification = aifsm.Verification(aifsm.Data(digits.images, name=HOSTILE), digits.labels)
    configs = (aifsm.Static(granularity="layer", ranges="entropy"), aifsm.Static(granularity="channel", ranges="max_abs"))
    return tuple(aifsm.quantize(frozen, digits.images[:64], config, verification=verification) for config in configs)


def test_the_page_of_a_run_says_what_it_is_and_runs_nothing_of_it(shown: Shown) -> None:
    first, _ = shown.results
    experiment = mlflow.get_run(first.run_id).info.experiment_id
    shown.open(f"experiments/{experiment}/runs/{first.run_id}")
    text = shown.page.get_by_text(f"Model Optimization Log {first.log_id}:")
    expect(text.first).to_be_visible(timeout=PATIENCE)
    expect(shown.page.get_by_text(f"samples of {HOSTILE}").first).to_be_attached()
    assert shown.page.evaluate("window.hacked") is None
    assert shown.page.locator("strong", has_text="Model Optimization Log").count() == 1


def test_the_compare_page_shows_the_params_that_differ_and_no_others(shown: Shown) -> None:
    ids = [result.run_id for result in shown.results]
    experiments = [mlflow.get_run(ids[0]).info.experiment_id]
    shown.open(compared(ids, experiments))
    shown.page.get_by_text("Show diff only").first.click(timeout=PATIENCE)
    for value in ("layerwise", "channelwise weights, layerwise activations", "entropy", "max_abs"):
        expect(shown.page.get_by_text(value, exact=True).first).to_be_visible()
    expect(shown.page.get_by_text("aifsm.ptq.framework", exact=True)).to_have_count(0)
    assert all(len(value) < 100 for run_id in ids for value in mlflow.get_run(run_id).data.params.values())


def compared(ids: list[str], experiments: list[str]) -> str:
    return f"compare-runs?runs={quote(json.dumps(ids))}&experiments={quote(json.dumps(experiments))}"


def test_the_compare_page_and_compare_agree_on_every_number(shown: Shown) -> None:
    ids = [result.run_id for result in shown.results]
    shown.open(compared(ids, [mlflow.get_run(ids[0]).info.experiment_id]))
    links = shown.page.locator("a[title='Plot chart']")
    expect(links.first).to_be_visible(timeout=PATIENCE)
    table = links.first.locator("xpath=ancestor::*[contains(., 'Show diff only')][1]")
    _, *cells = table.inner_text().split("\n")
    keys = [key.removeprefix("aifsm.") for key in links.all_inner_texts()]
    assert cells[: len(keys)] == [f"aifsm.{key}" for key in keys]
    values = [float(cell) for cell in cells[len(keys) :]]
    seen = {key: values[2 * row : 2 * row + 2] for row, key in enumerate(keys)}
    frame = aifsm.compare(*ids)
    assert len(seen) >= 10
    for key, pair in seen.items():
        if key in frame:
            assert pair == [pytest.approx(value, rel=2e-4, abs=5e-4) for value in frame[key]], (
                key
            )  # as many digits as the page shows
        else:
            assert pair[0] == pair[1] == pytest.approx(float(frame.attrs["same"][key].replace(",", "")), rel=5e-4, abs=5e-4)
    assert set(seen) >= {key for key in frame if f"{key}_delta" in frame}
