"""Text of models and users made safe to look at: what cannot be seen is named.

Control characters, bidirectional overrides (Boucher and Anderson 2021, *Trojan Source*), invisible
characters and half surrogate pairs can make a text look like another one, to people and to models
that judge it. Each is written as its code point between double brackets; letters, emoji and line
breaks stay. The ranges stand here and are not asked of ``unicodedata``, whose tables differ between
versions of Python: what a judge is sent must not.
"""

from __future__ import annotations

import re

# Joiners and variation selectors belong to the spelling of many scripts and of emoji.
_JOINERS = "\u180b-\u180d\u180f\u200c\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef"
_NEVER_SHOWN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e"
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ue000-\uf8ff"
    "\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
    "\U000f0000-\U0010ffff"
)
# A joiner that joins nothing (after ASCII, after another one, at the start) only hides. The digits
# and signs of keycap emoji take a selector.
UNSEEN = re.compile(
    rf"[{_NEVER_SHOWN}]|(?<![^\x00-\x7f])(?<![#*0-9](?=\ufe0f))[{_JOINERS}]"
    rf"|(?<=[{_JOINERS}{_NEVER_SHOWN}])(?<!\ufe0f(?=\u200d))[{_JOINERS}]"
)


def visible(text: str) -> str:
    r"""The text with every invisible character named.

    >>> visible("safe\u202etxt.exe\x07")
    'safe⟦U+202E⟧txt.exe⟦U+0007⟧'
    >>> visible("two\r\nlines, caf\u00e9")
    'two\nlines, café'
    >>> visible("har\u200dm")
    'har⟦U+200D⟧m'
    """
    text = text.replace("\r\n", "\n")
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return UNSEEN.sub(lambda match: f"⟦U+{ord(match.group()):04X}⟧", text)
