"""Blocks as paragraphs and tables of a form: its own headings where it has them, its own width."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from itertools import count, zip_longest

from docx.document import Document
from docx.enum.style import WD_STYLE_TYPE
from docx.oxml.ns import qn
from docx.shared import Length, Twips

from mlflow_aifsm.report.blocks import LISTED, Block, Figure, Heading, Items, Notice, Paragraph, Role, Table, Text, Tone
from mlflow_aifsm.report.docx_table import table
from mlflow_aifsm.report.docx_text import Element, Frame, notice, paragraph, run, runs, w

INDENT = 284
"""Of a list's item, in twentieths of a point: 5 mm."""
FIRST = 5_000
"""Number of the first picture: docxtpl counts those of the form from 1,001, and no two may be the same."""
TOGETHER = 12
"""Items of a list that is not torn over two pages."""


def frame(form: Document) -> Frame:
    """The width of the last section of ``form``, its headings and its pictures."""
    section = form.sections[-1]
    edges = (section.left_margin or 0) + (section.right_margin or 0)
    width = Length((section.page_width or 0) - edges)
    numbers = count(FIRST)
    return Frame(
        width.twips, lambda level: _heading_style(form, level), lambda *picture: _picture(form, next(numbers), *picture)
    )


def _heading_style(form: Document, level: int) -> str:
    """The style of that name, by which Word knows a heading; a form that has none gets it."""
    name = f"Heading {level}"
    if name not in form.styles:
        made = form.styles.add_style(name, WD_STYLE_TYPE.PARAGRAPH, builtin=True)
        made.font.bold = True
        made.element.get_or_add_pPr().append(w("outlineLvl", val=level - 1))
    return str(form.styles[name].style_id)


def _picture(form: Document, number: int, png: bytes, alt: str, width: int) -> Element:
    inline = form.part.new_pic_inline(BytesIO(png), Twips(width))
    inline.docPr.set("id", str(number))
    inline.docPr.set("descr", alt)
    return w("r", w("drawing", inline))


def elements(blocks: Iterable[Block], where: Frame) -> Iterator[Element]:
    """Each block as the paragraphs and tables it is; the line that leads a list in stays on its page."""
    every = tuple(blocks)
    for block, following in zip_longest(every, every[1:]):
        if isinstance(block, Paragraph) and isinstance(following, Items):
            yield paragraph(block, where, w("keepNext"))
        else:
            yield from _block(block, where)


def contents(headings: Iterable[Heading], where: Frame) -> Iterator[Element]:
    """A table of contents (ECMA-376 part 1, 17.16.5.68) as it reads before Word counts its pages."""
    if not (shown := tuple(headings)):
        return
    title = Paragraph((Text("Contents", Tone.STRONG),))
    yield paragraph(title, where, w("keepNext"), w("pageBreakBefore"))
    lines = [(heading.level, " ".join(filter(None, (heading.number, heading.title.text)))) for heading in shown]
    for place, (level, text) in enumerate(lines):
        made = w("p", w("pPr", w("spacing", before=0, after=40), w("ind", left=INDENT * (level - 1))))
        made.extend(_begun() if place == 0 else [])
        made.append(run(text))
        made.extend([w("r", w("fldChar", fldCharType="end"))] if place == len(lines) - 1 else [])
        yield made


def _begun() -> tuple[Element, ...]:
    instruction = w("instrText")
    instruction.text = f' TOC \\o "1-{LISTED}" \\h \\z \\u '
    kinds = (w("fldChar", fldCharType="begin"), instruction, w("fldChar", fldCharType="separate"))
    return tuple(w("r", kind) for kind in kinds)


def _block(block: Block, where: Frame) -> Iterator[Element]:
    match block:
        case Heading():
            yield _heading(block, where)
        case Paragraph():
            yield paragraph(block, where)
        case Items():
            last = len(block.items) - 1
            yield from (_item(item, where, keep=place < last <= TOGETHER) for place, item in enumerate(block.items))
        case Notice():
            yield from notice(block, where)
        case Figure():
            yield w("p", w("pPr", w("keepNext")), where.picture(block.png(), block.alt.text, where.width))
            yield paragraph(Paragraph((Text(block.caption.text, Tone.QUIET),), Role.META), where)
        case Table():
            yield from table(block, where)


def _heading(block: Heading, where: Frame) -> Element:
    properties = w("pPr", w("pStyle", val=where.heading(block.level)))
    properties.extend([w("pageBreakBefore")] if block.new_page else [])
    return w("p", properties, run(" ".join(filter(None, (block.number, block.title.text)))))


def _item(block: Paragraph, where: Frame, *, keep: bool) -> Element:
    kept = [w("keepNext")] if keep else []
    layout = (*kept, w("tabs", w("tab", val="left", pos=INDENT)), w("spacing", before=0, after=40))
    properties = w("pPr", *layout, w("ind", left=INDENT, hanging=INDENT))
    return w("p", properties, run("•\t"), *runs(block.spans, where.size))


def marks(form: Document) -> dict[str, list[Element]]:
    """The paragraphs that hold a bookmark, by its name; found once, before the document becomes long."""
    found: dict[str, list[Element]] = {}
    for bookmark in form.element.body.iter(qn("w:bookmarkStart")):
        found.setdefault(str(bookmark.get(qn("w:name"))), []).append(bookmark.getparent())
    return found


def put(places: Sequence[Element], made: Iterable[Element]) -> None:
    """Puts elements in the first of ``places``, and takes all of these paragraphs out."""
    for holder in places[:1]:
        for element in made:
            holder.addprevious(element)
    for holder in places:
        _remove(holder)


def _remove(holder: Element) -> None:
    outer = holder.getparent()
    # a cell ends with a paragraph, or Word calls the file damaged
    last = outer.tag == qn("w:tc") and (holder.getprevious() is None or holder.getprevious().tag != qn("w:p"))
    if last and holder.getnext() is None:
        holder.clear()
    else:
        outer.remove(holder)
