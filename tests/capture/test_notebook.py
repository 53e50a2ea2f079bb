"""The code that ran in a notebook: its file where a front end names it, the cells that ran, and how both differ."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlflow_aifsm.capture.notebook import Session
from mlflow_aifsm.digests import sha256_bytes
from tests.conftest import REPOSITORY
from tests.notebooks import printed, ran, written

IMPORTS = "import json\nfrom mlflow_aifsm.capture.source_code import source_code"
SHOW = (
    "found = source_code()\n"
    "names = ('kind', 'name', 'cell', 'differs', 'sha256', 'notes', 'text')\n"
    "files = {name: content.decode() for name, content in found.files().items()}\n"
    "print(json.dumps({**{name: getattr(found, name) for name in names}, 'files': files}))"
)
CELLS = (IMPORTS, "%env STAGE=1", SHOW)


def found_by(folder: Path, *cells: str, saved: tuple[str, ...] = CELLS, **variables: str) -> dict[str, Any]:
    """What the last of ``cells`` prints, where ``study.ipynb`` holds the ``saved`` ones."""
    written(saved, folder / "study.ipynb")
    done = ran(written(cells or saved, folder / "ran.json"), folder, GIT_CEILING_DIRECTORIES=str(folder.parent), **variables)
    result: dict[str, Any] = json.loads(printed(done, -1))
    return result


def test_a_notebook_is_recorded_as_saved_and_as_it_ran(tmp_path: Path) -> None:
    found = found_by(tmp_path, IPYNB_FILE=str(tmp_path / "study.ipynb"))
    content = (tmp_path / "study.ipynb").read_bytes()
    digest = sha256_bytes(content)
    assert (found["kind"], found["name"], found["cell"], found["differs"]) == ("notebook", "study.ipynb", 3, False)
    assert found["text"] == f"study.ipynb, cell [3] (sha256 {digest[:12]}…, no commit)"
    assert found["notes"][0] == "the cells ran one after the other as they stand in study.ipynb, up to cell 3"
    assert found["files"]["source/study.ipynb"] == content.decode()
    assert found["files"]["source/cells.py"].startswith(f"# In [1]\n{IMPORTS}\n\n# In [2]\nget_ipython().run_line_magic(")
    assert str(tmp_path) not in json.dumps(found)


@pytest.mark.parametrize("folder", ["", "/on/the/server/"])
def test_jupyters_server_names_the_notebook_by_its_session(tmp_path: Path, folder: str) -> None:
    path = f"{folder or tmp_path}/study.ipynb"
    assert found_by(tmp_path, JPY_SESSION_NAME=path)["name"] == "study.ipynb"


def test_vs_code_names_the_notebook_in_the_session(tmp_path: Path) -> None:
    found = found_by(tmp_path, IMPORTS, f"__vsc_ipynb_file__ = {str(tmp_path / 'study.ipynb')!r}\n{SHOW}")
    assert found["name"] == "study.ipynb"
    assert found["differs"] is True


def test_cells_that_are_not_saved_are_counted(tmp_path: Path) -> None:
    found = found_by(tmp_path, IMPORTS, "epsilon = 1.0", SHOW, IPYNB_FILE="study.ipynb")
    assert found["differs"] is True
    assert found["notes"][0] == "1 of 3 cells that ran are not in study.ipynb as it was last saved; cells.py holds them all"
    assert "# In [2]\nepsilon = 1.0\n" in found["files"]["source/cells.py"]


def test_cells_that_ran_in_another_order_are_said(tmp_path: Path) -> None:
    found = found_by(tmp_path, *CELLS[1::-1], SHOW, IPYNB_FILE="study.ipynb")
    words = "the cells did not run one after the other as they stand in study.ipynb; cells.py holds them as they ran"
    assert (found["differs"], found["notes"][0]) == (False, words)


def test_a_notebook_that_nothing_names_says_so(tmp_path: Path) -> None:
    found = found_by(tmp_path, JPY_SESSION_NAME=str(tmp_path / "renamed.ipynb"))
    digest = sha256_bytes(found["files"]["source/cells.py"].encode())
    assert found["text"] == f"notebook, path not known, cell [3] (sha256 {digest[:12]}…, no commit)"
    assert found["notes"][0] == "the notebook's file is not known: cells.py holds the cells that ran"
    assert found["sha256"] == digest


def test_a_file_that_is_no_notebook_is_not_taken_for_one() -> None:
    typed = Session(is_notebook=True, path=None, ran=("", "x = 1"), typed=("", "x = 1"))
    for content in (b"", b"\xff", b"[]", b'{"cells": [{"cell_type": "code"}]}'):
        assert typed.compared(content, "odd.ipynb") == (
            True,
            "odd.ipynb cannot be read as a notebook; cells.py holds the cells that ran",
        )


def test_what_is_typed_in_a_terminal_is_kept(tmp_path: Path) -> None:
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\nshell = InteractiveShell.instance()\n"
        f"for cell in {(IMPORTS, SHOW)!r}:\n    shell.run_cell(cell, store_history=True)\n"
    )
    surroundings = {**os.environ, "PYTHONPATH": str(REPOSITORY), "IPYTHONDIR": str(tmp_path / ".ipython")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=surroundings)
    found = json.loads(done.stdout)
    assert (found["kind"], found["name"], found["cell"]) == ("interactive session", "", None)
    assert found["notes"][0] == "the code was typed: cells.py holds the input history"
    assert found["files"]["source/cells.py"] == f"# In [1]\n{IMPORTS}\n\n# In [2]\n{SHOW}\n"
