"""Blocks into Markdown that renders on GitHub and reads well in a diff; all of it escaped, no image, no remote link."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from mlflow_aifsm.record import Evidence
from mlflow_aifsm.report.blocks import (
    LISTED,
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
    Role,
    Row,
    Span,
    Table,
    Text,
    Tone,
)
from mlflow_aifsm.report.document import document
from mlflow_aifsm.report.look import PLAIN, Look
from mlflow_aifsm.report.reading import joined

MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
"""Characters that begin markup anywhere; an underscore inside a word does not."""
AUTOLINK = re.compile(r"(?<=@)(?=\w)|(?<=#)(?=\d)|(?<=:)(?=//)|(?<=www)(?=\.)|(?<=\bGH)(?=-\d)", re.IGNORECASE)
"""Places where GitHub would make a mention, a reference or a link of plain text; an empty comment there stops it."""
LINE_START = re.compile(r"^([#+=>-]|\d+(?=[.)]))")
"""What would make a heading, list or quotation of a paragraph that begins with it."""
NOT_IN_PLACES = re.compile(r"[^\w\- ]")
"""What GitHub leaves out of the name of a heading's place."""
CONTENTS = "Contents"
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def write(evidence: Evidence) -> bytes:
    """The report of ``evidence`` as UTF-8 Markdown; same evidence, same bytes."""
    return render(document(evidence))


def render(made: Document, look: Look = PLAIN) -> bytes:  # noqa: ARG001
    """A document as UTF-8 Markdown, which shows no logo."""
    parts = [
        *_cover(made.cover),
        *_contents(made),
        *(_block(block) for block in made.blocks),
        "---",
        _paragraph((made.footer,)),
    ]
    return ("\n\n".join(part for part in parts if part) + "\n").encode("utf-8")


def page(title: Text, blocks: Iterable[Block]) -> bytes:
    """Blocks under a title as UTF-8 Markdown, without cover."""
    parts = [f"# {_span(title)}", *(_block(block) for block in blocks)]
    return ("\n\n".join(part for part in parts if part) + "\n").encode("utf-8")


def _contents(made: Document) -> Iterable[str]:
    if made.contents:
        yield f"## {CONTENTS}"
        lines = (
            f"{'  ' * (heading.level - 1)}- [{_title(heading)}](#{place})"
            for heading, place in _places(made)
            if heading.level <= LISTED
        )
        yield "\n".join(lines)


def _places(made: Document) -> Iterator[tuple[Heading, str]]:
    """Each heading with the name by which GitHub finds it: its words in lower case, numbered where they come again."""
    seen = Counter((_place(made.cover.title.text), _place(CONTENTS)))
    for heading in (block for block in made.blocks if isinstance(block, Heading)):
        name = _place(" ".join(part.text for _, part in joined((Text(heading.number), heading.title))))
        yield heading, f"{name}-{seen[name]}" if seen[name] else name
        seen[name] += 1


def _place(words: str) -> str:
    return NOT_IN_PLACES.sub("", words.lower()).replace(" ", "-")


def _title(heading: Heading) -> str:
    return _run((Text(heading.number), heading.title))


def escape(text: str) -> str:
    """``text`` so that GitHub shows its characters and makes nothing of them; line breaks as ``<br>``."""
    entities = "".join(ENTITIES.get(char, char) for char in text)
    plain = AUTOLINK.sub("<!-- -->", MARKUP.sub(lambda found: f"\\{found.group()}", entities))
    return plain.strip().replace("\t", " ").replace("\n", "<br>")


def _span(span: Span) -> str:
    text = escape(span.text)
    if isinstance(span, Badge):
        return f"<kbd>{text}</kbd>"
    forms = {Tone.STRONG: "**{}**", Tone.ALARM: "**{}**", Tone.CODE: "<code>{}</code>"}
    return forms.get(span.tone, "{}").replace("{}", text)


def _run(spans: Iterable[Span]) -> str:
    return "".join(space + _span(span) for space, span in joined(spans))


def _paragraph(spans: Iterable[Span]) -> str:
    return LINE_START.sub(lambda found: f"{found.group()}\\" if found.group().isdigit() else f"\\{found.group()}", _run(spans))


def _block(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * (block.level + 1)} {_title(block)}"
        case Paragraph():
            return _paragraph(block.spans)
        case Items():
            return "\n".join(f"- {_paragraph(item.spans)}" for item in block.items)
        case Notice():
            return "\n>\n".join(f"> {_paragraph(line.spans)}" for line in block.lines)
        case Figure():
            return f"*{_span(block.caption)}*\n\n{_paragraph((block.alt,))}\n\nBeside the record: [{block.path}]({block.path})"
        case Table():
            return _table(block)


def _table(table: Table) -> str:
    head = [_piped(map(_span, table.columns)), _piped("---" for _ in table.columns)]
    rows = [_row(row, len(table.columns)) for row in table.rows]
    caption = [f"*{_span(table.caption)}*", ""] if table.caption else []
    return "\n".join((*caption, *head, *rows))


def _row(row: Row, width: int) -> str:
    cells = [_cell(cell) for cell in row.cells] + [""] * (width - len(row.cells))
    if row.role in (Role.GROUP, Role.HEAD):
        cells[0] = f"**{cells[0]}**"
    if row.role is Role.OPEN:
        cells[0] = f"*{cells[0]}*"
    return _piped(cells)


def _cell(cell: Cell) -> str:
    lines = (part.lines if isinstance(part, Notice) else (part,) for part in cell.blocks)
    return "<br>".join(_run(line.spans) for group in lines for line in group)


def _piped(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cover(cover: Cover) -> Iterable[str]:
    yield _paragraph((cover.organisation, Text("·"), cover.project))
    yield f"# {_span(cover.title)}"
    yield _paragraph((Text(cover.subject.text, Tone.STRONG),))
    lines = (
        (Text(cover.status.text.upper(), Tone.STRONG), cover.meaning),
        (Text(" · ".join(part.text for part in cover.state)),),
    )
    yield "\n>\n".join(f"> {_paragraph(line)}" for line in lines)
    yield from map(_block, cover.notices)
    rows = (_piped((_span(name), _span(value))) for name, value in cover.pairs)
    yield "\n".join((_piped(("Document", "")), _piped(("---", "---")), *rows))
