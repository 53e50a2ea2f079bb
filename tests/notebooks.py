"""Notebooks run by a real kernel, as Jupyter runs them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests.conftest import REPOSITORY


def written(cells: Sequence[str], path: Path) -> NotebookNode:
    """A notebook of these code cells, saved as ``path``."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, path)
    return notebook


def ran(notebook: NotebookNode, folder: Path, **variables: str) -> NotebookNode:
    """``notebook`` with its outputs, run in ``folder`` with these environment variables; a cell that raises raises here."""
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_AIFSM_")}
    surroundings |= {"PYTHONPATH": str(REPOSITORY), "IPYTHONDIR": str(folder / ".ipython"), **variables}
    waits = {"timeout": 300, "startup_timeout": 300}
    client = NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(folder)}}, **waits)
    client.km = client.create_kernel_manager()
    client.km.kernel_spec.argv[0] = sys.executable  # whatever kernels the machine has, that of the tests
    return client.execute(env=surroundings)


def printed(notebook: NotebookNode, cell: int) -> str:
    """What the code cell printed to standard output; counted from 0, from the end if negative."""
    code = [one for one in notebook.cells if one.cell_type == "code"]
    return "".join(output.text for output in code[cell].outputs if output.get("name") == "stdout")
