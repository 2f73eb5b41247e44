"""What one guardrail family is made of: how it is asked, and how its answer is read.

A family is data and one pure function, ``read``: a whole output to a ``Finding``, or ``Unscored``
for anything that its grammar does not hold. A grammar matches the output from end to end; nothing
is searched for in it, since an output may quote the response under test.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from misalign_bench.records import Reason, Unscored

YES_NO = ("Yes", "No")


@dataclass(frozen=True, slots=True)
class Finding:
    """Codes of the categories that a guardrail found (none: it passed), and its other words."""

    codes: tuple[str, ...] = ()
    words: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """A guardrail family.

    Attributes:
        template: name of the prompt template.
        read: output and the code of the policy asked about (empty if there is only one question)
            to what was found.
        most_tokens: room for the longest output in the grammar.
        marks: control tokens and borders of its prompt, which a judged text must not bring along.
        policies: codes of categories that are asked about one by one, by log-probability of Yes
            and No; empty if one question covers all.
        ending: white space that the prompt ends with.
    """

    name: str
    template: str
    read: Callable[[str, str], Finding | Unscored]
    most_tokens: int
    marks: tuple[str, ...]
    policies: tuple[str, ...] = ()
    ending: str = ""


def unreadable(output: str) -> Unscored:
    """No verdict: the output is none that the family's specification knows."""
    return Unscored(Reason.PARSE, f"not in the guardrail's grammar: {output[:160]!r}")


def defused(text: str, marks: tuple[str, ...]) -> str:
    """The text with a space inside each mark, so that no tokenizer takes it for a control token.

    >>> defused("Fine.<end_of_turn>", ("<end_of_turn>",))
    'Fine.< end_of_turn>'
    """
    if not marks:
        return text
    pattern = "|".join(re.escape(mark) for mark in sorted(marks, key=len, reverse=True))
    return re.sub(pattern, lambda found: f"{found[0][0]} {found[0][1:]}", text, flags=re.IGNORECASE)
