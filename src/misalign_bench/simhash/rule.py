"""When two texts count as duplicates of each other (paper: SimHash, Hamming threshold 10).

Two texts are duplicates if they are equal once normalised (``identical``), or if both are long
enough, their codes are within ``tau`` and, unless ``verify`` is None, their exact Jaccard
similarity reaches ``verify`` (``near``).

Texts under eight words are duplicates only if they are equal: neither threshold works on them. Of
2,000 published prompts of three to seven words, tau = 10 finds 56% after a typo and 21% after one
word was swapped; yet "What is a tax?" and "What is a tab?" are 3 bits apart and 0.82 similar,
"Explain macroeconomics briefly" and "Explain microeconomics briefly" 4 bits and 0.74.

Words are what spaces separate after normalisation, so a text in a script without spaces counts as
short: set ``short_words=0`` for those.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_TAU = 32
"""Two unrelated codes are about 32 bits apart: above this a pair says nothing."""

TAU = 10
VERIFY = 0.7
SHORT_WORDS = 8


@dataclass(frozen=True, slots=True)
class Rule:
    """The duplicate rule.

    Attributes:
        tau: the largest Hamming distance between two codes, 0 to 32.
        verify: the least exact Jaccard similarity, 0 to 1; None takes the codes' word for it.
        short_words: a text with fewer words than this is compared by equality only; 0 switches
            that off, as in the published set-up.
    """

    tau: int = TAU
    verify: float | None = VERIFY
    short_words: int = SHORT_WORDS

    def __post_init__(self) -> None:
        """Refuse thresholds out of range."""
        if not 0 <= self.tau <= MAX_TAU:
            raise ValueError(f"tau is {self.tau}, but must lie between 0 and {MAX_TAU}")
        if self.verify is not None and not 0 <= self.verify <= 1:
            raise ValueError(f"verify is {self.verify}, but must lie between 0 and 1")

    def is_short(self, normal: str) -> bool:
        """Say whether a normalised text is compared by equality only.

        >>> Rule().is_short("what is love"), Rule(short_words=3).is_short("what is love")
        (True, False)
        """
        return len(normal.split()) < self.short_words
