"""The ledger of rejection sampling: what became of every draw, and what a pair took.

One row per generator, kind and round, over all prompts and then for each domain (paper: rejection
stages 1 and 2); round 0 is before any feedback, so what is accepted later was rescued by feedback.
A draw ends in one of four ways: accepted, rejected by a free rule, rejected by the evaluator, or
passed over for a better one (``accept: all``).
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from misalign_bench.build.csv_cells import neutral
from misalign_bench.build.resample import Outcome
from misalign_bench.journal.entries import Entry
from misalign_bench.records import (
    DIMENSIONS,
    KINDS,
    Accepted,
    Answer,
    Candidate,
    Dropped,
    Pair,
    Reason,
    Rejected,
)
from misalign_bench.taxonomy.loader import taxonomy

RULES = (
    Reason.EMPTY,
    Reason.PROVIDER_FILTER,
    Reason.REFUSAL,
    Reason.TOO_SHORT,
    Reason.ECHO,
    Reason.REPETITION,
    Reason.OFF_TOPIC,
    Reason.NEAR_DUPLICATE,
)
VERDICTS = (
    *(f"violates_{dimension}" for dimension in DIMENSIONS),
    *(f"keeps_{dimension}" for dimension in DIMENSIONS),
    "no_verdict",
)
TOTALS = (
    "drawn",
    "accepted",
    "rejected_by_rule",
    "rejected_by_verdict",
    "passed_over",
    "given_up",
)
COUNTS = (*TOTALS, *(reason.value for reason in RULES), *VERDICTS)
COLUMNS = ("dimension", "domain", "generator", "kind", "round", *COUNTS)


@dataclass(frozen=True, slots=True)
class DrawRow:
    """Counts of one generator, kind and round, in the order of ``COUNTS``.

    ``dimension`` and ``domain`` are empty in the rows over all prompts. ``given_up`` counts the
    responses of which this was the last round. A draw that violates in two dimensions counts in
    both, and once in ``rejected_by_verdict``.
    """

    dimension: str
    domain: str
    generator: str
    kind: str
    round: int
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PairCost:
    """What the pairs of one generator took, rejected draws included.

    Attributes:
        draws, verdicts: answered calls of the generator and of the evaluator.
        cost: dollars; None if any of the calls has no price.
    """

    generator: str
    pairs: int
    draws: int
    draw_tokens: int
    verdicts: int
    verdict_tokens: int
    cost: float | None

    def per_pair(self) -> tuple[float, float, float | None] | None:
        """Calls, tokens and dollars for each accepted pair; None without a pair."""
        if not self.pairs:
            return None
        cost = None if self.cost is None else self.cost / self.pairs
        calls = (self.draws + self.verdicts) / self.pairs
        return calls, (self.draw_tokens + self.verdict_tokens) / self.pairs, cost


def draw_ledger(outcomes: Sequence[Outcome]) -> tuple[DrawRow, ...]:
    """Count every draw over all prompts, then in every domain of its prompt."""
    counts: dict[tuple[str, str, str, str, int], Counter[str]] = {}
    for outcome in outcomes:
        domains = [("", "")]
        domains += [(label.dimension, label.name) for label in outcome.labelled.labels]
        for candidate, ended in _ends(outcome):
            for dimension, domain in domains:
                key = (dimension, domain, candidate.generator, candidate.kind, candidate.round)
                counts.setdefault(key, Counter()).update(ended)
    places = {domain.key: n for n, domain in enumerate(taxonomy().domains)}

    def order(key: tuple[str, str, str, str, int]) -> tuple[int, str, bool, int]:
        dimension, domain, generator, kind, round_ = key
        place = places.get(f"{dimension}/{domain}", len(places)) if domain else -1
        return place, generator, kind != KINDS[0], round_

    return tuple(
        DrawRow(*key, tuple(counts[key][name] for name in COUNTS))
        for key in sorted(counts, key=order)
    )


def pair_costs(
    outcomes: Sequence[Outcome], entry: Callable[[str], Entry | None]
) -> tuple[PairCost, ...]:
    """Add up the calls behind every draw and verdict, each once, by generator.

    Args:
        outcomes: what became of every prompt and generator.
        entry: finds a call by its key (``Journal.get``).
    """
    pairs = Counter(one.generator for one in outcomes if isinstance(one.result, Pair))
    draws: dict[str, set[str]] = {}
    verdicts: dict[str, set[str]] = {}
    for outcome in outcomes:
        drawn = draws.setdefault(outcome.generator, set())
        judged = verdicts.setdefault(outcome.generator, set())
        held: tuple[Accepted | Rejected, ...] = (
            *outcome.accepted,
            *outcome.rejected,
            *outcome.passed_over,
        )
        for one in held:
            drawn.add(one.candidate.journal_key)
            judged.update(one.verdict.journal_keys if one.verdict else ())
    found = []
    for name in sorted(draws):
        made = [call for key in sorted(draws[name]) if (call := entry(key)) is not None]
        said = [call for key in sorted(verdicts[name]) if (call := entry(key)) is not None]
        prices = [call.cost for call in (*made, *said)]
        cost = None if None in prices else sum(price or 0.0 for price in prices)
        found.append(
            PairCost(name, pairs[name], len(made), _tokens(made), len(said), _tokens(said), cost)
        )
    return tuple(found)


def draws_csv(rows: Sequence[DrawRow]) -> bytes:
    """Return the ledger as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        named = (row.dimension, row.domain, row.generator, row.kind, row.round)
        writer.writerow([neutral(value) for value in (*named, *row.counts)])
    return out.getvalue().encode()


def _ends(outcome: Outcome) -> Iterator[tuple[Candidate, list[str]]]:
    """Each draw of a prompt and generator with the counts it goes into."""
    accepted = {one.candidate.kind for one in outcome.accepted}
    last: dict[str, Candidate] = {}
    for accepted_one in outcome.accepted:
        yield accepted_one.candidate, ["drawn", "accepted"]
    for passed in outcome.passed_over:
        yield passed.candidate, ["drawn", "passed_over"]
    for rejected in outcome.rejected:
        last[rejected.candidate.kind] = rejected.candidate
        yield rejected.candidate, ["drawn", *_reasons(rejected)]
    if isinstance(outcome.result, Dropped):
        for kind, candidate in last.items():
            if kind not in accepted:
                yield candidate, ["given_up"]


def _reasons(rejected: Rejected) -> list[str]:
    if rejected.reason in RULES:
        return ["rejected_by_rule", rejected.reason.value]
    if rejected.verdict is None or rejected.reason is Reason.UNSCORED:
        return ["rejected_by_verdict", "no_verdict"]
    if rejected.reason is Reason.DOES_NOT_VIOLATE:
        kept = rejected.candidate.intent.dimensions
        return ["rejected_by_verdict", *(f"keeps_{dimension}" for dimension in kept)]
    flagged = [
        f"violates_{dimension}"
        for dimension, answer in rejected.verdict.answers.items()
        if isinstance(answer, Answer) and answer.flagged
    ]
    return ["rejected_by_verdict", *flagged]


def _tokens(entries: Sequence[Entry]) -> int:
    return sum(held.input_tokens + held.output_tokens for held in entries)
