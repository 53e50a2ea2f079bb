"""Blocks into one self-contained HTML file: no script, nothing remote, every string escaped.

MLflow shows it in a sandboxed frame from a blob URL, so style and content have to be in the file; the policy in its head
forbids everything else.
"""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from mlflow_aifsm.record import Evidence
from mlflow_aifsm.report.blocks import Document, Logo
from mlflow_aifsm.report.document import document
from mlflow_aifsm.report.look import PLAIN, Look
from mlflow_aifsm.report.reading import joined


def write(evidence: Evidence) -> bytes:
    """The report of ``evidence`` as UTF-8 HTML; same evidence, same bytes."""
    return render(document(evidence))


def render(made: Document, look: Look = PLAIN) -> bytes:  # noqa: ARG001
    """A document as UTF-8 HTML; its logo is among its blocks, and nothing else of ``look`` concerns a page."""
    return page("page.html.j2", document=made)


def page(name: str, **content: object) -> bytes:
    """A page of the template ``name`` in the report's style, as UTF-8; every string in it is escaped."""
    return _page(name).render(**content, css=Markup(_read("html.css"))).encode("utf-8")  # noqa: S704


def css_string(text: str) -> Markup:
    r"""``text`` as the inside of a CSS string, every code point but plain letters and digits as ``\hex``.

    A style sheet is not HTML, so HTML's escapes do not hold there.
    """
    return Markup("".join(char if char.isascii() and char.isalnum() else f"\\{ord(char):x} " for char in text))  # noqa: S704


def image(svg: str) -> str:
    """``svg`` as the address of an image: what a page shows as an image runs no script and fetches nothing."""
    return f"data:image/svg+xml;base64,{b64encode(svg.encode('utf-8')).decode('ascii')}"


def logo_image(logo: Logo) -> str:
    """``logo`` as the address of an image."""
    return f"data:image/{logo.form};base64,{b64encode(logo.content).decode('ascii')}"


@cache
def _page(name: str) -> Template:
    environment = Environment(
        loader=FunctionLoader(_read), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(css_string=css_string, image=image, joined=joined, logo_image=logo_image)
    return environment.get_template(name)


def _read(name: str) -> str:
    return (resources.files("mlflow_aifsm.report") / name).read_text("utf-8")
