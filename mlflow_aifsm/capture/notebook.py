"""An IPython session, in Jupyter or in a terminal: the cells that ran, and the notebook's file where its front end names it.

A notebook's file is not what ran: front ends save it when they like, and cells run in any order. So the cells are kept as they
ran, and it is said how the saved file differs from them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SESSION_NAMES = ("__vsc_ipynb_file__", "__session__")
"""Names in a session under which VS Code, and ipykernel for Jupyter's server, put the path of the notebook."""
VARIABLES = ("IPYNB_FILE", "__vsc_ipynb_file__", "JPY_SESSION_NAME")
"""Environment variables that hold it; the first is for whoever starts a kernel without a front end, MLflow reads it, too."""
SUFFIX = ".ipynb"


@dataclass(frozen=True, slots=True)
class Session:
    """What an IPython session holds at one moment; a cell's number is its place in the history, counted from 1.

    Attributes:
        is_notebook: Whether a kernel runs it, so that its cells are those of a notebook.
        path: The notebook's file; None where it has none, or nothing names it.
        ran: Each cell as Python ran it, magics written out; the first place is IPython's empty one.
        typed: Each cell as it was typed.
    """

    is_notebook: bool
    path: Path | None
    ran: tuple[str, ...]
    typed: tuple[str, ...]

    @property
    def number(self) -> int:
        """Number of the cell that runs now, as Jupyter prints it beside the cell; 0 before the first."""
        return max(len(self.ran) - 1, 0)

    @property
    def cells(self) -> bytes:
        """The cells that ran, in their order, as UTF-8."""
        numbered = [f"# In [{number}]\n{cell}\n" for number, cell in enumerate(self.ran) if cell]
        return "\n".join(numbered).encode("utf-8", "backslashreplace")

    def compared(self, content: bytes, name: str) -> tuple[bool, str]:
        """Whether cells ran that the saved notebook does not hold, and how both differ, in one sentence.

        Args:
            content: The bytes of its file.
            name: What the file is called.
        """
        saved, ran = _code_cells(content), [cell.strip() for cell in self.typed if cell.strip()]
        if saved is None:
            return True, f"{name} cannot be read as a notebook; cells.py holds the cells that ran"
        missing = sum(cell not in saved for cell in ran)
        if missing:
            return (
                True,
                f"{missing} of {len(ran)} cells that ran are not in {name} as it was last saved; cells.py holds them all",
            )
        if ran != saved[: len(ran)]:
            return False, f"the cells did not run one after the other as they stand in {name}; cells.py holds them as they ran"
        return False, f"the cells ran one after the other as they stand in {name}, up to cell {self.number}"


def session() -> Session | None:
    """The IPython session of this process; None where there is none."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None:
        return None
    history, kernel = shell.history_manager, getattr(shell, "kernel", None) is not None
    path = _notebook(shell.user_ns) if kernel else None
    ran, typed = (history.input_hist_parsed, history.input_hist_raw) if history is not None else ((), ())
    return Session(kernel, path, tuple(ran), tuple(typed))


def _notebook(names: dict[str, Any]) -> Path | None:
    """The first file that is there; of a path on the server's side the name, in the working folder of the kernel."""
    for given in _named(names):
        for path in (Path(given), Path(Path(given).name)):
            if path.suffix == SUFFIX and path.is_file():
                return path
    return None


def _named(names: dict[str, Any]) -> Iterator[str]:
    found = (*(names.get(name) for name in SESSION_NAMES), *(os.environ.get(name) for name in VARIABLES))
    return (given for given in found if isinstance(given, str) and given)


def _code_cells(content: bytes) -> Sequence[str] | None:
    """Code of a notebook's cells in order (nbformat 4), those without any left out; None for what is no notebook."""
    try:
        cells = [cell for cell in json.loads(content)["cells"] if cell["cell_type"] == "code"]
        code = ["".join(cell["source"]).strip() for cell in cells]
    except (ValueError, KeyError, TypeError):
        return None
    return [cell for cell in code if cell]
