"""Blocks into PDF/A-2a that is PDF/UA-1 as well, by typst: tagged, fonts embedded, nothing taken from the host.

The words of a document reach typst as JSON, so none of them is ever read as markup.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path

import matplotlib as mpl
import typst

from mlflow_aifsm.errors import AifsmError
from mlflow_aifsm.record import Evidence
from mlflow_aifsm.report.blocks import Document
from mlflow_aifsm.report.document import document
from mlflow_aifsm.report.look import PLAIN, Look
from mlflow_aifsm.report.pdf_data import data

STANDARDS: list[typst.PDFStandard] = ["a-2a", "ua-1"]
"""ISO 19005-2 level A, to be kept; ISO 14289-1, to be read aloud. typst refuses a document that does not hold to them."""


def write(evidence: Evidence) -> bytes:
    """The report of ``evidence`` as PDF; same evidence, same bytes.

    Raises:
        AifsmError: If typst refuses.
    """
    return render(document(evidence))


def render(made: Document, look: Look = PLAIN) -> bytes:  # noqa: ARG001
    """A document as PDF; its logo is among its blocks.

    Raises:
        AifsmError: If typst refuses.
    """
    source = (resources.files("mlflow_aifsm.report") / "pdf.typ").read_bytes()
    words = {"document": json.dumps(data(made))}
    try:
        return bytes(typst.compile(source, font_paths=_fonts(), sys_inputs=words, pdf_standards=STANDARDS))
    except typst.TypstError as error:
        raise AifsmError("the PDF cannot be made", got=error.message) from error


@cache
def _fonts() -> typst.Fonts:
    """The fonts of the typst wheel, and behind them those that come with matplotlib; none of the host's."""
    beside = Path(mpl.get_data_path()) / "fonts" / "ttf"
    return typst.Fonts(include_system_fonts=False, include_embedded_fonts=True, font_paths=[str(beside)])
