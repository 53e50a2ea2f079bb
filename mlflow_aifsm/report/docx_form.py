"""The form that a DOCX is written on where an organisation has none of its own; as a file, the point to start one from."""

from __future__ import annotations

from functools import cache
from io import BytesIO

import docx
from docx.document import Document
from docx.enum.text import WD_TAB_ALIGNMENT
from docx.shared import Mm, Pt, RGBColor
from docx.styles.style import ParagraphStyle
from docx.text.paragraph import Paragraph

from mlflow_aifsm.report.docx_text import DEEP, SOFT, Element, W, run, w

FONT = "Arial"
NAME, VALUE, WORD = f"{{{W}}}name", f"{{{W}}}val", "15"
"""Attributes of a setting, and the layout of Word 2013 and later."""
HEADINGS = {"Title": 28, "Heading 1": 15, "Heading 2": 11.5, "Heading 3": 10}
"""Heights in points."""

COVER = (
    ("{{ logo }}", 11, DEEP, 6),
    ("{{ organisation }} · {{ project }}", 11, DEEP, 90),
    ("{{ title }}", None, DEEP, 6),
    ("{{ subject }}", 14, SOFT, 40),
    ("{{ status }}", 17, DEEP, 4),
    ("{{p status_box }}", None, DEEP, 0),
    ("{{p particulars }}", None, DEEP, 0),
    ("{{p contents }}", None, DEEP, 0),
)
"""Lines of the first page: text, height of letters in points, colour, room below in points."""


@cache
def form() -> bytes:
    """The form as DOCX; placeholders in double braces, ``{{p … }}`` for what takes paragraphs of its own."""
    made = docx.Document()
    _paper(made)
    _styles(made)
    for text, size, color, after in COVER:
        style = "Title" if text == "{{ title }}" else "Normal"
        _line(made.add_paragraph(style=style), text, size, color).paragraph_format.space_after = Pt(after)
    made.add_paragraph("{{p body }}")
    _edges(made)
    _modern(made)
    content = BytesIO()
    made.save(content)
    return content.getvalue()


def _line(paragraph: Paragraph, text: str, size: float | None, color: str) -> Paragraph:
    letters = paragraph.add_run(text).font
    letters.color.rgb = RGBColor.from_string(color)
    letters.size = Pt(size) if size else None
    return paragraph


def _paper(made: Document) -> None:
    section = made.sections[0]
    section.page_width, section.page_height = Mm(210), Mm(297)
    section.left_margin = section.right_margin = Mm(18)
    section.top_margin, section.bottom_margin = Mm(24), Mm(21)
    section.header_distance = section.footer_distance = Mm(11)
    section.different_first_page_header_footer = True


def _styles(made: Document) -> None:
    for name, size in {"Normal": 9.5, **HEADINGS}.items():
        style = made.styles[name]
        if isinstance(style, ParagraphStyle):
            style.font.name, style.font.size = FONT, Pt(size)
            fonts = style.element.rPr.rFonts
            for theme in [key for key in fonts.attrib if key.endswith("Theme")]:
                del fonts.attrib[theme]
        if name in HEADINGS and isinstance(style, ParagraphStyle):
            style.font.color.rgb, style.font.bold = RGBColor.from_string(DEEP), True
            style.paragraph_format.space_before = Pt(0 if name == "Title" else 14)
            style.paragraph_format.space_after = Pt(5)
            style.paragraph_format.keep_with_next = True
    border = made.styles["Title"].element.pPr.find(w("pBdr").tag)
    if border is not None:
        border.getparent().remove(border)


def _edges(made: Document) -> None:
    """Header and footer of every page; the first has the footer alone."""
    section, style = made.sections[0], made.styles["Footer"]
    if isinstance(style, ParagraphStyle):
        style.paragraph_format.tab_stops.clear_all()
        style.paragraph_format.tab_stops.add_tab_stop(Mm(174), WD_TAB_ALIGNMENT.RIGHT)
    _line(section.header.paragraphs[0], "{{ header }}", 8, SOFT)
    for footer in (section.footer, section.first_page_footer):
        paragraph = _line(footer.paragraphs[0], "{{ footer }}\tpage ", 6.5, SOFT)
        paragraph._p.extend([_field("PAGE"), run(" of ", _small()), _field("NUMPAGES")])  # noqa: SLF001


def _field(name: str) -> Element:
    return w("fldSimple", run("1", _small()), instr=f" {name} ")


def _small() -> Element:
    return w("rPr", w("color", val=SOFT), w("sz", val=13), w("szCs", val=13))


def _modern(made: Document) -> None:
    """Without what the library's own blank page has left over: its picture, and the layout of an older Word."""
    links = made.part.package.rels
    for key in [key for key, link in links.items() if link.reltype.endswith("/thumbnail")]:
        del links[key]
    for mode in made.settings.element.iter(w("compatSetting").tag):
        if mode.get(NAME) == "compatibilityMode":
            mode.set(VALUE, WORD)
