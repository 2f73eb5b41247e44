"""The five small edits that are planted: what a near-duplicate of a prompt looks like."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

Edit = Callable[[str, random.Random, Sequence[str]], str]

PLACEHOLDER = re.compile(r"<[^<>]{1,60}>|\[[^\[\]]{1,60}\]|\{[^{}]{1,60}\}")


def case_and_punctuation(text: str, chance: random.Random, _: Sequence[str]) -> str:
    """Write the text in capitals, small letters or title case, without its punctuation marks."""
    cased = chance.choice([str.upper, str.lower, str.title])(text)
    return re.sub(r"[^\w\s]", "", cased) + chance.choice(["", "!", " ...", "?"])


def word_swapped(text: str, chance: random.Random, words: Sequence[str]) -> str:
    """Put another word in the place of one."""
    parts = text.split()
    parts[chance.randrange(len(parts))] = chance.choice(words)
    return " ".join(parts)


def word_inserted(text: str, chance: random.Random, words: Sequence[str]) -> str:
    """Insert a word."""
    parts = text.split()
    parts.insert(chance.randrange(len(parts) + 1), chance.choice(words))
    return " ".join(parts)


def typo(text: str, chance: random.Random, _: Sequence[str]) -> str:
    """Swap two neighbouring letters, or leave out, double or change one."""
    places = [k for k in range(len(text) - 1) if text[k].isalpha() and text[k + 1].isalpha()]
    if not places:
        return text
    k = chance.choice(places)
    a, b = text[k], text[k + 1]
    letter = chance.choice("abcdefghijklmnopqrstuvwxyz")
    return text[:k] + chance.choice([b + a, b, a + a + b, letter + b]) + text[k + 2 :]


def placeholder_filled(text: str, chance: random.Random, words: Sequence[str]) -> str:
    """Put one or two words in the place of each placeholder, such as <product/service>."""

    def filled(_: re.Match[str]) -> str:
        return " ".join(chance.choice(words) for _ in range(chance.randint(1, 2)))

    return PLACEHOLDER.sub(filled, text)


EDITS: dict[str, Edit] = {
    "case and punctuation": case_and_punctuation,
    "one word swapped": word_swapped,
    "one word inserted": word_inserted,
    "one typo": typo,
    "placeholder filled": placeholder_filled,
}


def edited(
    texts: Sequence[str], kind: str, most: int, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Return so many texts, drawn at random, and the same with an edit that changes their words.

    Only texts that the edit can change are drawn: those with placeholders to fill, for example.
    Words that are put in come from all the texts, as often as they occur there.
    """
    chance = random.Random(seed)
    words = [word for text in texts for word in text.split()]
    order = chance.sample(range(len(texts)), len(texts))
    originals: list[str] = []
    changed: list[str] = []
    for k in order:
        if len(originals) == most:
            break
        after = EDITS[kind](texts[k], chance, words)
        if after != texts[k]:
            originals.append(texts[k])
            changed.append(after)
    return originals, changed
