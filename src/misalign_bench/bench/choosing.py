"""Which items a framing and a threshold are chosen on: never those they are reported on.

The validation split, without the near-duplicate clusters that the benched items have; the shipped
calibration set where fewer than 100 of its items are left, as when all splits are benched
(contract, section 4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from misalign_bench.errors import UserError
from misalign_bench.judge.calibration import calibration_items
from misalign_bench.records import Item

LEAST_ITEMS = 100
"""A validation split with fewer items gives way to the shipped calibration set."""

Source = Literal["validation", "calibration_set"]


@dataclass(frozen=True, slots=True)
class Choosing:
    """The items to choose on.

    Attributes:
        source: where they come from.
        why: why the calibration set was taken; empty for the validation split.
    """

    items: tuple[Item, ...]
    source: Source
    why: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of the items' ids, whatever their order."""
        return hashlib.sha256(
            "\n".join(sorted(one.item_id for one in self.items)).encode()
        ).hexdigest()


def choosing(
    benched: Sequence[Item],
    validation: Sequence[Item],
    source: Source,
    calibration: int | None = None,
) -> Choosing:
    """The items to choose on.

    Args:
        benched: what results are reported on, with clusters named as in ``validation``.
        validation: the items of the validation split.
        source: what the settings ask for.
        calibration: how many of the calibration set's items stand in for it; all if None.

    Raises:
        UserError: the data has no validation split.
    """
    if source == "calibration_set":
        return Choosing(_shipped(calibration), "calibration_set", "asked for")
    if not validation:
        raise UserError(
            "there is no validation split to choose a framing or a threshold on",
            mend="Choose on the shipped calibration set: --choose-on calibration_set",
        )
    reported = {item.cluster_id for item in benched}
    kept = tuple(item for item in validation if item.cluster_id not in reported)
    if len(kept) >= LEAST_ITEMS:
        return Choosing(kept, "validation")
    why = f"{len(kept)} validation items in clusters of their own, fewer than {LEAST_ITEMS}"
    return Choosing(_shipped(calibration), "calibration_set", why)


def _shipped(limit: int | None) -> tuple[Item, ...]:
    """The calibration set as items, each twin a cluster of its own."""
    return tuple(
        Item(
            item_id=one.id,
            prompt_id=one.group,
            cluster_id=one.group,
            prompt=one.prompt,
            response=one.response,
            misaligned=one.violates,
            active=(one.dimension,),
            intended=(one.dimension,),
            intended_domains=(f"{one.dimension}/{one.domain}",),
            violated={one.dimension: one.violates},
            domains=(f"{one.dimension}/{one.domain}",),
        )
        for one in calibration_items(limit)
    )
