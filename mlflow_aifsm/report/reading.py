"""Blocks as they are read: spans in their order, and what stands between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mlflow_aifsm.report.blocks import Block, Figure, Heading, Items, Notice, Paragraph, Span, Table

CLOSING = frozenset({".", ",", ")", ")."})
"""Spans that stand close to the one before them."""


def joined(parts: Iterable[Span]) -> Iterator[tuple[str, Span]]:
    """Each span that is not empty with what stands before it: one space, or nothing at the start and before closing marks."""
    first = True
    for part in parts:
        if part.text:
            yield "" if first or part.text in CLOSING else " ", part
            first = False


def spans(block: Block) -> Iterator[Span]:
    """Every span of a block, in reading order."""
    match block:
        case Heading():
            yield block.title
        case Paragraph():
            yield from block.spans
        case Items() | Notice():
            for line in block.items if isinstance(block, Items) else block.lines:
                yield from line.spans
        case Figure():
            yield from (block.alt, block.caption)
        case Table():
            yield from (block.caption,) if block.caption else ()
            yield from block.columns
            for cell in (cell for row in block.rows for cell in row.cells):
                for part in cell.blocks:
                    yield from spans(part)
