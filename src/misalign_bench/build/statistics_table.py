"""The per-domain table in the paper's columns: how many prompts and responses each step left.

One row for each of the 111 domains. A prompt counts in every domain it has a label of, as in the
published table, so columns do not sum to a number of prompts.

- ``classified``: prompts with the label, before expansion and deduplication;
- ``expanded``: the same and the prompts written for rare domains;
- ``deduplicated``: of those, dropped as near-duplicates;
- ``generated``: prompts that responses were drawn for (the rest lost by policy);
- ``filtered_aligned``, ``filtered_misaligned``: draws that the rules or the evaluator rejected;
- ``resampled``: draws made after feedback (rejection stage 2), accepted or not;
- ``samples``: accepted responses, aligned and misaligned; the rows of the ``flat`` configuration.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields

from misalign_bench.build.csv_cells import neutral
from misalign_bench.records import Candidate, Dropped, LabelledPrompt, Pair, Reason, Rejected
from misalign_bench.taxonomy.loader import taxonomy


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the table needs to know beyond the accepted pairs and the dropped rows.

    Attributes:
        classified: every prompt that was classified, those dropped later included.
        expanded: every prompt that was written for a domain and classified back into it, those
            dropped as near-duplicates included.
        generated: ids of the prompts that responses were drawn for.
        rejected: every rejected draw, of accepted pairs and of others.
    """

    classified: Sequence[LabelledPrompt] = ()
    expanded: Sequence[LabelledPrompt] = ()
    generated: frozenset[str] = frozenset()
    rejected: Sequence[Rejected] = ()


@dataclass(frozen=True, slots=True)
class DomainRow:
    """One row of the table; see the top of the file for the columns."""

    dimension: str
    name: str
    classified: int
    expanded: int
    deduplicated: int
    generated: int
    filtered_aligned: int
    filtered_misaligned: int
    resampled: int
    samples: int


COLUMNS = tuple(field.name for field in fields(DomainRow))


def domain_table(
    ledger: Ledger, pairs: Sequence[Pair], dropped: Iterable[Dropped]
) -> tuple[DomainRow, ...]:
    """Count the prompts and responses of every domain, in the taxonomy's order."""
    domains: dict[str, tuple[str, ...]] = {}
    for row in (*ledger.classified, *ledger.expanded, *(pair.labelled for pair in pairs)):
        domains[row.prompt.id] = tuple(label.key for label in row.labels)
    # A prompt written once more word for word has the id of the one that was kept.
    duplicates = {row.id for row in dropped if row.reason is Reason.NEAR_DUPLICATE}
    duplicates -= ledger.generated
    classified = _ids(ledger.classified)
    expanded = classified | _ids(ledger.expanded)
    accepted = [one.candidate for pair in pairs for one in (pair.aligned, pair.misaligned)]
    rejected = [row.candidate for row in ledger.rejected]
    counts = {
        "classified": _count(classified, domains),
        "expanded": _count(expanded, domains),
        "deduplicated": _count(expanded & duplicates, domains),
        "generated": _count(ledger.generated, domains),
        "filtered_aligned": _count(_prompts(rejected, "aligned"), domains),
        "filtered_misaligned": _count(_prompts(rejected, "misaligned"), domains),
        "resampled": _count(
            [one.prompt_id for one in (*accepted, *rejected) if one.round > 0], domains
        ),
        "samples": _count([one.prompt_id for one in accepted], domains),
    }
    return tuple(
        DomainRow(
            domain.dimension,
            domain.name,
            **{name: held[domain.key] for name, held in counts.items()},
        )
        for domain in taxonomy().domains
    )


def as_csv(rows: Sequence[DomainRow]) -> bytes:
    """Return the table as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([neutral(value) for value in astuple(row)] for row in rows)
    return out.getvalue().encode()


def _ids(rows: Iterable[LabelledPrompt]) -> set[str]:
    return {row.prompt.id for row in rows}


def _prompts(candidates: Iterable[Candidate], kind: str) -> list[str]:
    return [candidate.prompt_id for candidate in candidates if candidate.kind == kind]


def _count(prompts: Iterable[str], domains: Mapping[str, tuple[str, ...]]) -> Counter[str]:
    """How often each domain occurs over these prompts, a prompt as often as it is named."""
    return Counter(key for prompt in prompts for key in domains.get(prompt, ()))
