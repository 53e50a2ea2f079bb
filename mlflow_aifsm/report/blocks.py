"""What a document is made of: frozen blocks that hold all words and no markup.

Every string of a document stands in a `Text` or a `Badge`, and both make it visible: code points that a reader cannot see, or
that turn the reading direction round, are spelled out. So a writer has nothing to do but to escape for its own format.
Writers join the spans of a paragraph as `reading.joined` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from mlflow_aifsm.report.characters import visible

LISTED = 2
"""Levels of headings in a table of contents."""


class Tone(StrEnum):
    """How a piece of text is set."""

    PLAIN = "plain"
    STRONG = "strong"
    QUIET = "quiet"
    CODE = "code"
    ALARM = "alarm"


class Mark(StrEnum):
    """The colour of a badge or notice; its words always stand beside the colour."""

    GOOD = "good"
    KNOWN = "known"
    SAID = "said"
    NEUTRAL = "neutral"
    BAD = "bad"


class Role(StrEnum):
    """What a paragraph or a row is to its neighbours."""

    BODY = "body"
    META = "meta"
    ASIDE = "aside"
    HEAD = "head"
    GROUP = "group"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of running text."""

    text: str
    tone: Tone = Tone.PLAIN
    kind: ClassVar[str] = "text"

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", visible(self.text))


@dataclass(frozen=True, slots=True)
class Badge:
    """One or two words in a coloured box."""

    text: str
    mark: Mark
    kind: ClassVar[str] = "badge"

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", visible(self.text))


Span = Text | Badge


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Spans that run on."""

    spans: tuple[Span, ...]
    role: Role = Role.BODY
    kind: ClassVar[str] = "paragraph"


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[Paragraph, ...]
    kind: ClassVar[str] = "items"


@dataclass(frozen=True, slots=True)
class Notice:
    """Lines that must not be overlooked."""

    mark: Mark
    lines: tuple[Paragraph, ...]
    kind: ClassVar[str] = "notice"


@dataclass(frozen=True, slots=True)
class Heading:
    """A section's heading: its level from 1, its number (``4``, ``Annex A``; empty for none), its title."""

    level: int
    number: str
    title: Text
    new_page: bool = False
    kind: ClassVar[str] = "heading"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table."""

    blocks: tuple[Paragraph | Notice, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One row; a row of role ``GROUP`` has one cell that spans the table."""

    cells: tuple[Cell, ...]
    role: Role = Role.BODY


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of each row is its heading.

    Attributes:
        columns: Column headings.
        rows: Rows in order.
        widths: Width of each column in percent.
        caption: Caption above the table; None for none.
    """

    columns: tuple[Text, ...]
    rows: tuple[Row, ...]
    widths: tuple[int, ...]
    caption: Text | None = None
    kind: ClassVar[str] = "table"


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture and its words.

    Attributes:
        path: The picture's file beside the record.
        svg: The picture as SVG; a writer embeds it so that nothing in it can run.
        alt: What it shows in full words, for who does not see it.
        caption: How to read it.
        png: Draws it with dots, for what shows no SVG.
    """

    path: str
    svg: str
    alt: Text
    caption: Text
    png: Callable[[], bytes] = field(compare=False, repr=False)
    kind: ClassVar[str] = "figure"


@dataclass(frozen=True, slots=True)
class Logo:
    """An organisation's picture: its bytes, and whether they are ``png`` or ``jpeg``."""

    content: bytes
    form: str


@dataclass(frozen=True, slots=True)
class Cover:
    """The first page: whose document, which log, in what state, and the names it goes by."""

    organisation: Text
    project: Text
    title: Text
    subject: Text
    status: Badge
    state: tuple[Text, ...]
    meaning: Text
    notices: tuple[Notice, ...]
    pairs: tuple[tuple[Text, Text], ...]
    logo: Logo | None = None


Block = Heading | Paragraph | Items | Notice | Table | Figure


@dataclass(frozen=True, slots=True)
class Document:
    """A whole document.

    Attributes:
        title: Its name among others.
        header: Stands at the head of every printed page but the first.
        footer: Stands at the foot of every printed page.
        cover: The first page.
        blocks: All that follows.
        author: Who stands for what it tells, for a format that has a place for it.
        made_at: When that happened, ISO 8601; a document has no other date.
        fields: Words of each field by its key, for a form that puts them in places of its own.
        contents: Whether a table of its headings of the first two levels stands after the cover.
    """

    title: Text
    header: Text
    footer: Text
    cover: Cover
    blocks: tuple[Block, ...]
    author: str = ""
    made_at: str = ""
    fields: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    contents: bool = False

    @property
    def listed(self) -> tuple[Heading, ...]:
        """The headings of its table of contents, in order."""
        return tuple(block for block in self.blocks if isinstance(block, Heading) and block.level <= LISTED)
