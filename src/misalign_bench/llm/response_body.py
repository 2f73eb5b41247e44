"""Read the body of an answer within bounds, packed or not (RFC 9110, content coding).

A few kilobytes of gzip can hold gigabytes, so the body is unpacked here, piece by piece, and never
beyond the bound; nothing is left to the HTTP library. The largest honest body is far below it: an
answer of 131,072 tokens is well under 1 MiB.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from misalign_bench.llm.model import Failure

if TYPE_CHECKING:
    from aiohttp import ClientResponse

ACCEPTED = "gzip, deflate"
LARGEST = 4 * 2**20
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS

Unpack = Callable[[bytes, int], bytes]
"""From the next bytes of the wire to at most so many bytes of the body."""


async def read_body(response: ClientResponse) -> bytes | Failure:
    """The whole body, or why it cannot be used. The caller sees to the deadline."""
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding in ("", "identity"):
        read = await _joined(response.content.iter_any(), lambda chunk, _: chunk)
    elif coding in ("gzip", "x-gzip", "deflate"):
        unpack = zlib.decompressobj(_GZIP_OR_ZLIB).decompress
        try:
            read = await _joined(response.content.iter_any(), unpack)
        except zlib.error:
            read = Failure("not_json", f"the body is said to be {coding} and is not")
    else:
        read = Failure("not_json", f"the body is packed in a way that was not asked: {coding[:40]}")
    if isinstance(read, Failure):
        response.close()
    return read


async def _joined(chunks: AsyncIterator[bytes], unpack: Unpack) -> bytes | Failure:
    held = bytearray()
    async for chunk in chunks:
        held += unpack(chunk, LARGEST - len(held) + 1)
        if len(held) > LARGEST:
            return Failure("oversized", f"the body is over {LARGEST // 2**20} MiB")
    return bytes(held)
