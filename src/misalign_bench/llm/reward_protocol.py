"""What a reward model is asked and what it answers: a conversation goes in, one number comes out.

Two interfaces of vLLM's server, both at its root and both taking the messages of a chat, to which
it applies the model's own template (vLLM documentation, "Pooling models", "Classification API" and
"Pooling API", versions 0.15 and 0.18):

- ``/classify`` for sequence classifiers with one class (``…ForSequenceClassification``, as most
  reward models are published); ``data[0].probs`` holds the number. ``use_activation: false`` asks
  for it as the model gives it; a server that does not know the field squeezes it into (0, 1),
  which keeps the order.
- ``/pooling`` for models with a reward head (``…ForRewardModel``); ``data[0].data`` holds a row
  for each token, and the last row is the reward of the whole.

The reply's text is the number, written so that it reads back as the same float.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from misalign_bench.llm.chat_protocol import FULL, Dialect, decode
from misalign_bench.llm.model import Failure, Reply, Request

_FIELD = {"classify": "probs", "pooling": "data"}


def reward_payload(
    request: Request, seed: int, model_name: str, dialect: Dialect = FULL
) -> dict[str, Any]:
    """The body of a call for a reward; nothing is sampled, so seed and dialect play no part."""
    messages = [{"role": item.role, "content": item.content} for item in request.messages]
    body: dict[str, Any] = {"model": model_name, "messages": messages}
    if request.wire == "classify":
        return body | {"use_activation": False}
    return body | {"encoding_format": "float"}


def decode_reward(body: object, request: Request) -> Reply | Failure:
    """The reward in the body of a successful call, or what is wrong with the body.

    A body that holds several numbers comes from a model that is no reward model: that stops the
    run.
    """
    if not isinstance(body, dict) or body.get("error"):
        return decode(body, request)
    found = _numbers(body, _FIELD[request.wire])
    if found is None:
        return Failure("wrong_shape", f"the body has no {_FIELD[request.wire]}")
    if len(found) != 1:
        detail = f"it gives {len(found)} numbers for a conversation, a reward model gives one"
        return Failure("no_reward", detail, passing=False, fatal=True)
    (value,) = found
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return Failure("wrong_shape", "the reward is no finite number")
    message = {"role": "assistant", "content": repr(float(value))}
    return decode({**body, "choices": [{"message": message}]}, request)


def _numbers(body: Mapping[str, Any], field: str) -> list[Any] | None:
    """The numbers of the first result; of several rows, one for each token, the last."""
    results = body.get("data")
    first = results[0] if isinstance(results, list) and results else None
    held = first.get(field) if isinstance(first, dict) else None
    if isinstance(held, list) and held and isinstance(held[-1], list):
        held = held[-1]
    return held if isinstance(held, list) and held else None
