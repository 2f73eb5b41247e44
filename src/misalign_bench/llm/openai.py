"""``openai/NAME``: any server that speaks OpenAI's protocols, hosted or local, over aiohttp.

The raw protocol on one pooled session costs a fraction of the CPU time of a client library
(``benchmarks/client_overhead.py``). What the fields mean is in ``chat_protocol``, and for base and
reward models in ``completion_protocol`` and ``reward_protocol``; ``wires`` says which goes where.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from misalign_bench.config_model import ModelSettings
from misalign_bench.errors import UserError
from misalign_bench.llm import secrets
from misalign_bench.llm.chat_protocol import FULL, adapt, refusal
from misalign_bench.llm.model import Capabilities, Failure, Reply, Request, Wire
from misalign_bench.llm.prices import cost_of, price_of
from misalign_bench.llm.response_body import ACCEPTED, read_body
from misalign_bench.llm.retry import parse_retry_after
from misalign_bench.llm.wires import ROUTES

if TYPE_CHECKING:
    from aiohttp import ClientSession

PUBLIC_API = "https://api.openai.com/v1"
START, CAP = 32, 256
_CONNECT_SECONDS = 20.0
_MOST_DIALECTS = 8


class OpenAIModel:
    """A model behind a Chat Completions endpoint.

    Attributes:
        name: as configured, without the URL.
        identity: provider, model and revision; the URL is no part of it.
        endpoint: the base URL, without credentials.
        concurrency_cap: the most calls in flight; a configured ``concurrency`` is both start and
            cap.
    """

    simulated = False
    capabilities = Capabilities(wires=("chat", "completion", "classify", "pooling"))

    def __init__(self, settings: ModelSettings) -> None:
        provider, _, self._model = settings.model.partition("/")
        base_url = settings.base_url or os.environ.get("OPENAI_BASE_URL", "")
        self.name = settings.model
        self.identity = json.dumps(
            {"model": self._model, "provider": provider, "revision": settings.revision},
            sort_keys=True,
        )
        revision = f"@{settings.revision}" if settings.revision else ""
        self.weights = f"{settings.model}{revision}"
        self.endpoint, self._urls, self._login = _endpoint(base_url or PUBLIC_API)
        self._variable = settings.key_variable
        self._key = secrets.from_environment(settings.key_variable)
        if not self._key and not base_url:
            raise UserError(
                f"{settings.key_variable} holds no key for {self.name}",
                mend=f"Set {settings.key_variable}, or base_url for a server of your own.",
            )
        self.concurrency = settings.concurrency or START
        self.concurrency_cap = settings.concurrency or CAP
        self._price = price_of(settings)
        self._dialect = FULL
        self._session: ClientSession | None = None

    async def send(self, request: Request, seed: int) -> Reply | Failure:
        """Send the request once; again at once only to leave out what the server does not know."""
        route = ROUTES[request.wire]
        for _ in range(_MOST_DIALECTS):
            dialect = self._dialect
            body = json.dumps(route.payload(request, seed, self._model, dialect)).encode()
            answer = await self._post(self._urls[request.wire], body)
            if isinstance(answer, Failure):
                return answer
            status, raw, retry_after = answer
            if status == 200:
                return self._priced(_decoded(raw, request))
            refused = refusal(status, raw, retry_after)
            # A filter's word and a prompt too long are about the row, whatever else they name.
            about_form = status in (400, 422) and isinstance(refused, Failure)
            adapted = adapt(dialect, request, raw) if about_form else None
            if adapted is None:
                return self._named(refused)
            # Another call may have learned something meanwhile; then that is tried first.
            if self._dialect is dialect:
                self._dialect = adapted
        return Failure("rejected", "the server refused every form of the request", passing=False)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _named(self, outcome: Reply | Failure) -> Reply | Failure:
        """With a refused key: where it comes from, never what it is."""
        if isinstance(outcome, Reply) or outcome.kind != "unauthorized":
            return outcome
        origin = f"the key is the one in {self._variable}"
        if not self._key:
            origin = f"no key was sent, since {self._variable} is not set"
        return replace(outcome, detail=f"{outcome.detail}; {origin}")

    def _priced(self, outcome: Reply | Failure) -> Reply | Failure:
        if isinstance(outcome, Failure):
            return outcome
        return replace(outcome, cost=cost_of(self._price, outcome))

    async def _post(self, url: str, body: bytes) -> tuple[int, bytes, float | None] | Failure:
        """Status, body and Retry-After of the server's answer, or why there was none."""
        import aiohttp

        session = self._session or self._open()
        try:
            async with session.post(url, data=body, allow_redirects=False) as response:
                held = await read_body(response)
                if isinstance(held, Failure):
                    return held
                retry_after = parse_retry_after(response.headers.get("Retry-After"))
                return response.status, held, retry_after
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            return Failure("certificate", str(error), passing=False, fatal=True)
        except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as error:
            return Failure("unreachable", str(error) or "no connection in time")
        except (aiohttp.ClientError, OSError) as error:
            return Failure("connection_lost", f"{type(error).__name__}: {error}")
        except asyncio.TimeoutError:
            return Failure("timeout", "the connection timed out")

    def _open(self) -> ClientSession:
        import aiohttp

        headers = {"Content-Type": "application/json", "Accept-Encoding": ACCEPTED}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        elif self._login:
            headers["Authorization"] = f"Basic {b64encode(self._login.encode()).decode()}"
        self._session = aiohttp.ClientSession(
            headers=headers,
            auto_decompress=False,
            connector=aiohttp.TCPConnector(limit=self.concurrency_cap),
            # The whole call has its deadline in the client, the same for every provider.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            # A proxy set for the outside world cannot reach this machine's own ports.
            trust_env=urlsplit(self.endpoint).hostname not in ("localhost", "127.0.0.1", "::1"),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self._session


def _decoded(raw: bytes, request: Request) -> Reply | Failure:
    try:
        body = json.loads(raw, object_pairs_hook=_unambiguous)
        return ROUTES[request.wire].decode(body, request)
    except (ValueError, OverflowError, RecursionError):
        return Failure("not_json", f"the body of {len(raw)} bytes is no JSON")


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which no key has two values: which of them was meant is anybody's guess."""
    table = dict(pairs)
    if len(table) < len(pairs) and any(table[name] != value for name, value in pairs):
        raise ValueError("a key stands twice in one object")
    return table


def _endpoint(base_url: str) -> tuple[str, Mapping[Wire, str], str]:
    """Base URL for people and files, URLs to post to, and the login that stood in it.

    Raises:
        UserError: not a http(s) URL.
    """
    try:
        parts = urlsplit(base_url.strip())
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(f"the base URL is no URL: {error}", where="base_url") from None
    if parts.scheme not in ("http", "https") or not host:
        raise UserError(
            "the base URL must start with http:// or https:// and name a host",
            where="base_url",
            mend="For example http://127.0.0.1:8000/v1.",
        )
    address = f"[{host}]" if ":" in host else host
    address += f":{port}" if port else ""
    login = unquote(f"{parts.username}:{parts.password or ''}") if parts.username else ""
    # The login as a whole too: in the header it travels as base64, and may come back so.
    for value in (parts.password or "", unquote(parts.password or ""), login):
        secrets.register(value)
    for _, value in parse_qsl(parts.query):
        secrets.register(value)
    path = parts.path.rstrip("/")
    endpoint = urlunsplit((parts.scheme, address, path, "", ""))
    urls = {
        wire: urlunsplit((parts.scheme, address, route.below(path), parts.query, ""))
        for wire, route in ROUTES.items()
    }
    return endpoint, urls, login
