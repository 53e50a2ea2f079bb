"""Characters that a reader cannot see, made visible: nothing in a document can hide, or turn the reading direction round."""

from __future__ import annotations

import unicodedata

JOINERS = frozenset("\n\t\u200c\u200d")
"""Invisible code points that stay: line breaks, tabs, and the joiners that scripts such as Persian and Hindi need."""

HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that show nothing: control, format (with them the bidirectional overrides), surrogate, separators."""

NO_CHARACTERS = frozenset("\ufffe\uffff")
"""Code points that are no characters, and that no XML file may hold."""


def visible(text: str) -> str:
    """``text`` with every control, format, surrogate and line-separator code point spelled as an escape, line breaks kept."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spelled(char) if _hidden(char) else char for char in text.replace("\r\n", "\n"))


def _hidden(char: str) -> bool:
    return char in NO_CHARACTERS or (unicodedata.category(char) in HIDDEN and char not in JOINERS)


def _spelled(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
