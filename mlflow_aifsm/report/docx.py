"""Blocks into a DOCX, written by docxtpl on a form: the one that comes with this package, or an organisation's own.

A form is an input like any other, and a Jinja template is a program: it runs in Jinja's immutable sandbox and is given nothing
but strings. What has more than one line is put in afterwards, element by element.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from docx.document import Document as Form
from docx.shared import Mm
from docxtpl import DocxTemplate, InlineImage
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup, escape

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.record import Evidence
from mlflow_aifsm.report import docx_form
from mlflow_aifsm.report.blocks import Document, Logo
from mlflow_aifsm.report.characters import visible
from mlflow_aifsm.report.document import document
from mlflow_aifsm.report.docx_body import contents, elements, frame, marks, put
from mlflow_aifsm.report.docx_check import opened
from mlflow_aifsm.report.docx_words import CONTENTS, PLACES, Words, places, words
from mlflow_aifsm.report.look import PLAIN, Look
from mlflow_aifsm.report.words import moment

MARK = "aifsm_{}"
"""Name of the bookmark that stands where blocks come."""
FIRST = 9_000
"""Number of the first bookmark; those of the form are smaller."""

# docxtpl's spelling of the double braces and of their kin that a form prints
SPELLING = re.compile(r"\{_(?=[{%])|[}%]_(?=\})")

LOGO = 16
"""Height of a logo in millimetres."""

PICTURES = (".png", ".jpg", ".jpeg", ".gif")

LONGEST = 255
"""Letters of a property of a document (ECMA-376 part 2)."""

PACKED = (1980, 1, 1, 0, 0, 0)
"""The first date that a ZIP can hold; the document's own date is among its properties."""


def write(evidence: Evidence) -> bytes:
    """The report of ``evidence`` as DOCX on the form of this package; same evidence, same bytes."""
    return render(document(evidence))


def render(made: Document, look: Look = PLAIN) -> bytes:
    """A document as DOCX, on the form of ``look``, or on that of this package.

    Raises:
        InputError: If the form is no DOCX, holds what fetches or runs something, or cannot be filled.
    """
    template = opened(docx_form.form() if look.form is None else look.form, look.form_name)
    _clear(template.get_docx())
    _fill(template, words(made), made.cover.logo, look.form_name)
    # asked for by its method, it would be opened anew
    filled = template.docx
    where, held = frame(filled), marks(filled)
    for place, blocks in places(made).items():
        put(held.get(MARK.format(place), ()), elements(blocks, where))
    put(held.get(MARK.format(CONTENTS), ()), contents(made.listed if made.contents else (), where))
    _describe(filled, made)
    content = BytesIO()
    filled.save(content)
    return _packed(content.getvalue())


def _clear(form: Form) -> None:
    """What the form says of itself does not describe the report, and is no template for what does."""
    for name in ("author", "comments", "identifier", "keywords", "language", "last_modified_by", "subject", "title"):
        setattr(form.core_properties, name, "")


def _fill(template: DocxTemplate, given: Words, logo: Logo | None, name: str) -> None:
    sandbox = ImmutableSandboxedEnvironment(autoescape=True, undefined=StrictUndefined)
    marks = {place: _marked(place, number) for number, place in enumerate((*PLACES, CONTENTS))}
    try:
        template.render({**_kept(given), **marks, "logo": _picture(template, logo)}, sandbox)
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, RecursionError, MemoryError) as error:
        problem = " ".join(str(error).split())[:LONGEST]
        raise InputError(
            f"{name} cannot be filled", got=problem, remedy="'mlflow-aifsm templates --export docx' shows what it may hold"
        ) from error


def _kept(given: Mapping[str, Any]) -> dict[str, Any]:
    """Strings as docxtpl leaves them: it takes ``{_{`` in what Jinja wrote for its own spelling of two braces."""
    return {name: _kept(word) if isinstance(word, Mapping) else _spelled(word) for name, word in given.items()}


def _spelled(word: str) -> str:
    if not SPELLING.search(word):
        return word
    return Markup(SPELLING.sub(lambda found: found[0].replace("_", "&#95;"), str(escape(word))))  # noqa: S704


def _picture(template: DocxTemplate, logo: Logo | None) -> InlineImage | str:
    return InlineImage(template, BytesIO(logo.content), height=Mm(LOGO)) if logo else ""


def _marked(place: str, number: int) -> Markup:
    """A paragraph with a bookmark: the words of a document are never part of the text that Jinja writes."""
    name, number = MARK.format(place), FIRST + number
    mark = f'<w:p><w:bookmarkStart w:id="{number}" w:name="{name}"/><w:bookmarkEnd w:id="{number}"/></w:p>'
    return Markup(mark)  # noqa: S704


def _describe(form: Form, made: Document) -> None:
    """Title, author and date, which are those of the record."""
    told = form.core_properties
    told.title, told.author, told.subject = (
        visible(text)[:LONGEST] for text in (made.title.text, made.author, made.cover.subject.text)
    )
    told.language, told.revision = "en", 1
    told.created = told.modified = moment(made.made_at).replace(tzinfo=None)


def _packed(content: bytes) -> bytes:
    """The same parts in the order of their names, with one date: what python-docx writes has the clock's."""
    made = BytesIO()
    with zipfile.ZipFile(BytesIO(content)) as given, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in sorted(given.namelist()):
            part = zipfile.ZipInfo(name, PACKED)
            # what is a picture already does not get smaller
            part.compress_type = zipfile.ZIP_STORED if name.endswith(PICTURES) else zipfile.ZIP_DEFLATED
            part.create_system = 0
            packed.writestr(part, given.read(name))
    return made.getvalue()
