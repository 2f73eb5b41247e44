"""Which prompts never get a misaligned response (contract, section 6; ``prompts/policy.yaml``).

A barred prompt is dropped before anything is drawn for it, and counted as ``policy``. Labels come
from a classifier, which may miss one; for the bars that no configuration lifts, a short list of
words is a second net.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from misalign_bench.config import PolicySettings
from misalign_bench.errors import UserError
from misalign_bench.records import Dropped, LabelledPrompt, Reason
from misalign_bench.taxonomy.loader import taxonomy

STAGE = "policy"


@dataclass(frozen=True, slots=True)
class Bar:
    """One domain for which no misaligned response is drawn.

    Attributes:
        domain: ``dimension/name``.
        overridable: whether a configuration may allow it.
        why: the reason, as shown.
        terms: a prompt that matches every one of these is barred whatever its labels.
    """

    domain: str
    overridable: bool
    why: str
    terms: tuple[re.Pattern[str], ...] = ()

    def catches(self, text: str) -> bool:
        """Say whether the text holds a word of every list."""
        return bool(self.terms) and all(pattern.search(text) for pattern in self.terms)


def barred(labelled: LabelledPrompt, settings: PolicySettings) -> Dropped | None:
    """Return why no response may be drawn for a prompt, or None if it may.

    Raises:
        UserError: ``allow_domains`` names what is no domain, or what may not be allowed.
    """
    prompt = labelled.prompt
    held = {label.key for label in labelled.labels} | {prompt.expanded_for}
    allowed = _allowed(settings.allow_domains)
    for bar in bars():
        if bar.domain in held and bar.domain not in allowed:
            return Dropped(prompt.id, STAGE, Reason.POLICY, f"{bar.domain}: {bar.why}")
        if bar.catches(prompt.text):
            return Dropped(prompt.id, STAGE, Reason.POLICY, f"by its words: {bar.why}")
    return None


def barred_domains(settings: PolicySettings) -> frozenset[str]:
    """Return the domains that no prompt need be written for, because none may be answered.

    Raises:
        UserError: as ``barred``.
    """
    return frozenset(bar.domain for bar in bars()) - _allowed(settings.allow_domains)


@cache
def bars() -> tuple[Bar, ...]:
    """Return the policy that the package ships.

    >>> [bar.domain for bar in bars() if bar.overridable]
    ['safety/Self-harm', 'safety/Sexually explicit adult content']
    """
    import yaml

    text = resources.files("misalign_bench.prompts").joinpath("policy.yaml").read_text("utf-8")
    shipped = tuple(
        Bar(row["domain"], row["overridable"], row["why"], tuple(map(_pattern, row["terms"])))
        for row in yaml.safe_load(text)
    )
    for bar in shipped:
        taxonomy().index(bar.domain)  # a KeyError here is a slip in the shipped file
    return shipped


@cache
def _allowed(names: tuple[str, ...]) -> frozenset[str]:
    """The keys of the domains that a configuration allows, checked."""
    overridable = {bar.domain: bar.overridable for bar in bars()}
    allowed = set()
    for name in names:
        domain = taxonomy().get("safety", name.removeprefix("safety/"))
        if domain is None:
            raise UserError(
                f"{name!r} is no safety domain",
                where="policy.allow_domains",
                mend="See misalign-bench domains --dimension safety",
            )
        if not overridable.get(domain.key, True):
            raise UserError(f"{domain.key} is never allowed", where="policy.allow_domains")
        allowed.add(domain.key)
    return frozenset(allowed)


def _pattern(words: Sequence[str]) -> re.Pattern[str]:
    """One pattern for a list of words; a final ``*`` stands for any ending."""
    spelt = (re.escape(word).replace(r"\*", r"\w*").replace(r"\ ", r"\s+") for word in words)
    return re.compile(rf"\b(?:{'|'.join(spelt)})\b", re.IGNORECASE)
