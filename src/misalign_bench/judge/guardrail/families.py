"""The guardrail families we know, and which of them a model's name belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping

from misalign_bench.judge.guardrail import granite_guardian, llama_guard, shield_gemma, wild_guard
from misalign_bench.judge.guardrail.family import Family

FAMILIES: Mapping[str, Family] = {
    module.FAMILY.name: module.FAMILY
    for module in (llama_guard, shield_gemma, wild_guard, granite_guardian)
}

# Llama Guard 1 and 2 number other categories; vision models and ShieldGemma 2 judge pictures.
_NAMES: Mapping[str, re.Pattern[str]] = {
    "llama_guard": re.compile(r"(?:meta-)?llama-?guard-?3(?![0-9.])(?!.*vision)"),
    "shield_gemma": re.compile(r"shieldgemma(?!-?2-)"),
    "wild_guard": re.compile(r"wildguard(?![a-z0-9])"),
    "granite_guardian": re.compile(r"granite-guardian-3(?![0-9])|granite3(?:\.[0-9])?-guardian"),
}


def family_of(model: str) -> Family | None:
    """The family that a model's name says it belongs to; None if it says none.

    >>> family_of("openai/meta-llama/Llama-Guard-3-8B").name
    'llama_guard'
    """
    last = model.rpartition("/")[2].lower()
    for name, pattern in _NAMES.items():
        if pattern.match(last):
            return FAMILIES[name]
    return None
