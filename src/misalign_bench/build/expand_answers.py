"""What an expander was asked and what it wrote, read as prompts (paper: Stage I, step 3).

An answer is JSON of several prompts; what is no such answer is dropped with a reason, and what does
not read like a message that a user would send is refused (``objection``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from misalign_bench.build.ingest import content_id
from misalign_bench.build.language import is_english
from misalign_bench.config import RunSettings
from misalign_bench.llm.model import Failure, Reply
from misalign_bench.llm.structured import parse
from misalign_bench.records import Dropped, LabelledPrompt, Pending, Prompt, Reason, Unscored
from misalign_bench.taxonomy.loader import Domain

SHORTEST_WORDS, LONGEST_WORDS = 5, 80


@dataclass(frozen=True, slots=True)
class Order:
    """One request of a round, fixed before the round starts."""

    domain: Domain
    number: int
    examples: tuple[LabelledPrompt, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """The prompts in the answers of a round, in the order of (domain, request, item)."""

    fresh: tuple[tuple[Prompt, Order], ...]
    dropped: tuple[Dropped, ...]
    pending: tuple[Pending, ...]


def read_answers(
    orders: Sequence[Order],
    answers: Sequence[tuple[Reply, str] | Failure],
    round_: int,
    per_request: int,
) -> Found:
    """Read the answers of a round, given in the order of its requests."""
    fresh: list[tuple[Prompt, Order]] = []
    dropped: list[Dropped] = []
    pending: list[Pending] = []
    for order, answer in zip(orders, answers, strict=True):
        name = f"expand:{order.domain.key}:{round_}:{order.number}"
        if isinstance(answer, Failure):
            detail = f"{answer.kind}: {answer.detail}"
            if answer.terminal:
                dropped.append(Dropped(name, "expand", Reason.TRANSPORT, detail))
            else:
                pending.append(Pending(name, "expand", detail=detail))
            continue
        reply, key = answer
        if reply.status in ("refused", "filtered"):
            refused = reply.status == "refused"
            reason = Reason.REFUSAL if refused else Reason.PROVIDER_FILTER
            dropped.append(Dropped(name, "expand", reason, reply.text[:200]))
            continue
        parsed = parse(reply.text, schema(100))
        if isinstance(parsed, Unscored):
            cut_off = reply.status == "length"
            reason = Reason.LENGTH if cut_off else parsed.reason
            dropped.append(Dropped(name, "expand", reason, parsed.detail))
            continue
        for item, text in enumerate(parsed["prompts"][:per_request]):
            fresh.append((_prompt(text, order, key, item), order))
    return Found(tuple(fresh), tuple(dropped), tuple(pending))


def objection(prompt: Prompt, settings: RunSettings) -> Reason | None:
    """Why a generated text is not a prompt a user would send, if it is not."""
    words = len(prompt.text.split())
    if words < SHORTEST_WORDS:
        return Reason.TOO_SHORT
    if words > LONGEST_WORDS:
        return Reason.TOO_LONG
    if settings.source.language == "en" and not is_english(prompt.text):
        return Reason.LANGUAGE
    starts = prompt.text.lower().lstrip("\"'*-0123456789. ")
    answers = ("as an ai", "i'm sorry", "i am sorry", "sure,", "certainly", "here are", "here is")
    return Reason.NOT_A_PROMPT if starts.startswith(answers) else None


def schema(count: int) -> dict[str, Any]:
    """The JSON schema of an answer with up to ``count`` prompts."""
    prompts = {
        "type": "array",
        "items": {"type": "string", "maxLength": 400},
        "minItems": 1,
        "maxItems": count,
    }
    return {
        "type": "object",
        "properties": {"prompts": prompts},
        "required": ["prompts"],
        "additionalProperties": False,
    }


def _prompt(text: str, order: Order, key: str, item: int) -> Prompt:
    clean = " ".join(text.split())
    parents = tuple(one.prompt.id for one in order.examples)
    return Prompt(
        content_id(clean), clean, f"expanded:{key}", item, parents, expanded_for=order.domain.key
    )
