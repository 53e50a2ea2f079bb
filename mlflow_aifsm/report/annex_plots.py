"""Annex B: plots of the tables beside the record."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow_aifsm.record import Evidence
from mlflow_aifsm.report.blocks import Block, Figure, Heading, Text
from mlflow_aifsm.report.plots import FOLDER, plots


def figures(evidence: Evidence) -> Iterable[Block]:
    """A heading and the plots; nothing where the tables hold nothing to draw."""
    drawn = plots(evidence.tables)
    if drawn:
        yield Heading(2, "", Text("Plots"))
    for name, plot in drawn.items():
        yield Figure(f"{FOLDER}{name}", plot.svg, Text(plot.alt), Text(plot.caption), plot.png)
