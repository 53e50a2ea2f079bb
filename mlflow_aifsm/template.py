"""The two documents of AI-FSM as data: a template has sections, a section has fields, a field is defined once."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import cattrs

from mlflow_aifsm.catalogue import CATALOGUE
from mlflow_aifsm.codec import converter
from mlflow_aifsm.errors import TemplateError
from mlflow_aifsm.facts import State

LOGS = ("conversion", "optimization")
COMPARISONS = ("", "equal", "at_least", "subset")
DESTINATIONS = ("tag", "param", "metric")


@dataclass(frozen=True, slots=True)
class Field:
    """One row of a template's table.

    Attributes:
        key: Its name in the run; starts with ``aifsm.``.
        label: The template's label, verbatim.
        fact: The fact that answers it.
        basis: The weakest state that answers it: what the file can tell is not answered by hand.
        log_as: Where the run holds it: ``tag``, ``param`` or ``metric``.
        filled_by: What fills it, in one sentence.
        remedy: The line that fills it when it is not recorded; ``{target}`` stands for the run.
        clause: Where the template or a standard asks for it.
        group: Heading of the section it stands under.
        asked: The fact that holds what was asked for, if anything was.
        compare: How asked and found must agree: ``equal``, ``at_least`` or ``subset``.
        beside: Facts shown beside the answer, each with its own state and source.
        guidance: The template's own guidance; if it survives in a finished log, that is template residue.
        open_row: Whether the template only invites it ("…"); open rows are shown, and not counted.
    """

    key: str
    label: str
    fact: str
    basis: State
    log_as: str
    filled_by: str
    remedy: str
    clause: str
    group: str = ""
    asked: str = ""
    compare: str = ""
    beside: tuple[str, ...] = ()
    guidance: str = ""
    open_row: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A group of rows under one heading; the table's head has none."""

    title: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A document of AI-FSM: its words, and the rows of its table."""

    id: str
    log: str
    code: str
    version: str
    title: str
    objective: str
    scope: str
    table_title: str
    table_intro: str
    table_caption: str
    acronyms: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]

    @property
    def fields(self) -> tuple[Field, ...]:
        """All rows in the order of the table."""
        return tuple(field for section in self.sections for field in section.fields)

    @property
    def counted(self) -> tuple[Field, ...]:
        """The rows the template asks for; open rows left out."""
        return tuple(field for field in self.fields if not field.open_row)

    def field(self, key: str) -> Field:
        """The row with this key, or with this key's last parts (``framework``, ``ptq.framework``).

        Raises:
            TemplateError: If no row, or more than one, answers to it.
        """
        matches = [row for row in self.fields if row.key == key or row.key.endswith(f".{key}")]
        exact = [row for row in matches if row.key == key]
        if len(exact or matches) == 1:
            return (exact or matches)[0]
        keys = ", ".join(row.key for row in matches or self.fields)
        raise TemplateError(f"no single field '{key}' in the {self.title}", expected=f"one of {keys}")


def parse(text: str, name: str) -> Template:
    """A template from the TOML ``text`` of the file ``name``.

    Raises:
        TemplateError: If it breaks a rule; the message names file and field.
    """
    try:
        data = tomllib.loads(text)
        sections = tuple(_section(section, name) for section in data.pop("section", []))
        template = converter().structure({**data, "sections": []}, Template)
    except tomllib.TOMLDecodeError as error:
        raise TemplateError(f"template {name} is not TOML: {error}") from error
    except (cattrs.BaseValidationError, TypeError, ValueError) as error:
        raise TemplateError(f"template {name}: {_why(error)}") from error
    return _checked(Template(**{**_shallow(template), "sections": sections}), name)


@cache
def load(log: str) -> Template:
    """The template of ``conversion`` or ``optimization`` that comes with this package.

    Raises:
        TemplateError: If there is none of that name, or its file breaks a rule.
    """
    if log not in LOGS:
        raise TemplateError(f"no template for '{log}'", expected=" or ".join(LOGS))
    file = resources.files("mlflow_aifsm") / "templates" / f"{log}.toml"
    return parse(file.read_text("utf-8"), file.name)


def _section(data: Mapping[str, Any], name: str) -> Section:
    title = str(data.get("title", ""))
    return Section(title, tuple(_field({**row, "group": title}, name) for row in data.get("field", [])))


def _field(row: Mapping[str, Any], name: str) -> Field:
    try:
        return converter().structure(row, Field)
    except (cattrs.BaseValidationError, TypeError, ValueError) as error:
        raise TemplateError(f"template {name}, field '{row.get('key', row.get('label', '?'))}': {_why(error)}") from error


def _shallow(template: Template) -> dict[str, Any]:
    return {name: getattr(template, name) for name in Template.__slots__}


def _why(error: Exception) -> str:
    return "; ".join(cattrs.transform_error(error)) if isinstance(error, cattrs.BaseValidationError) else str(error)


def _checked(template: Template, name: str) -> Template:
    for row in template.fields:
        for problem in _problems(row):
            raise TemplateError(f"template {name}, field '{row.key}': {problem}")
    doubled = [key for key, count in Counter(row.key for row in template.fields).items() if count > 1]
    if doubled:
        raise TemplateError(f"template {name}, field '{doubled[0]}': key stands twice")
    return template


def _problems(row: Field) -> list[str]:
    facts = [fact for fact in (row.fact, row.asked, *row.beside) if fact]
    return [
        *(f"unknown fact '{fact}'" for fact in facts if fact not in CATALOGUE),
        *(["key must start with 'aifsm.'"] if not row.key.startswith("aifsm.") else []),
        *([f"unknown comparison '{row.compare}'"] if row.compare not in COMPARISONS else []),
        *([f"unknown destination '{row.log_as}'"] if row.log_as not in DESTINATIONS else []),
        *(["a comparison needs 'asked'"] if bool(row.compare) != bool(row.asked) else []),
        *(["basis must be measured, captured or declared"] if not row.basis.strength else []),
    ]
