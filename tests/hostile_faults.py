"""What can go wrong with a Chat Completions call, by name: raw bytes, so that HTTP can be broken.

A fault is a function that answers somehow in the place of an honest answer. ``FAULTS`` holds them
all; the groups say what must become of them (``docs/reliability.md``).
"""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import cache
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

from loopback import Body, completion

MEGABYTE = 10**6
HTML = (
    "<!DOCTYPE html><html><head><title>502</title></head><body><h1>Bad gateway</h1></body></html>"
)
"""What a proxy says; none of its words may reach the data."""


@dataclass
class Exchange:
    """One request under way, and the honest answer to it."""

    body: Body
    answer: str
    writer: asyncio.StreamWriter

    @property
    def honest(self) -> Body:
        """The body that a server in order would send."""
        return completion(self.answer)

    async def send(self, raw: bytes) -> bool:
        """Send bytes as they are and keep the connection."""
        self.writer.write(raw)
        await self.writer.drain()
        return True


Act = Callable[[Exchange], Awaitable[bool]]
"""Answers somehow; True if the connection can go on."""


def http(status: int, body: bytes, **headers: str) -> bytes:
    """A whole response; underscores in header names stand for hyphens."""
    held = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    held |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in held.items() if value)
    return f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode() + body


def says(status: int, body: object = None, **headers: str) -> Act:
    """A whole response that holds this text, bytes or JSON."""

    async def act(exchange: Exchange) -> bool:
        raw = body() if callable(body) else body
        if not isinstance(raw, bytes):
            raw = (raw if isinstance(raw, str) else json.dumps(raw)).encode()
        values = {name: value() if callable(value) else value for name, value in headers.items()}
        return await exchange.send(http(status, raw, **values))

    return act


def wrapped(change: Callable[[Body], object]) -> Act:
    """The honest body, changed."""

    async def act(exchange: Exchange) -> bool:
        changed = change(exchange.honest)
        text = changed if isinstance(changed, str) else json.dumps(changed)
        return await exchange.send(http(200, text.encode()))

    return act


def reworded(change: Callable[[str], str], finish: str = "stop") -> Act:
    """A body in order around an answer that is not."""

    async def act(exchange: Exchange) -> bool:
        body = completion(change(exchange.answer), finish=finish)
        return await exchange.send(http(200, json.dumps(body).encode()))

    return act


def error(status: int, code: str, message: str, **headers: str) -> Act:
    """An error in the words of the protocol."""
    return says(status, {"error": {"code": code, "message": message}}, **headers)


async def _half(exchange: Exchange, rest: bytes = b"") -> bytes:
    raw = json.dumps(exchange.honest).encode()
    await exchange.send(http(200, raw)[: -len(raw) // 2] + rest)
    return raw


async def _reset(exchange: Exchange) -> bool:
    await _half(exchange)
    socket = exchange.writer.get_extra_info("socket")
    socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    exchange.writer.transport.abort()
    return False


async def _hang_up(exchange: Exchange) -> bool:
    exchange.writer.close()
    return False


async def _stall(exchange: Exchange) -> bool:
    await _half(exchange)
    await asyncio.sleep(3600)
    return False


async def _drip(exchange: Exchange) -> bool:
    for byte in http(200, json.dumps(exchange.honest).encode()):
        await exchange.send(bytes([byte]))
        await asyncio.sleep(0.01)
    return True


async def _broken_chunk(exchange: Exchange) -> bool:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    await exchange.send(head + b'zz\r\n{"choices": [\r\n0\r\n\r\n')
    return False


async def _no_http(exchange: Exchange) -> bool:
    await exchange.send(b"\x00\xff SSH-2.0-OpenSSH_9.2 \r\n\r\n")
    return False


async def _endless_headers(exchange: Exchange) -> bool:
    await exchange.send(b"HTTP/1.1 200 OK\r\n")
    for number in range(3000):
        await exchange.send(b"X-Padding-%d: %s\r\n" % (number, b"x" * 4000))
    return False


async def _honest_gzip(exchange: Exchange) -> bool:
    packer = zlib.compressobj(wbits=31)
    raw = packer.compress(json.dumps(exchange.honest).encode()) + packer.flush()
    return await exchange.send(http(200, raw, Content_Encoding="gzip"))


async def _wrong_type(exchange: Exchange) -> bool:
    raw = json.dumps(exchange.honest).encode()
    return await exchange.send(http(200, raw, Content_Type="text/html; charset=latin-1"))


@cache
def bomb(megabytes: int = 1024) -> bytes:
    """A gzip of so many megabytes in a thousandth of the size, made in a moment."""
    packer = zlib.compressobj(wbits=31)
    zeros = bytes(2**20)
    first = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush the same input gives the same bytes again.
    block = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + block * (megabytes - 1)


def _choice(**changes: Any) -> Callable[[Body], Body]:
    """Changes the first choice; ``content`` and ``refusal`` go into its message."""

    def change(body: Body) -> Body:
        choice = body["choices"][0]
        for name, value in changes.items():
            into = choice["message"] if name in ("content", "refusal") else choice
            into[name] = value
        return body

    return change


def _severity(value: str) -> Callable[[str], str]:
    """Puts raw text in the place of the first severity."""

    def change(text: str) -> str:
        before, mark, after = text.partition('"severity": ')
        return f"{before}{mark}{value}{after.lstrip('0123456789')}"

    return change


def _date() -> str:
    return formatdate(usegmt=True)


PASSING: Mapping[str, Act] = {
    "429 without Retry-After": error(429, "rate_limit_exceeded", "slow down"),
    "429 with Retry-After in seconds": error(429, "rate_limit_exceeded", "wait", Retry_After="1"),
    "429 with Retry-After as a date": error(429, "", "wait", Retry_After=_date),  # type: ignore[arg-type]
    "500": says(500, HTML, Content_Type="text/html"),
    "502": says(502, HTML, Content_Type="text/html"),
    "503": error(503, "", "the model is loading"),
    "529": error(529, "overloaded_error", "overloaded"),
    "closed without a word": _hang_up,
    "reset in mid body": _reset,
    "stall past the deadline": _stall,
    "slow drip": _drip,
    "truncated JSON": wrapped(lambda body: json.dumps(body)[:-20]),
    "valid JSON of the wrong shape": says(200, ["choices", {"message": {"content": "{}"}}]),
    "empty choices": wrapped(lambda body: body | {"choices": []}),
    "content null": wrapped(_choice(content=None)),
    "an error as 200": says(200, {"error": {"message": "upstream failed"}}),
    "finish_reason error": wrapped(_choice(finish_reason="error")),
    "duplicated keys in the body": wrapped(
        lambda body: json.dumps(body)[:-1] + ', "choices": [{"message": {"content": "{}"}}]}'
    ),
    "HTML page as 200": says(200, HTML, Content_Type="text/html"),
    "10 MB of JSON": says(200, lambda: b"[" + b"{}," * (10 * MEGABYTE // 3) + b"{}]"),
    "10 MB error page": says(500, lambda: b"<p>oops</p>" * (MEGABYTE * 10 // 11)),
    "an answer far over max_tokens": reworded(lambda text: text + " " * MEGABYTE),
    "gzip bomb": says(200, bomb, Content_Encoding="gzip"),
    "no gzip, though it says so": says(200, b'{"choices": []}', Content_Encoding="gzip"),
    "a packing nobody asked for": says(200, b"\x1b\x00", Content_Encoding="br"),
    "broken chunks": _broken_chunk,
    "no HTTP": _no_http,
    "headers without end": _endless_headers,
}
"""Gone with another try; every one of them is one attempt in the journal."""

HARMLESS: Mapping[str, Act] = {
    "wrong content type": _wrong_type,
    "honest gzip": _honest_gzip,
    "NaN in the usage": wrapped(
        lambda body: (
            body | {"usage": {"prompt_tokens": float("nan"), "completion_tokens": -(10**400)}}
        )
    ),
}
"""Answers that need no second try."""

FINAL: Mapping[str, Act] = {
    "content null with a refusal": wrapped(_choice(content=None, refusal="I cannot judge this.")),
    "content_filter": wrapped(_choice(content="", finish_reason="content_filter")),
    "400 of a content filter": error(400, "content_filter", "the prompt triggered a policy"),
    "context length": error(400, "context_length_exceeded", "maximum context length is 64 tokens"),
    "finish_reason length in mid verdict": reworded(lambda text: text[:-30], finish="length"),
    "content null, finish_reason length": wrapped(_choice(content=None, finish_reason="length")),
    "truncated verdict": reworded(lambda text: text[:-30]),
    "duplicated keys": reworded(lambda text: text[:-1] + ", " + text[1:]),
    "out-of-schema keys": reworded(lambda text: text[:-1] + ', "overall": {"violates": false}}'),
    "NaN": reworded(_severity("NaN")),
    "huge number": reworded(_severity("1e999")),
    "huge integer": reworded(_severity("1" + "0" * 400)),
    "two verdicts": reworded(lambda text: text + text.replace("false", "true")),
    "nested without end": reworded(lambda text: '{"safety": ' * 5000),
    "HTML as an answer": reworded(lambda text: HTML),
}
"""The last word about a row, whatever is tried again."""

STOPPING: Mapping[str, Act] = {
    "redirect": says(307, "", Location="https://elsewhere.example/v1/chat/completions"),
    "key refused": error(401, "invalid_api_key", "Incorrect API key provided"),
    "key forbidden": error(403, "", "this key may not use this model"),
    "quota spent": error(429, "insufficient_quota", "You exceeded your current quota"),
    "model not found": error(404, "model_not_found", "The model does not exist"),
}
"""No other row can have better luck."""

PENDING: Mapping[str, Act] = {
    "400 of no known kind": error(400, "bad_request", "something about this request"),
}
"""Not tried again, and no word about the row either."""

FAULTS: Mapping[str, Act] = {**PASSING, **HARMLESS, **FINAL, **STOPPING, **PENDING}
