"""The draws for one prompt and the verdicts on them, found in a journal by what was asked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import takewhile
from pathlib import Path

from misalign_bench.build.ingest import content_id
from misalign_bench.journal.store import Entry, Journal
from misalign_bench.judge.consistency import SWAPPED_MARK
from misalign_bench.judge.logprob import violation
from misalign_bench.judge.structured import read
from misalign_bench.llm.calls import ACCEPTED_FAILURE, reply_of
from misalign_bench.llm.structured import parse
from misalign_bench.prompts.loader import quoted, template
from misalign_bench.prompts.visible import visible
from misalign_bench.records import DIMENSIONS, KINDS, Dimension, Unscored
from misalign_bench.taxonomy.loader import taxonomy

_PREFIX = "respond_"
_QUOTED = re.compile(r"(?:^> .*(?:\n|\Z))+", re.MULTILINE)
_MARKED = re.compile(r"^([0-9a-f]{16})\n(.*?)\n\1$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Said:
    """What the evaluator answered about one dimension.

    Attributes:
        flagged: None where there is no verdict, or no threshold to compare the score with.
        score: probability of a violation, where the method gives one.
        words: the evaluator's reason, or why there is no verdict.
    """

    dimension: str
    flagged: bool | None
    score: float | None
    threshold: float | None
    words: str
    template: str
    key: str


@dataclass(frozen=True, slots=True)
class Journalled:
    """A draw as the journal holds it.

    Attributes:
        told: the first line of the feedback that it answers to; empty in the first round.
    """

    generator: str
    kind: str
    round: int
    index: int
    template: str
    key: str
    status: str
    text: str
    told: str
    verdict: tuple[Said, ...] = ()


def find_prompt(path: Path, prompt_id: str) -> str:
    """The text of a prompt by its id, from what models were asked or wrote; else empty.

    Raises:
        UserError: the journal is damaged.
    """
    with Journal.open(path, read_only=True) as journal:
        for role in ("generator", "classifier", "expander"):
            for entry in journal.entries(role=role):
                for text in _prompts_in(entry):
                    if content_id(text) == prompt_id:
                        return text
    return ""


def read_journal(
    path: Path, prompt_id: str, text: str, thresholds: Mapping[str, float]
) -> list[Journalled]:
    """Every draw for a prompt with its verdict, in the order of generator, kind, round and number.

    Args:
        path: the journal.
        prompt_id: the prompt.
        text: its text, if it is known.
        thresholds: of the evaluator, by dimension.

    Raises:
        UserError: the journal is damaged.
    """
    with Journal.open(path, read_only=True) as journal:
        draws = [
            draw_of(entry)
            for entry in journal.entries(role="generator")
            if _is_about(entry, prompt_id, text)
        ]
        if not draws:
            return []
        verdicts = _verdicts(journal, text, {draw.text for draw in draws}, thresholds)
    draws.sort(key=lambda draw: (draw.generator, _order(draw.kind), draw.round, draw.index))
    return [replace(draw, verdict=tuple(verdicts.get(draw.text, ()))) for draw in draws]


def draw_of(entry: Entry) -> Journalled:
    """A generator's answer as a draw, without its verdict."""
    failed = entry.status == ACCEPTED_FAILURE
    text = "" if failed else str(entry.response["text"]).strip()
    feedback = entry.request["messages"][-1][1] if entry.round else ""
    return Journalled(
        generator=entry.model,
        kind=_kind(entry),
        round=entry.round,
        index=entry.index,
        template=entry.template,
        key=entry.key,
        status=entry.status,
        text=text,
        told=feedback.partition("\n")[0],
    )


def _is_about(entry: Entry, prompt_id: str, text: str) -> bool:
    held = prompt_of(entry)
    if held:
        # A message is stripped when it is rendered, and so may be its prompt.
        return content_id(held) == prompt_id or (bool(text) and held.strip() == text.strip())
    return bool(text) and any(text.strip() in message for _, message in entry.request["messages"])


def _prompts_in(entry: Entry) -> list[str]:
    """The prompts that an answer is about, or, of an expander's, that it holds."""
    if entry.role == "generator":
        return [prompt_of(entry)]
    if entry.role == "classifier":
        return [match[2] for match in _MARKED.finditer(str(entry.request["messages"][-1][1]))]
    held = parse(str(entry.response.get("text", "")), {})
    items = [] if isinstance(held, Unscored) else held.get("prompts", [])
    return [" ".join(item.split()) for item in items if isinstance(item, str)]


def prompt_of(entry: Entry) -> str:
    """The prompt in what a generator was asked; empty if its template has another form by now."""
    kind = _kind(entry)
    if kind not in KINDS:
        return ""
    place, before, after = _frame(kind)
    messages = entry.request["messages"]
    message = str(messages[place][1]) if place < len(messages) else ""
    start, end = message.find(before), message.rfind(after)
    return message[start + len(before) : end] if 0 <= start <= end else ""


@cache
def _frame(kind: str) -> tuple[int, str, str]:
    """Where a prompt stands in a template's messages: which one, and the text around it."""
    mark, used = "\0", template(_PREFIX + kind)
    ends = (taxonomy().domains[0], taxonomy().domains[-1])
    shown = [used.render(prompt=mark, domains=list(domains)) for domains in ((), ends)]
    place = next(number for number, message in enumerate(shown[0]) if mark in message.content)
    sides = [messages[place].content.split(mark) for messages in shown]
    (left, right), (other_left, other_right) = sides
    before = _shared_start(left[::-1], other_left[::-1])[::-1]
    return place, before, _shared_start(right, other_right)


def _shared_start(one: str, other: str) -> str:
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return "".join(letter for letter, _ in pairs)


def _verdicts(
    journal: Journal, prompt: str, responses: set[str], thresholds: Mapping[str, float]
) -> dict[str, list[Said]]:
    """The evaluator's answers on these responses to this prompt, by response."""
    wanted = {
        form: response
        for response in responses
        for shown in (visible, str)  # ``str``: as they were sent before templates named characters
        for asked, said in [(shown(prompt), shown(response))]
        for form in ((quoted(asked), quoted(said)), (asked, said))
    }
    found: dict[str, list[Said]] = {}
    for entry in journal.entries(role="evaluator"):
        if SWAPPED_MARK in entry.template:
            continue  # asked for consistency only, it decided nothing
        judged = judged_texts(str(entry.request["messages"][-1][1]))
        response = wanted.get(judged)
        if response is not None:
            found.setdefault(response, []).extend(said_by(entry, thresholds))
    for said in found.values():
        said.sort(key=lambda one: (one.template, _place(one.dimension)))
    return found


def judged_texts(message: str) -> tuple[str, str]:
    """Prompt and response in what an evaluator was asked, as they stand there."""
    marked = [match[2] for match in _MARKED.finditer(message)]
    blocks = marked or [match[0].rstrip("\n") for match in _QUOTED.finditer(message)]
    return (blocks[-2], blocks[-1]) if len(blocks) > 1 else ("", "")


def said_by(entry: Entry, thresholds: Mapping[str, float]) -> Iterator[Said]:
    """What an evaluator's answer says in each dimension that it was asked about."""
    used, key = entry.template, entry.key
    if entry.status == ACCEPTED_FAILURE:
        yield Said("", None, None, None, str(entry.response["detail"]), used, key)
        return
    if entry.request["options"]:
        yield _leaning(entry, thresholds)
        return
    asked = (entry.request["schema"] or {}).get("properties", {})
    dimensions = tuple(one for one in DIMENSIONS if one in asked)
    judged = judged_texts(str(entry.request["messages"][-1][1]))
    for dimension, answer in read(reply_of(entry), dimensions, judged).items():
        if isinstance(answer, Unscored):
            words = f"no verdict: {answer.reason.value} {answer.detail}".rstrip()
            yield Said(dimension, None, None, None, words, used, key)
        else:
            yield Said(dimension, answer.flagged, None, None, answer.reason, used, key)


def _leaning(entry: Entry, thresholds: Mapping[str, float]) -> Said:
    """A verdict by log-probability."""
    name = entry.template.partition("@")[0]
    question = str(entry.request["messages"][-1][1]).rpartition("\n")[2]
    dimension = _questions(name).get(question, question)
    options = entry.response["options"]
    if not options:
        words = f"no verdict: {entry.status}, no log-probabilities"
        return Said(dimension, None, None, None, words, entry.template, entry.key)
    score = violation(options, positive=name != "judge_violates")
    threshold = thresholds.get(dimension)
    flagged = None if threshold is None else score > threshold
    return Said(dimension, flagged, score, threshold, "", entry.template, entry.key)


@cache
def _questions(name: str) -> dict[str, Dimension]:
    """The dimension that a template's last line asks about; empty if it is not shipped any more."""
    try:
        used = template(name)
    except FileNotFoundError:
        return {}
    found = {}
    for dimension in DIMENSIONS:
        message = used.render(prompt="", response="", dimension=dimension)[-1]
        found[message.content.rpartition("\n")[2]] = dimension
    return found


def _kind(entry: Entry) -> str:
    return entry.template.partition("@")[0].removeprefix(_PREFIX)


def _order(kind: str) -> tuple[int, str]:
    known: Sequence[str] = KINDS
    return (known.index(kind) if kind in known else len(known)), kind


def _place(dimension: str) -> int:
    known: Sequence[str] = DIMENSIONS
    return known.index(dimension) if dimension in known else len(known)
