"""Tables as WordprocessingML: headings that repeat on every page, rows that stay whole, widths that do not move."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache

from mlflow_aifsm.report.blocks import Cell, Notice, Paragraph, Role, Row, Table, Text, Tone
from mlflow_aifsm.report.docx_text import (
    CELL,
    CELL_META,
    DEEP,
    DENSE,
    DENSE_META,
    LINE,
    TINT,
    Element,
    Frame,
    notice,
    paragraph,
    w,
)
from mlflow_aifsm.report.reading import spans

MANY = 6
"""Columns beyond which a table is set in small letters."""

WHOLE = 1_500
"""Characters of a row that is not torn over two pages."""


def table(block: Table, frame: Frame) -> Iterator[Element]:
    """Caption, table, and the paragraph that keeps it from the next one."""
    if block.caption:
        yield paragraph(Paragraph((Text(block.caption.text, Tone.QUIET),)), frame, w("keepNext"))
    dense = len(block.columns) > MANY
    size, meta, room = (DENSE, DENSE_META, 50) if dense else (CELL, CELL_META, 90)
    inner = replace(frame, size=size, meta=meta, after=30)
    widths = [round(frame.width * width / sum(block.widths)) for width in block.widths]
    head = Row(tuple(Cell((Paragraph((Text(column.text, Tone.STRONG),)),)) for column in block.columns))
    name = block.caption.text if block.caption else block.columns[0].text
    yield w(
        "tbl",
        _properties(sum(widths), room, name),
        w("tblGrid", *(w("gridCol", w=width) for width in widths)),
        _row(head, widths, inner, header=True),
        *(_row(row, widths, inner) for row in block.rows),
    )
    yield w("p", w("pPr", w("spacing", before=0, after=frame.after)))


def _properties(width: int, room: int, name: str) -> Element:
    edge = {"val": "single", "space": 0}
    borders = (
        w("top", sz=10, color=DEEP, **edge),
        w("bottom", sz=10, color=DEEP, **edge),
        w("insideH", sz=4, color=LINE, **edge),
    )
    margins = (w("top", w=40, type="dxa"), w("left", w=room, type="dxa"), w("bottom", w=20, type="dxa"))
    return w(
        "tblPr",
        w("tblW", w=width, type="dxa"),
        w("tblBorders", *borders),
        w("tblLayout", type="fixed"),
        w("tblCellMar", *margins, w("right", w=room, type="dxa")),
        w("tblLook", val="04A0", firstRow=1, lastRow=0, firstColumn=1, lastColumn=0, noHBand=0, noVBand=1),
        w("tblCaption", val=name),
    )


def _row(row: Row, widths: Sequence[int], frame: Frame, *, header: bool = False) -> Element:
    length = sum(len(span.text) for cell in row.cells for part in cell.blocks for span in spans(part))
    properties = w("trPr", *([w("cantSplit")] if length <= WHOLE else []), *([w("tblHeader")] if header else []))
    if row.role is Role.GROUP:
        shade = (w("gridSpan", val=len(widths)), w("shd", val="clear", color="auto", fill=TINT))
        return w("tr", properties, _cell(_strong(row.cells[0]), sum(widths), frame, *shade, keep=True))
    first = _strong(row.cells[0]) if row.role is Role.HEAD else row.cells[0]
    cells = zip((first, *row.cells[1:]), widths, strict=True)
    return w("tr", properties, *(_cell(cell, width, frame, keep=header) for cell, width in cells))


def _strong(cell: Cell) -> Cell:
    """The plain words of a cell, set strong."""
    lines = (part for part in cell.blocks if isinstance(part, Paragraph))
    return Cell(tuple(replace(line, spans=tuple(Text(span.text, Tone.STRONG) for span in line.spans)) for line in lines))


@cache
def _wide(width: int) -> Element:
    return w("tcPr", w("tcW", w=width, type="dxa"))


def _cell(cell: Cell, width: int, frame: Frame, *properties: Element, keep: bool = False) -> Element:
    made = w("tc", deepcopy(_wide(width)))
    made[0].extend(properties)
    for part in cell.blocks:
        made.extend(
            notice(part, frame) if isinstance(part, Notice) else [paragraph(part, frame, *([w("keepNext")] if keep else []))]
        )
    if not cell.blocks:
        made.append(w("p"))
    return made
