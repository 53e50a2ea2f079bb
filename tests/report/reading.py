"""The words of blocks, as tests compare them."""

from __future__ import annotations

from mlflow_aifsm.report.blocks import Block, Table
from mlflow_aifsm.report.reading import spans


def text(*blocks: Block) -> str:
    """All words of ``blocks``, one span a line."""
    return "\n".join(span.text for block in blocks for span in spans(block))


def tables(*blocks: Block) -> list[list[str]]:
    """Every row of every table as one list of its cells' words."""
    rows = [row for block in blocks if isinstance(block, Table) for row in block.rows]
    return [[" ".join(span.text for part in cell.blocks for span in spans(part)) for cell in row.cells] for row in rows]
