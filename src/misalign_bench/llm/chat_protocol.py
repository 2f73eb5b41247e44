"""The Chat Completions protocol as pure functions: request to payload, body to reply.

Shared by the ``openai/`` and the ``embedded/`` provider, so that a model answers through the same
decoding wherever it runs. Fields: https://platform.openai.com/docs/api-reference/chat. A server
that lacks a field says so with a 400; ``adapt`` then leaves it out, and the key does not change.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from misalign_bench.json_text import read_json
from misalign_bench.llm.model import Failure, Reply, Request, Status
from misalign_bench.llm.secrets import redact

_SPACE_MARKS = str.maketrans("", "", "\u0120\u2581\u010a")  # how tokenizers print a leading space
_FILTERED = re.compile(r"content_filter|content_policy|content management policy|moderation")
_TOO_LONG = re.compile(
    r"context_length|context length|context size|context window|too many tokens|max_new_tokens|"
    r"(?:prompt|input) is too long"
)
_FATAL = {401: "unauthorized", 402: "quota", 403: "unauthorized", 404: "unknown_model"}
_PASSING = {408: "timeout", 409: "conflict", 425: "too_early", 429: "rate_limited"} | {
    502: "unavailable",
    503: "unavailable",
    504: "timeout",
    529: "unavailable",
}
_BROKEN_OFF = ("error", "abort", "cancelled")
_FEWEST_CHARACTERS, _CHARACTERS_PER_TOKEN = 2**16, 64
_LONGEST_NAME = 200
_FEWER_LOGPROBS = {20: 5, 5: 0}


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a server is known not to take, learned from its 400s; never part of a key.

    ``refused_schemas`` holds schemas as canonical JSON: some servers take one and not another.
    """

    refused_schemas: frozenset[str] = frozenset()
    top_logprobs: int = 20
    seed: bool = True
    limit_field: str = "max_tokens"


FULL = Dialect()


def payload(
    request: Request, seed: int, model_name: str, dialect: Dialect = FULL
) -> dict[str, Any]:
    """The body of a Chat Completions call.

    A request with ``options`` asks for one token and the 20 likeliest in its place.
    """
    body: dict[str, Any] = {
        "model": model_name,
        "messages": [{"role": item.role, "content": item.content} for item in request.messages],
        "temperature": request.sampling.temperature,
        "top_p": request.sampling.top_p,
        dialect.limit_field: 1 if request.options else request.sampling.max_tokens,
    }
    if dialect.seed:
        body["seed"] = seed
    if request.options and dialect.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": dialect.top_logprobs}
    if request.schema is not None and not _refused(request.schema, dialect):
        body["response_format"] = response_format(request.schema)
    return body


def response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The member of a request that holds an answer to a JSON schema."""
    named = {"name": "answer", "strict": True, "schema": schema}
    return {"type": "json_schema", "json_schema": named}


def decode(body: object, request: Request) -> Reply | Failure:
    """The reply in the body of a successful call, or what is wrong with the body.

    Everything that is wrong here is passing: a gateway that answered half may answer whole.
    """
    if not isinstance(body, dict):
        return Failure("wrong_shape", f"the body is a {type(body).__name__}")
    choice = _choice(body)
    if isinstance(choice, Failure):
        return choice
    message = choice["message"]
    status = _status(choice, request)
    text = _text(message.get("content"))
    if status == "refused" and not text:
        text = _text(message.get("refusal"))
    options = _options(choice.get("logprobs"), request.options) if request.options else None
    # Cut off before its first word, as a model is that thinks first: final, and no text.
    if text is None and status == "ok" and options is None:
        return Failure("no_content", "the message has no text")
    text = text or ""
    most = max(_FEWEST_CHARACTERS, _CHARACTERS_PER_TOKEN * request.sampling.max_tokens)
    if len(text) > most:
        asked = f"{request.sampling.max_tokens} tokens were asked for"
        return Failure("oversized", f"an answer of {len(text)} characters, where {asked}")
    return _reply(body, text, status, options)


def refusal(status: int, body: bytes, retry_after: float | None = None) -> Reply | Failure:
    """What an HTTP status other than 200 means.

    A provider's filter and a prompt that is too long are final answers about the row; a wrong key,
    an unknown model and a spent quota stop the run; 4xx otherwise stop the row; 5xx pass.
    """
    message = _message(body)
    lower = message.lower()
    if status in (400, 403, 422) and _FILTERED.search(lower):
        return Reply("", status="filtered", cost=0.0)
    if status in (400, 413, 422) and _TOO_LONG.search(lower):
        return Reply("", status="length", cost=0.0)
    detail = f"HTTP {status}: {message}" if message else f"HTTP {status}"
    fatal = "quota" if "insufficient_quota" in lower else _FATAL.get(status)
    if fatal or 300 <= status < 400:
        return Failure(fatal or "redirected", detail, passing=False, fatal=True)
    if status in _PASSING or (status >= 500 and status != 501):
        kind = _PASSING.get(status, "server_error")
        return Failure(kind, detail, retry_after=retry_after)
    return Failure("rejected", detail, passing=False)


def adapt(dialect: Dialect, request: Request, body: bytes) -> Dialect | None:
    """The dialect without what a 400 or 422 complains about; None if it is about something else."""
    message = _message(body).lower()
    if (
        request.schema is not None
        and re.search(r"response_format|json_schema|schema|grammar|structured output", message)
        and not _refused(request.schema, dialect)
    ):
        refused = dialect.refused_schemas | {_canonical(request.schema)}
        return replace(dialect, refused_schemas=refused)
    if request.options and "logprobs" in message and dialect.top_logprobs:
        return replace(dialect, top_logprobs=_FEWER_LOGPROBS[dialect.top_logprobs])
    if "max_completion_tokens" in message and dialect.limit_field == "max_tokens":
        return replace(dialect, limit_field="max_completion_tokens")
    if dialect.seed and re.search(r"\bseed\b", message):
        return replace(dialect, seed=False)
    return None


def _choice(body: Mapping[str, Any]) -> dict[str, Any] | Failure:
    """The first choice, which holds a message."""
    if body.get("error"):
        return Failure("server_error", _message(body))
    choices = body.get("choices")
    if choices == []:
        return Failure("empty_choices", "the list of choices is empty")
    choice = choices[0] if isinstance(choices, list) else None
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        return Failure("wrong_shape", "the body has no choice with a message")
    if choice.get("error"):
        return Failure("server_error", _message(choice))
    if choice.get("finish_reason") in _BROKEN_OFF:
        return Failure("server_error", f"it ended with {choice['finish_reason']}")
    return choice


def _status(choice: Mapping[str, Any], request: Request) -> Status:
    if choice.get("finish_reason") == "content_filter":
        return "filtered"
    if choice["message"].get("refusal"):
        return "refused"
    # One token was asked for: that it ended there is no news.
    if choice.get("finish_reason") == "length" and not request.options:
        return "length"
    return "ok"


def _reply(body: object, text: str, status: Status, options: Mapping[str, float] | None) -> Reply:
    body = body if isinstance(body, dict) else {}
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    served = (body.get("model"), body.get("system_fingerprint"))
    return Reply(
        text=_storable(text),
        status=status,
        options=options,
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else 0,
        served=_storable(" ".join(part for part in served if isinstance(part, str) and part))[
            :_LONGEST_NAME
        ],
    )


def _text(content: object) -> str | None:
    """Text of a message's content: a string, or a list of parts; None if there is none."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        texts = [part for part in parts if isinstance(part, str)]
        return "".join(texts) if texts else None
    return None


def _options(logprobs: object, options: tuple[str, ...]) -> dict[str, float] | None:
    """Log-probability of each option as the first token, None if the server gave none.

    Tokens that equal an option but for case and surrounding space count together (logsumexp). An
    option that is not listed gets the least listed log-probability, which bounds it from above.
    """
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    first = content[0] if isinstance(content, list) and content else None
    if not isinstance(first, dict):
        return None
    top = first.get("top_logprobs")
    listed = _listed(top if isinstance(top, list) else [])
    if not listed:
        return None
    # The sampled token may stand outside the list of the likeliest.
    listed = {**_listed([first]), **listed}
    least = min(listed.values())
    return {option: _log_sum(option, listed, least) for option in options}


def _listed(items: list[Any]) -> dict[str, float]:
    """Token to log-probability, for the items that hold both."""
    found = {}
    for item in items:
        token, value = (
            (item.get("token"), item.get("logprob")) if isinstance(item, dict) else 2 * (None,)
        )
        if isinstance(token, str) and _is_logprob(value):
            found[token] = min(0.0, float(value))
    return found


def _is_logprob(value: object) -> TypeGuard[float]:
    """Whether it is a finite number not above zero, but for rounding; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return -sys.float_info.max <= value <= 0.01


def _log_sum(option: str, listed: Mapping[str, float], least: float) -> float:
    wanted = _plain(option)
    values = [value for token, value in listed.items() if _plain(token) == wanted]
    if not values:
        return least
    top = max(values)
    return min(0.0, top + math.log(sum(math.exp(value - top) for value in values)))


def _plain(token: str) -> str:
    return token.translate(_SPACE_MARKS).strip().casefold()


def _count(value: object) -> int:
    """A token count; zero for whatever a server puts in its place."""
    usable = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
    return int(value) if usable else 0  # type: ignore[call-overload]


def _storable(text: str) -> str:
    """The text with halves of surrogate pairs replaced, since no file holds them."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _message(body: object) -> str:
    """What an error body says, in one short line."""
    if isinstance(body, bytes):
        text = body[:65536].decode("utf-8", "replace")
        try:
            body = read_json(text)
        except ValueError:
            return _line(text)
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        parts = [error.get(name) for name in ("code", "type", "message", "detail")]
        held = [str(part) for part in parts if part not in (None, "")]
        return _line(" ".join(held) or json.dumps(error))
    return _line(str(error))


def _line(text: str) -> str:
    # Redacted before it is cut: half a key would not be recognised.
    return redact(" ".join(_storable(text).split()))[:300]


def _refused(schema: Mapping[str, Any], dialect: Dialect) -> bool:
    return bool(dialect.refused_schemas) and _canonical(schema) in dialect.refused_schemas


def _canonical(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, sort_keys=True)
