"""A form that somebody gave, opened with care: what it fetches or runs, it would fetch and run in the report."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from io import BytesIO

from docx.opc.constants import RELATIONSHIP_TYPE
from docx.opc.package import OpcPackage
from docx.oxml.ns import qn
from docxtpl import DocxTemplate
from lxml import etree

from mlflow_aifsm.errors import InputError

LARGEST = 100 * 2**20
"""Bytes of a form when it is unpacked; more is no form, but an attempt to fill the memory."""

FETCHING = re.compile(
    r"\b(INCLUDEPICTURE|INCLUDETEXT|IMPORT|INCLUDE|LINK|DDE|DDEAUTO|DATABASE|MACROBUTTON|RD)\b", re.IGNORECASE
)
"""Fields of a text (ECMA-376 part 1, 17.16.5) that read another file, ask the network or run something."""

FIELDS = {qn("w:instrText"): None, qn("w:fldSimple"): qn("w:instr")}
"""Elements that hold a field's instruction: as text, or as the attribute that is named."""


def opened(content: bytes, name: str) -> DocxTemplate:
    """The form as a template, not rendered yet.

    Args:
        content: The file.
        name: What the message calls it.

    Raises:
        InputError: If it is no DOCX, or holds what fetches or runs something.
    """
    try:
        made = DocxTemplate(BytesIO(content if _fits(content) else b""))
        package = made.get_docx().part.package
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, etree.LxmlError) as error:
        raise InputError(
            f"{name} is no DOCX that can be opened", expected="a file as 'mlflow-aifsm templates --export docx' writes"
        ) from error
    if problem := next(_problems(package), None):
        raise InputError(f"{name} is not used as a form: it holds {problem}", remedy="take it out and save the form again")
    return made


def _fits(content: bytes) -> bool:
    with zipfile.ZipFile(BytesIO(content)) as packed:
        return sum(part.file_size for part in packed.infolist()) <= LARGEST


def _problems(package: OpcPackage) -> Iterator[str]:
    for link in package.iter_rels():
        if link.is_external and link.reltype != RELATIONSHIP_TYPE.HYPERLINK:
            yield f"a {link.reltype.rpartition('/')[2]} that lies outside it"
    for part in package.iter_parts():
        if "vbaProject" in part.content_type or "macroEnabled" in part.content_type:
            yield "a macro"
        if part.content_type.endswith("+xml"):
            yield from (f"the field {found}" for found in _fields(part.blob))


def _fields(xml: bytes) -> Iterator[str]:
    """Names of fields that fetch or run; one instruction may be cut into several elements."""
    root = etree.fromstring(xml, etree.XMLParser(resolve_entities=False, no_network=True))
    said = "".join(
        (element.get(attribute) if attribute else element.text) or ""
        for element in root.iter(*FIELDS)
        for attribute in [FIELDS[str(element.tag)]]
    )
    yield from FETCHING.findall(said)
