"""The Completions protocol: a plain text goes in, its continuation comes out, no chat template.

For base models, which know no turns. Fields: https://platform.openai.com/docs/api-reference/completions
(legacy); the same at ``/v1/completions`` of vLLM and of llama-server. Log-probabilities of the
first token come in one of two shapes: the endpoint's own (``top_logprobs``, an object per token),
or, from llama-server, that of Chat Completions. Either is turned into a chat body, so that the
decoding of ``chat_protocol`` serves both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from misalign_bench.llm.chat_protocol import FULL, Dialect, decode
from misalign_bench.llm.model import Failure, Reply, Request


def completion_payload(
    request: Request, seed: int, model_name: str, dialect: Dialect = FULL
) -> dict[str, Any]:
    """The body of a Completions call: the text of the one message is the prompt.

    A request with ``options`` asks for one token and the 20 likeliest in its place; ``echo`` stays
    off, so what is listed is the continuation.
    """
    (message,) = request.messages
    body: dict[str, Any] = {
        "model": model_name,
        "prompt": message.content,
        "temperature": request.sampling.temperature,
        "top_p": request.sampling.top_p,
        "max_tokens": 1 if request.options else request.sampling.max_tokens,
    }
    if dialect.seed:
        body["seed"] = seed
    if request.options and dialect.top_logprobs:
        body["logprobs"] = dialect.top_logprobs
    return body


def decode_completion(body: object, request: Request) -> Reply | Failure:
    """The reply in the body of a successful call, or what is wrong with the body."""
    return decode(_as_chat(body) if isinstance(body, dict) else body, request)


def _as_chat(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body as a chat call would have had it; what has no known shape stays as it is."""
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or "text" not in choice:
        return dict(body)
    turned = {
        "message": {"role": "assistant", "content": choice["text"]},
        "finish_reason": choice.get("finish_reason"),
        "logprobs": _first_token(choice.get("logprobs")),
    }
    return {**body, "choices": [turned]}


def _first_token(logprobs: object) -> object:
    """The log-probabilities of the first token as Chat Completions lists them."""
    if not isinstance(logprobs, dict) or "content" in logprobs:
        return logprobs
    first = {name: _first(logprobs.get(name)) for name in ("tokens", "token_logprobs")}
    listed = _first(logprobs.get("top_logprobs"))
    top = listed.items() if isinstance(listed, dict) else ()
    sampled = {"token": first["tokens"], "logprob": first["token_logprobs"]}
    listing = [{"token": token, "logprob": value} for token, value in top]
    return {"content": [{**sampled, "top_logprobs": listing}]}


def _first(values: object) -> object:
    return values[0] if isinstance(values, list) and values else None
