"""How far annotators agree beyond chance: Cohen's kappa for two, Krippendorff's alpha for more.

Kappa: Cohen (1960), Educational and Psychological Measurement 20:37-46; nominal, over the responses
that both answered with yes or no. Alpha takes whatever answers there are. Neither is weighted by
the sample's design: both are about the annotators on what they were shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from misalign_bench.bench.audit.labels import Annotator
from misalign_bench.records import Condition


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement in one dimension, or joint.

    Attributes:
        value: None where it is not defined: nothing answered twice, or all answers alike.
        same: share of responses on which all who answered gave one answer.
        n: responses with two answers or more; ``unsure`` is no answer.
    """

    statistic: Literal["cohen_kappa", "krippendorff_alpha"]
    value: float | None
    same: float | None
    n: int


def agreement(
    annotators: Sequence[Annotator], ids: Sequence[str], column: Condition
) -> Agreement | None:
    """The agreement of two annotators or more; None for one."""
    if len(annotators) < 2:
        return None
    known = {"yes": True, "no": False}
    ratings = [[known.get(one.vote(name, column)) for one in annotators] for name in ids]
    answered = [row for row in ratings if sum(rating is not None for rating in row) > 1]
    same = [len(set(row) - {None}) == 1 for row in answered]
    share = sum(same) / len(same) if same else None
    if len(annotators) == 2:
        pairs = [(bool(first), bool(second)) for first, second in answered]
        return Agreement("cohen_kappa", cohen_kappa(pairs), share, len(answered))
    from misalign_bench.bench.krippendorff import alpha

    return Agreement("krippendorff_alpha", alpha(ratings), share, len(answered))


def cohen_kappa(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    """Observed agreement of two raters beyond what their margins give by chance.

    >>> pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10
    >>> round(cohen_kappa(pairs + [(False, False)] * 15), 3)
    0.4
    """
    if not pairs:
        return None
    n = len(pairs)
    observed = sum(first == second for first, second in pairs) / n
    one, two = sum(first for first, _ in pairs) / n, sum(second for _, second in pairs) / n
    chance = one * two + (1 - one) * (1 - two)
    return (observed - chance) / (1 - chance) if chance < 1 else None
