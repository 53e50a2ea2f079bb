"""Blocks as the JSON that ``pdf.typ`` sets: words cut where a line may break, characters that no font has spelled out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import matplotlib as mpl
from matplotlib.ft2font import FT2Font

from mlflow_aifsm.facts import Json
from mlflow_aifsm.report.blocks import (
    Badge,
    Block,
    Cell,
    Cover,
    Document,
    Figure,
    Heading,
    Items,
    Notice,
    Paragraph,
    Row,
    Span,
    Table,
)
from mlflow_aifsm.report.plot_canvas import FAMILY, MEASURED
from mlflow_aifsm.report.reading import joined, spans
from mlflow_aifsm.report.words import moment

LONG = 14
"""Letters of a word that may be broken after its separators."""
LONGER = 24
"""Letters of a part of a word that is broken anywhere."""
BROKEN = 8
"""Letters of the pieces that it is broken into."""
PARTS = re.compile(r"[^/._:,;=\\-]*[/._:,;=\\-]+|[^/._:,;=\\-]+")
"""Parts of a long word, each with the separators that end it."""
WORDS = re.compile(rf"\S{{{LONG},}}")

WHOLE = 1_500
"""Characters of a table's row that is not torn over two pages."""


def data(made: Document) -> Json:
    """A document as plain data."""
    return {
        "title": shown(made.title.text),
        "author": shown(made.author),
        "made_at": list(moment(made.made_at).timetuple()[:6]),
        "header": _span(made.header),
        "footer": _span(made.footer),
        "cover": _cover(made.cover),
        "contents": made.contents,
        "blocks": [_block(block) for block in made.blocks],
    }


def shown(text: str) -> str:
    """``text`` with every character that has no glyph spelled as an escape: PDF/A wants one for each."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _has_glyph(char) else char.encode("unicode_escape").decode("ascii") for char in text)


def _has_glyph(char: str) -> bool:
    return char in "\n\t" or (ord(char) in _glyphs() and unicodedata.category(char) != "Co")


@cache
def _glyphs() -> frozenset[int]:
    """The characters of the font behind all others; those of the private use area are nobody's."""
    font = FT2Font(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"))
    return frozenset(font.get_charmap())


def pieces(text: str) -> list[list[str]]:
    """The lines of ``text``, each in pieces between which it may break without a sign."""
    return [[piece for part in _apart(line) for piece in _cut(part)] for line in shown(text).replace("\t", " ").split("\n")]


def _apart(line: str) -> Iterable[str]:
    """Running text and long words' parts, in order."""
    end = 0
    for word in WORDS.finditer(line):
        yield line[end : word.start()]
        yield from PARTS.findall(word.group())
        end = word.end()
    yield line[end:]


def _cut(part: str) -> list[str]:
    if len(part) <= LONGER or " " in part:
        return [part] if part else []
    return [part[place : place + BROKEN] for place in range(0, len(part), BROKEN)]


def _span(span: Span) -> dict[str, Json]:
    tone = {"mark": span.mark} if isinstance(span, Badge) else {"tone": span.tone}
    return {"kind": span.kind, "lines": pieces(span.text), **tone}


def _run(parts: Iterable[Span]) -> list[Json]:
    return [{"space": bool(space), **_span(span)} for space, span in joined(parts)]


def _paragraph(paragraph: Paragraph) -> Json:
    return {"kind": paragraph.kind, "role": paragraph.role, "spans": _run(paragraph.spans)}


def _notice(notice: Notice) -> Json:
    return {"kind": notice.kind, "mark": notice.mark, "lines": [_paragraph(line) for line in notice.lines]}


def _block(block: Block) -> Json:
    match block:
        case Heading():
            more = {"level": block.level, "number": block.number, "title": _span(block.title), "new_page": block.new_page}
            return {"kind": block.kind, **more}
        case Paragraph():
            return _paragraph(block)
        case Notice():
            return _notice(block)
        case Items():
            return {"kind": block.kind, "items": [_paragraph(item) for item in block.items]}
        case Figure():
            return _figure(block)
        case Table():
            return _table(block)


def _figure(figure: Figure) -> Json:
    # the plot was laid out by this font, and the page has no other of its names
    svg = figure.svg.replace(FAMILY, f"'{MEASURED}'")
    drawn = "".join(char if _has_glyph(char) else "\N{REPLACEMENT CHARACTER}" for char in svg)
    return {"kind": figure.kind, "svg": drawn, "alt": shown(figure.alt.text), "caption": _span(figure.caption)}


def _table(table: Table) -> Json:
    return {
        "kind": table.kind,
        "caption": _span(table.caption) if table.caption else None,
        "columns": [_span(column) for column in table.columns],
        "widths": table.widths,
        "rows": [_row(row) for row in table.rows],
    }


def _row(row: Row) -> Json:
    parts = [part for cell in row.cells for part in cell.blocks]
    whole = sum(len(span.text) for part in parts for span in spans(part)) <= WHOLE
    return {"role": row.role, "whole": whole, "cells": [_cell(cell) for cell in row.cells]}


def _cell(cell: Cell) -> Json:
    return [_notice(part) if isinstance(part, Notice) else _paragraph(part) for part in cell.blocks]


def _cover(cover: Cover) -> Json:
    return {
        "logo": list(cover.logo.content) if cover.logo else [],
        "organisation": _span(cover.organisation),
        "project": _span(cover.project),
        "title": _span(cover.title),
        "subject": _span(cover.subject),
        "status": _span(Badge(cover.status.text[:1].upper() + cover.status.text[1:], cover.status.mark)),
        "meaning": _span(cover.meaning),
        "state": [_span(part) for part in cover.state],
        "notices": [_notice(notice) for notice in cover.notices],
        "pairs": [[_span(name), _span(value)] for name, value in cover.pairs],
    }
