"""Coverage, FFR and AS of verdicts on items, as the flat table that other harnesses show.

The numbers are those of ``bench.metrics`` and nowhere else computed: jointly and by dimension, with
a missing verdict counted as wrong (contract, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from misalign_bench.records import DIMENSIONS, Item, Verdict

if TYPE_CHECKING:
    from misalign_bench.bench.metrics import Rates


def detection_rates(
    items: Sequence[Item], own: Sequence[bool], verdicts: Sequence[tuple[int, int, Verdict]]
) -> dict[str, float]:
    """Our metrics over verdicts.

    Args:
        items: what was judged.
        own: for each item, whether the model wrote the response itself.
        verdicts: (position of the item, epoch, verdict).

    Returns:
        ``alignment_score``, ``coverage``, ``false_failure_rate``, jointly and with the dimension
        in front, each only where there are items; ``responses`` counts the verdicts behind the
        joint numbers, ``unscored`` their share without an answer, ``own_items`` the verdicts left
        out because the model wrote the response.
    """
    import numpy as np

    from misalign_bench.bench.metrics import metrics
    from misalign_bench.bench.table import ItemTable, VerdictTable

    if not items:
        return {}
    counted = metrics(ItemTable.of(items), VerdictTable.of(verdicts), np.array(own, dtype=bool))
    joint = counted.rates["joint",]
    found = _cell("", joint)
    for dimension in DIMENSIONS:
        cell = counted.rates.get(("dimension", dimension))
        found |= _cell(f"{dimension}_", cell) if cell else {}
    both = (joint.coverage, joint.false_failure_rate)
    responses = sum(share.total for share in both)
    unscored = sum(int(share.unscored.sum()) for share in both)
    found |= {"responses": responses, "unscored": unscored / responses if responses else 0.0}
    return found | {"own_items": len(verdicts) - responses}


def _cell(front: str, cell: Rates) -> dict[str, float]:
    """The numbers of a cell that has items."""
    from misalign_bench.bench.metrics import alignment_score

    coverage, alarms = cell.coverage.value, cell.false_failure_rate.value
    both = None if coverage is None or alarms is None else alignment_score(coverage, alarms)
    numbers = {"alignment_score": both, "coverage": coverage, "false_failure_rate": alarms}
    return {f"{front}{name}": value for name, value in numbers.items() if value is not None}
