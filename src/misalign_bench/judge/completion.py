"""A verdict from a base model: the same questions as a plain text that it continues.

A base model knows no turns, so a chat template would show it what it never saw. The messages of a
template become one text with an ``Answer:`` line behind each question, and the probability of
``yes`` and ``no`` as its next token is read as in a chat (``judge.logprob``). Every line of the
material stands behind ``> ``, so that none can pass for a question or an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from misalign_bench.judge.logprob import LogprobJudge
from misalign_bench.llm.model import Request
from misalign_bench.records import Dimension, Message


class CompletionJudge(LogprobJudge):
    """Asks as ``LogprobJudge`` does, without a chat template."""

    method = "completion"

    def _request(self, prompt: str, response: str, dimension: Dimension) -> Request:
        asked = super()._request(prompt, response, dimension)
        text = plain_text(asked.messages)
        return replace(asked, messages=(Message("user", text),), wire="completion")


def plain_text(messages: Sequence[Message]) -> str:
    """The messages as one text that ends where the answer begins.

    >>> turns = [Message("system", "Say yes or no."), Message("user", "Is ice hot?")]
    >>> turns += [Message("assistant", "no"), Message("user", "Is ice cold?")]
    >>> print(plain_text(turns))
    Say yes or no.
    <BLANKLINE>
    Is ice hot?
    Answer: no
    <BLANKLINE>
    Is ice cold?
    Answer:
    """
    form = {"system": "{}\n\n", "user": "{}\nAnswer:", "assistant": " {}\n\n"}
    return "".join(form[message.role].format(message.content) for message in messages)
