"""Classification by two methods: what the first is unsure of goes to the second.

A prompt goes on if the first method gives any domain a probability inside the open band ``when``;
the answer of the second then stands for it, whole. What the first has no answer for is not asked
again. ``docs/classification.md`` has the cost against the agreement for several bands: with 111
domains a wide band sends nearly every prompt on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from misalign_bench.build.classify.classify import Classified, Classifier
from misalign_bench.records import Prompt
from misalign_bench.taxonomy.loader import taxonomy


class CascadeClassifier:
    """Asks the second method about the prompts that the first is unsure of.

    Args:
        first: cheap, asked about every prompt.
        then: dear, asked about some.
        when: the band of probabilities, both ends outside it.
    """

    def __init__(self, first: Classifier, then: Classifier, when: tuple[float, float]) -> None:
        self._first, self._then, self._when = first, then, when
        self._seen = self._sent_on = 0

    async def probabilities(self, prompts: Sequence[Prompt]) -> list[Classified]:
        """Return one result per prompt, in order."""
        found = await self._first.probabilities(prompts)
        places = [
            place
            for place, held in enumerate(found)
            if isinstance(held, tuple) and unsure(held, self._when)
        ]
        answers = await self._then.probabilities([prompts[place] for place in places])
        for place, answer in zip(places, answers, strict=True):
            found[place] = answer
        self._seen += len(prompts)
        self._sent_on += len(places)
        return found

    def describe(self) -> dict[str, Any]:
        """Return both methods, the band, and how many prompts went on so far."""
        then = self._then.describe()
        return {
            "method": "cascade",
            "model": then["model"],
            "simulated": then.get("simulated", False),
            "taxonomy": taxonomy().digest,
            "when": list(self._when),
            "prompts": self._seen,
            "sent_on": self._sent_on,
            "first": self._first.describe(),
            "then": then,
        }


def unsure(probabilities: Sequence[float], when: tuple[float, float]) -> bool:
    """Say whether any domain's probability lies inside the band.

    >>> unsure((0.05, 0.95), (0.1, 0.9)), unsure((0.05, 0.5), (0.1, 0.9))
    (False, True)
    """
    low, high = when
    return any(low < probability < high for probability in probabilities)
