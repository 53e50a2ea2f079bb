"""Functions of other packages, whose rows an installed distribution adds by an entry point."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

import mlflow_aifsm as aifsm
from mlflow_aifsm.errors import ConfigError
from tests.autolog.recorded import recording, the_log

pytestmark = pytest.mark.usefixtures("experiment")

LIBRARY = """
def shrink(model, by=2, api_key=None):
    return f"{model} by {by}"
"""
ROWS = """
from mlflow_aifsm.autologging.table import Row

def recorded(log, call):
    yield
    log.called(call.function, *call.settings(()))
    log.note(f"shrunk to {call.result}")

ROWS = [Row("shrinker", "shrink", "optimization", "shrinker_aifsm:recorded")]
WRONG = "no row"
"""


@pytest.fixture
def shrinker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A distribution with a library and its rows, as an installer would leave it on the path."""
    site = tmp_path / "site"
    info = site / "shrinker-1.2.dist-info"
    info.mkdir(parents=True)
    (site / "shrinker.py").write_text(LIBRARY)
    (site / "shrinker_aifsm.py").write_text(ROWS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shrinker\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[mlflow_aifsm.autolog]\nshrinker = shrinker_aifsm:ROWS\n")
    monkeypatch.syspath_prepend(site)
    yield info
    for name in ("shrinker", "shrinker_aifsm"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("shrinker")
def test_a_function_of_another_package_is_recorded() -> None:
    with recording(), mlflow.start_run() as run:
        library = importlib.import_module("shrinker")
        assert library.shrink("net", by=3) == "net by 3"
    record = the_log(run.info.run_id)
    assert record.entries["aifsm.ptq.additional"].value.text.startswith("shrinker.shrink(model='net', by=3)")
    assert "shrunk to net by 3" in record.notes
    assert not hasattr(library.shrink, "__wrapped__")


@pytest.mark.usefixtures("shrinker")
def test_a_secret_that_a_function_takes_is_not_recorded() -> None:
    with recording(), mlflow.start_run() as run:
        importlib.import_module("shrinker").shrink("net", api_key="abc")
    told = the_log(run.info.run_id).entries["aifsm.ptq.additional"].value
    assert told.text.startswith("shrinker.shrink(model='net', api_key='***')")
    assert told.data["arguments"] == {"model": "net", "by": 2, "api_key": "***"}


def test_a_package_may_switch_it_on_while_its_rows_are_imported(shrinker: Path) -> None:
    rows = shrinker.with_name("shrinker_aifsm.py")
    rows.write_text(f"{rows.read_text()}\nimport mlflow_aifsm\nmlflow_aifsm.autolog(strict=True)\n")
    with recording(), mlflow.start_run() as run:
        importlib.import_module("shrinker").shrink("net")
    assert "shrunk to net by 2" in the_log(run.info.run_id).notes


def test_an_entry_point_without_rows_is_a_warning_and_raises_where_that_is_wanted(
    shrinker: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (shrinker / "entry_points.txt").write_text("[mlflow_aifsm.autolog]\nshrinker = shrinker_aifsm:WRONG\n")
    with recording(strict=False), caplog.at_level(logging.WARNING):
        assert "entry point shrinker" in caplog.text
        assert "expected a Row" in caplog.text
    with pytest.raises(ConfigError, match="expected a Row"):
        aifsm.autolog(strict=True)
    aifsm.autolog(disable=True)
