"""What an organisation gives its documents: its logo, and its own form for DOCX."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.report.blocks import Logo

KINDS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}
"""Pictures that every format can show, by their first bytes."""

LARGEST = 5 * 2**20
"""Bytes of a logo; each document holds it."""


@dataclass(frozen=True, slots=True)
class Look:
    """What does not come from the record.

    Attributes:
        logo: Stands on the cover; None for none.
        form: The DOCX to write on; None for that of this package.
        form_name: What a message calls the form.
    """

    logo: Logo | None = None
    form: bytes | None = None
    form_name: str = "the form"


PLAIN = Look()
"""Nothing of anybody's own."""


def look(logo: str | Path = "", form: str | Path = "") -> Look:
    """The look that two files give; an empty name stands for none.

    Raises:
        InputError: If a file cannot be read, or the logo is neither PNG nor JPEG.
    """
    return Look(_logo(logo) if logo else None, _read(form) if form else None, f"the form {form}")


def _logo(file: str | Path) -> Logo:
    content = _read(file)
    kind = next((kind for begin, kind in KINDS.items() if content.startswith(begin)), "")
    if not kind or len(content) > LARGEST:
        raise InputError(f"logo {file}", got=f"{len(content):,} bytes", expected=f"PNG or JPEG of at most {LARGEST:,} bytes")
    return Logo(content, kind)


def _read(file: str | Path) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}", remedy="name a file that exists") from error
