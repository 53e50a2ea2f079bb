"""Running text as WordprocessingML (ECMA-376 part 1, clause 17), element by element: a string is only ever the text of one.

Nothing here needs a style, so text looks the same in a form of any organisation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from lxml import etree

from mlflow_aifsm.report.blocks import Badge, Mark, Notice, Paragraph, Role, Span, Tone
from mlflow_aifsm.report.reading import joined

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
SPACE = "{http://www.w3.org/XML/1998/namespace}space"

SOFT, LINE, TINT, DEEP = "566270", "D5DBE1", "F3F5F8", "1D3A57"
MARKS = {
    Mark.GOOD: ("0C5A3A", "E4F3EB"),
    Mark.KNOWN: ("12497E", "E5EEF8"),
    Mark.SAID: ("6A4A00", "FBF1D6"),
    Mark.NEUTRAL: ("47525E", "ECEFF2"),
    Mark.BAD: ("9D1C1C", "FDF0EF"),
}
"""Dark and light of each mark; the report's palette."""

MONO = "Consolas"
BODY, META, CELL, CELL_META, DENSE, DENSE_META = 19, 16, 17, 15, 14, 13
"""Heights of letters in half points: of running text, cells, cells among many columns, and of what stands back in each."""
CODE = 0.85
"""Height of code beside the text around it."""
INDENT = 150
"""Of a notice, so that its bar stands within the text, in twentieths of a point."""

Element: TypeAlias = etree._Element  # noqa: SLF001
"""What lxml calls an element; it has no public name."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Where blocks stand.

    Attributes:
        width: Width of the text in twentieths of a point.
        heading: Style id of a heading by its level.
        picture: A picture's run by its PNG, its words and its width in twentieths of a point.
        size: Height of letters in half points.
        meta: Height of letters of what stands back, in half points.
        after: Room under a paragraph in twentieths of a point.
    """

    width: int
    heading: Callable[[int], str]
    picture: Callable[[bytes, str, int], Element]
    size: int = BODY
    meta: int = META
    after: int = 120


def w(tag: str, *children: Element, **attributes: object) -> Element:
    """An element of WordprocessingML; its attributes are of the same vocabulary."""
    made = etree.Element(f"{{{W}}}{tag}", {f"{{{W}}}{name}": str(value) for name, value in attributes.items()}, {"w": W})
    made.extend(children)
    return made


def paragraph(block: Paragraph, frame: Frame, *layout: Element, indent: int = 0) -> Element:
    """A paragraph; ``layout`` are properties that stand before its spacing."""
    size = frame.meta if block.role is Role.META else frame.size
    properties = deepcopy(_spaced(80 if block.role is Role.ASIDE else 0, frame.after, indent))
    for place, element in enumerate(layout):
        properties.insert(place, element)
    return w("p", properties, *runs(block.spans, size))


# a document has thousands of runs and cells in a dozen kinds: a copy of an element costs a fifth of a new one


@cache
def _spaced(before: int, after: int, indent: int) -> Element:
    indented = [w("ind", left=indent)] if indent else []
    return w("pPr", w("spacing", before=before, after=after), *indented)


def notice(block: Notice, frame: Frame) -> Iterator[Element]:
    """The lines of a notice, one under the other as one box."""
    dark, light = MARKS[block.mark]
    for line in block.lines:
        border = w("pBdr", w("left", val="single", sz=24, space=6, color=dark))
        shade = w("shd", val="clear", color="auto", fill=light)
        yield paragraph(line, frame, w("keepLines"), border, shade, indent=INDENT)


def runs(parts: Iterable[Span], size: int) -> Iterator[Element]:
    """Spans with the spaces between them."""
    for space, part in joined(parts):
        if space:
            yield run(space, deepcopy(_toned(Tone.PLAIN, size)))
        yield _badge(part, size) if isinstance(part, Badge) else run(part.text, deepcopy(_toned(part.tone, size)))


def _badge(part: Badge, size: int) -> Element:
    # spaces that do not break keep the edge of the colour off the letters
    return run(f"\N{NO-BREAK SPACE}{part.text}\N{NO-BREAK SPACE}", deepcopy(_marked(part.mark, size)))


@cache
def _marked(mark: Mark, size: int) -> Element:
    dark, light = MARKS[mark]
    letters, paper = ("FFFFFF", dark) if mark is Mark.BAD else (dark, light)
    return w("rPr", w("b"), w("color", val=letters), *sized(size - 2), w("shd", val="clear", color="auto", fill=paper))


@cache
def _toned(tone: Tone, size: int) -> Element:
    match tone:
        case Tone.CODE:
            fonts = w("rFonts", ascii=MONO, hAnsi=MONO, cs=MONO)
            return w("rPr", fonts, w("noProof"), *sized(round(size * CODE)))
        case Tone.STRONG:
            return w("rPr", w("b"), *sized(size))
        case Tone.ALARM:
            return w("rPr", w("b"), w("color", val=MARKS[Mark.BAD][0]), *sized(size))
        case Tone.QUIET:
            return w("rPr", w("color", val=SOFT), *sized(size))
        case Tone.PLAIN:
            return w("rPr", *sized(size))


def sized(size: int) -> tuple[Element, Element]:
    """The height of letters, in Latin and in complex scripts."""
    return w("sz", val=size), w("szCs", val=size)


def run(text: str, properties: Element | None = None) -> Element:
    """A run: its line breaks and tabs are elements, all else is text."""
    made = w("r", *([properties] if properties is not None else []))
    for number, line in enumerate(text.split("\n")):
        made.extend([w("br")] if number else [])
        for place, part in enumerate(line.split("\t")):
            made.extend([w("tab")] if place else [])
            letters = w("t")
            letters.text = part
            letters.set(SPACE, "preserve")
            made.append(letters)
    return made
