"""The guide's code and commands run as they stand, and its words on columns, limits and tags are those of the package."""

from __future__ import annotations

import re
import shlex

import mlflow

import mlflow_aifsm as aifsm
from mlflow_aifsm.comparison.comparable import QUALITIES
from mlflow_aifsm.report import comparison_document, comparison_terminal
from mlflow_aifsm.tracking import search
from tests.command import command
from tests.comparison.conftest import Logged
from tests.conftest import REPOSITORY

GUIDE = (REPOSITORY / "docs" / "compare.md").read_text("utf-8")


def test_each_example_of_the_guide_runs(logged: Logged) -> None:
    names: dict[str, object] = {"aifsm": aifsm}
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "compare.md", "exec"), names)
    assert len(names["best"]) >= 1
    assert list(names["logs"]["run_id"]) == [logged.layerwise.run_id, logged.dynamic.run_id]
    assert list(names["smallest"]["run_id"]) == [logged.dynamic.run_id]


def test_each_command_of_the_guide_succeeds(logged: Logged) -> None:
    (block,) = re.findall(r"^```bash\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    lines = [line.partition(" | ")[0] for line in block.splitlines()]
    assert len(lines) == 5
    for line in lines:
        done = command(*shlex.split(line, comments=True)[1:])
        assert (done.code, done.err) == (0, ""), line
        assert done.out


def test_the_guide_names_what_ranks_and_how_many_rows_are_shown() -> None:
    row = next(line for line in GUIDE.splitlines() if line.startswith("| quality |"))
    assert tuple(re.findall(r"`(\w+)`", row)) == QUALITIES
    assert f"A terminal shows {comparison_terminal.ROWS} rows and a document {comparison_document.ROWS}" in GUIDE
    assert f"fetched {search.PAGE:,} at a time" in GUIDE


def test_each_tag_that_the_guide_names_is_on_a_run(logged: Logged) -> None:
    named = re.findall(r"`\.(\w+)`", GUIDE.partition("All of this is in tags")[2].partition("\n\n")[0])
    tags = mlflow.get_run(logged.dynamic.run_id).data.tags
    assert len(named) == 6
    assert [name for name in ("data", *named) if f"aifsm.optimization.{name}" not in tags] == []
