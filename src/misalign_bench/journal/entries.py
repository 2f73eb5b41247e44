"""What the journal holds: answers, attempts, and their totals, as records and as rows.

Bodies are canonical JSON, compressed. ``surrogatepass`` keeps every text a model may return,
lone surrogates included, exactly as it was. Every row ends with a checksum over its other columns,
because SQLite has none: a bit that flipped on the disk is found when the row is read.
"""

from __future__ import annotations

import json
import math
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from misalign_bench.json_text import read_json

Row = tuple[Any, ...]

# On bodies of 1.5 KB level 6 saves less than 0.1% of the bytes over level 1.
_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One answered model call.

    Attributes:
        key: hash of everything that determines the answer (contract, section 1).
        template: ``name@hash`` of the prompt template.
        request: what was asked, JSON-able.
        response: what was answered, JSON-able (text, status, options).
        cost: US dollars, None when the price is unknown.
        latency: seconds.
        created: seconds since 1970.
    """

    key: str
    role: str
    model: str
    template: str
    request: Mapping[str, Any]
    response: Mapping[str, Any]
    status: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost: float | None
    latency: float
    created: float
    round: int
    index: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to get an answer. ``kind`` is ``ok`` or names the failure.

    ``time`` is seconds since 1970, ``latency`` seconds, ``status`` the HTTP status if there is one.
    """

    key: str
    model: str
    role: str
    time: float
    kind: str
    detail: str = ""
    latency: float = 0.0
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the answers and attempts of one role and model.

    ``cost`` leaves out the ``unpriced`` calls; ``errors`` counts attempts by kind, without ``ok``.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0
    seconds: float = 0.0
    attempts: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)


CHECKSUM = "checksum"
ANSWER_COLUMNS = (
    *("key", "role", "model", "template", "status", "round", "draw", "epoch", "input_tokens"),
    *("output_tokens", "cached_tokens", "cost", "latency", "created", "request", "response"),
    CHECKSUM,
)
ATTEMPT_COLUMNS = ("key", "model", "role", "time", "kind", "detail", "latency", "status", CHECKSUM)
ENDPOINT_COLUMNS = ("model", "endpoint", "served", CHECKSUM)


def answer_row(entry: Entry) -> Row:
    """An answer in the order of ``ANSWER_COLUMNS``.

    Raises:
        TypeError: a body is not JSON-able.
    """
    counts = (entry.input_tokens, entry.output_tokens, entry.cached_tokens)
    # As SQLite gives them back, or the checksum would not fit: it takes not-a-number for NULL.
    cost = None if entry.cost is None or math.isnan(entry.cost) else entry.cost + 0.0
    return sealed(
        entry.key,
        plain(entry.role),
        plain(entry.model),
        plain(entry.template),
        plain(entry.status),
        *(int(number) for number in (entry.round, entry.index, entry.epoch, *counts)),
        cost,
        entry.latency + 0.0,
        entry.created + 0.0,
        pack(entry.request),
        pack(entry.response),
    )


def entry_of(row: Row) -> Entry:
    """The answer that a row holds.

    Raises:
        sqlite3.DatabaseError: the row is not as it was written, so the file is damaged.
    """
    values = opened(row)
    key, role, model, template, status, round_, index, epoch, *counts, request, response = values
    input_tokens, output_tokens, cached_tokens, cost, latency, created = counts
    return Entry(
        key=key,
        role=role,
        model=model,
        template=template,
        request=unpack(request),
        response=unpack(response),
        status=status,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=cached_tokens,
        cost=cost,
        latency=latency,
        created=created,
        round=round_,
        index=index,
        epoch=epoch,
    )


def attempt_row(attempt: Attempt) -> Row:
    """An attempt in the order of ``ATTEMPT_COLUMNS``."""
    return sealed(
        attempt.key,
        plain(attempt.model),
        plain(attempt.role),
        attempt.time + 0.0,
        plain(attempt.kind),
        plain(attempt.detail),
        attempt.latency + 0.0,
        attempt.status,
    )


def sealed(*values: Any) -> Row:
    """The values of a row with their checksum behind them."""
    return (*values, checksum(values))


def opened(row: Sequence[Any]) -> Row:
    """The values of a stored row without the checksum, which must fit them.

    >>> opened(sealed("k1", 0.5, None, b"body"))
    ('k1', 0.5, None, b'body')

    Raises:
        sqlite3.DatabaseError: it does not, so the file is damaged.
    """
    *values, written = row
    if written is None or written != checksum(values):
        raise sqlite3.DatabaseError("a stored row is malformed")
    return tuple(values)


def checksum(values: Sequence[Any]) -> int | None:
    """CRC-32 over columns, bodies by their bytes; None for values that no row of ours holds."""
    bodies = [value for value in values if isinstance(value, bytes)]
    shown = [len(value) if isinstance(value, bytes) else value for value in values]
    try:
        # JSON rather than repr, which escapes differently from one Python to the next.
        sum_ = zlib.crc32(json.dumps(shown).encode("ascii"))
    except (TypeError, ValueError):
        return None
    for body in bodies:
        sum_ = zlib.crc32(body, sum_)
    return sum_


def pack(body: Mapping[str, Any]) -> bytes:
    r"""Canonical JSON, compressed.

    >>> unpack(pack({"text": "half a pair: \ud83d"})) == {"text": "half a pair: \ud83d"}
    True
    """
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return zlib.compress(text.encode("utf-8", "surrogatepass"), _LEVEL)


def unpack(body: bytes) -> dict[str, Any]:
    """The body that ``pack`` stored.

    Raises:
        sqlite3.DatabaseError: it cannot be read, so the file is damaged.
    """
    try:
        value: dict[str, Any] = read_json(zlib.decompress(body).decode("utf-8", "surrogatepass"))
    except (zlib.error, ValueError, TypeError):
        raise sqlite3.DatabaseError("a stored body is malformed") from None
    return value


def plain(text: str) -> str:
    r"""Text that a SQLite column can hold: lone surrogates are written out.

    >>> plain("caf\u00e9 \ud83d") == "caf\u00e9 \\ud83d"
    True
    """
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
