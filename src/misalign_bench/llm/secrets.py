"""Secrets that this process has read, and how they are kept out of everything that is written.

Keys come from environment variables only. Whatever leaves the client (error details, attempts, log
lines) passes ``redact``; answers pass ``conceal``, which knows only the values really read, so that
a prompt or an answer *about* keys stays as it is.
"""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode
from urllib.parse import quote

from misalign_bench.errors import UserError

REDACTED = "[redacted]"
_SHORTEST = 6  # a shorter "key" (EMPTY, none, x) is a placeholder, and a word of ordinary text
_PATTERNS = re.compile(r"(?i:\bbearer\s+)[^\s\"',;}]+|\bsk-[A-Za-z0-9_-]{8,}")
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$", re.IGNORECASE)
_known: list[str] = []


def from_environment(variable: str) -> str:
    """The key in an environment variable, registered as a secret; empty if it is not set.

    Raises:
        UserError: the value cannot stand in an HTTP header.
    """
    value = os.environ.get(variable, "").strip()
    if not (value.isascii() and value.isprintable()):
        raise UserError(f"the key in {variable} holds characters that no HTTP header may hold")
    register(value)
    return value


def register_environment() -> None:
    """Register every environment value whose name says that it is a secret.

    For libraries that read their keys themselves, by names of their own.
    """
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name):
            register(value.strip())


def register(value: str) -> None:
    """Remember a secret value, also in the forms it takes in JSON, in URLs and in base64."""
    if len(value) < _SHORTEST:
        return
    encoded = b64encode(value.encode()).decode()
    for form in (value, quote(value, safe=""), json.dumps(value)[1:-1], encoded):
        if form not in _known:
            _known.append(form)
    _known.sort(key=len, reverse=True)


def conceal(text: str) -> str:
    """The text without any registered value."""
    for value in _known:
        if value in text:
            text = text.replace(value, REDACTED)
    return text


def redact(text: str) -> str:
    """The text without registered values and without anything that looks like a key.

    >>> redact("got Authorization: Bearer abc.def, and sk-abcdef0123456789")
    'got Authorization: [redacted], and [redacted]'
    """
    return _PATTERNS.sub(REDACTED, conceal(text))
