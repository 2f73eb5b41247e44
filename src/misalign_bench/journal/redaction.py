"""What must not leave the machine in a manifest: secrets, credentials in URLs, absolute paths.

A manifest is meant to be handed on with the results. Values of environment variables are never
read; fields that could hold a key are dropped by name, because people paste keys into them.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import misalign_bench

_SECRET_WORDS = frozenset(
    {"key", "keys", "token", "secret", "secrets", "password", "passwords", "credential"}
    | {"credentials", "authorization", "cookie", "headers"}
)
_URL = re.compile(r"https?://[^\s\"'<>]+")
_PATH = re.compile(r"(?<![\w:/\\.~-])(?:[A-Za-z]:[\\/]|/)[^\s'\",;:()<>]+")
_PACKAGE = Path(misalign_bench.__file__).parent


def public(value: Any, folder: Path, written: Sequence[str] = ()) -> Any:
    """A settings value as it may be published, JSON-able.

    Args:
        value: mappings, sequences, texts, numbers, paths.
        folder: run folder, which paths become relative to.
        written: the command's arguments; a path that stands in them stays as it was written.
    """
    if isinstance(value, Mapping):
        held = ((str(name), part) for name, part in value.items())
        return {name: public(part, folder, written) for name, part in held if not _secret(name)}
    if isinstance(value, (list, tuple, set, frozenset)):
        parts = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return [public(part, folder, written) for part in parts]
    if isinstance(value, (str, PurePath)):
        return without_credentials(_portable(str(value), folder, written))
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def public_line(text: str, folder: Path, written: Sequence[str] = ()) -> str:
    """A message as it may be published: the absolute paths in it as ``public`` shows them."""
    line = without_credentials(" ".join(text.split()))
    return _PATH.sub(lambda match: _portable(match.group(), folder, written), line)


def without_credentials(text: str) -> str:
    """The text with user names, passwords and query values cut out of its URLs.

    >>> without_credentials("openai/m@https://me:pw@host:8000/v1?api-key=123")
    'openai/m@https://host:8000/v1'
    """
    return _URL.sub(_bare, text)


def _bare(match: re.Match[str]) -> str:
    try:
        parts = urlsplit(match.group())
    except ValueError:
        # No URL after all, so nobody can say which part of it is a password.
        return f"{match.group().partition('://')[0]}://"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _secret(name: str) -> bool:
    return not _SECRET_WORDS.isdisjoint(re.split(r"[^a-z]+", name.lower()))


def _portable(text: str, folder: Path, written: Sequence[str]) -> str:
    """An absolute path made relative to the run folder, unless a person wrote it so."""
    if not os.path.isabs(text) or "\n" in text:
        return text
    if any(argument == text or argument.endswith(f"={text}") for argument in written):
        return text
    path = Path(text)
    if path.is_relative_to(_PACKAGE):
        return path.relative_to(_PACKAGE.parent).as_posix()
    try:
        return Path(os.path.relpath(path, folder.resolve())).as_posix()
    except ValueError:
        # Windows: another drive has no relative path.
        return path.name
