"""What a form may name: strings in double braces, and places in ``{{p … }}`` where paragraphs and tables come."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from mlflow_aifsm.report.blocks import Block, Cell, Document, Heading, Notice, Row, Table, Text, Tone
from mlflow_aifsm.report.characters import visible
from mlflow_aifsm.report.words import line

Words = Mapping[str, str | Mapping[str, Mapping[str, str]]]
"""Strings by name; ``fields`` has those of each field by the field's key."""

SECTIONS = {"1": "history", "2": "objective", "3": "scope", "4": "information", "5": "acronyms"}
"""Places of the template's sections by their numbers."""

PLACES = ("status_box", "particulars", "body", *SECTIONS.values(), "annexes")
"""Places of blocks; ``body`` is everything after the cover."""

CONTENTS = "contents"
"""Place of a dossier's table of contents."""

NOT_WORD = re.compile(r"\W+")


def words(made: Document) -> Words:
    """The strings: those of the cover, each under the name of its line there, and those of the fields."""
    cover = made.cover
    lines = {NOT_WORD.sub("_", name.text.lower()).strip("_"): value.text for name, value in cover.pairs}
    return {
        **lines,
        "organisation": cover.organisation.text,
        "project": cover.project.text,
        "title": cover.title.text,
        "subject": cover.subject.text,
        "status": cover.status.text[:1].upper() + cover.status.text[1:],
        "meaning": cover.meaning.text,
        "state_line": " · ".join(part.text for part in cover.state),
        "author": visible(made.author),
        "header": made.header.text,
        "footer": made.footer.text,
        "fields": {key: {name: visible(text) for name, text in field.items()} for key, field in made.fields.items()},
    }


def places(made: Document) -> dict[str, tuple[Block, ...]]:
    """The blocks of each place; what a document has not is empty."""
    return {
        "status_box": (_status(made), *made.cover.notices),
        "particulars": (_particulars(made),),
        "body": _on_a_page_of_its_own(made.blocks),
        **dict.fromkeys(SECTIONS.values(), ()),
        **_sections(made.blocks),
    }


def _on_a_page_of_its_own(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    first = blocks[0]
    return (replace(first, new_page=True), *blocks[1:]) if isinstance(first, Heading) else blocks


def _status(made: Document) -> Notice:
    state = Text(" · ".join(part.text for part in made.cover.state))
    return Notice(made.cover.status.mark, (line(Text(made.cover.meaning.text, Tone.STRONG)), line(state)))


def _particulars(made: Document) -> Table:
    rows = tuple(Row((Cell((line(name),)), Cell((line(value),)))) for name, value in made.cover.pairs)
    return Table((Text("Document"), Text("")), rows, widths=(24, 76))


def _sections(blocks: tuple[Block, ...]) -> dict[str, tuple[Block, ...]]:
    """What stands from one heading of the first level to the next, by the section's place."""
    place, found = "", dict[str, tuple[Block, ...]]()
    for block in blocks:
        if isinstance(block, Heading) and block.level == 1:
            place = SECTIONS.get(block.number, "annexes")
        found[place] = (*found.get(place, ()), block)
    return {**dict.fromkeys(("annexes",), ()), **found}
