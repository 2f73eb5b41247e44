"""Text of models and users made safe to look at: what cannot be seen is named.

Control characters, bidirectional overrides (Boucher and Anderson 2021, *Trojan Source*), invisible
format characters and half surrogate pairs can make a text look like another one. Each is written
as its code point between double brackets; letters, emoji and line breaks stay.
"""

from __future__ import annotations

import unicodedata
from typing import Any

_INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
# Joiners belong to the spelling of many scripts; the others are format characters with a shape.
_KEPT = frozenset("\n\t\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u08e2")


def visible(text: str) -> str:
    r"""The text with every invisible character named.

    >>> visible("safe\u202etxt.exe\x07")
    'safe⟦U+202E⟧txt.exe⟦U+0007⟧'
    >>> visible("two\r\nlines, caf\u00e9")
    'two\nlines, café'
    """
    text = text.replace("\r\n", "\n")
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(_named(character) for character in text)


def visible_in(value: Any) -> Any:
    """A JSON-able value with every text in it made visible, names of fields included."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible_in(key): visible_in(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [visible_in(part) for part in value]
    return value


def _named(character: str) -> str:
    if character in _KEPT or unicodedata.category(character) not in _INVISIBLE:
        return character
    return f"⟦U+{ord(character):04X}⟧"
