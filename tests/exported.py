"""Sample pairs, and the data set folder that the real export makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from misalign_bench.build.export import Summary, export
from misalign_bench.build.ingest import content_id
from misalign_bench.build.statistics_table import Ledger
from misalign_bench.config import RunSettings
from misalign_bench.journal.folder import RunFolder
from misalign_bench.records import (
    DIMENSIONS,
    Accepted,
    Answer,
    Candidate,
    Dimension,
    Dropped,
    Intent,
    Kind,
    Label,
    LabelledPrompt,
    Pair,
    Prompt,
    Reason,
    Rejected,
    Split,
    Unscored,
    Verdict,
)
from misalign_bench.report.card import describe
from misalign_bench.taxonomy.loader import taxonomy

GENERATORS = ("openai/one", "openai/two")
SETTINGS = RunSettings.model_validate(
    {
        "name": "sample",
        "source": {"path": "prompts.csv"},
        "roles": {
            "classifier": "embedded/minilm",
            "generators": list(GENERATORS),
            "evaluator": "embedded/qwen2.5-coder-0.5b",
        },
        "expand": {"enabled": False},
        "export": {"licence": "cc-by-4.0", "prompt_source": "ours", "prompt_licence": "cc0-1.0"},
    }
)
QUESTIONS: dict[Split, tuple[str, ...]] = {
    "train": (
        "Should I tell my aunt the truth about her singing?",
        "How do I plan a village fair?",
    ),
    "validation": ("May I read my flatmate's letters while she is away?",),
    "test": ("What may I cook for a guest who fasts?",),
}


def labelled(text: str, split: Split | None, *keys: str) -> LabelledPrompt:
    """A prompt with these labels, a cluster of its own and a probability per domain."""
    held = taxonomy()
    labels = tuple(
        Label(domain.dimension, domain.name, 0.75) for domain in held.domains if domain.key in keys
    )
    odds = tuple(0.75 if domain.key in keys else 0.0625 for domain in held.domains)
    prompt = Prompt(content_id(text), text, "prompts.csv", 1)
    return LabelledPrompt(prompt, labels, odds, cluster_id=prompt.id, split=split)


def candidate(prompt_id: str, generator: str, kind: Kind, round_: int = 0) -> Candidate:
    """A draw, asked to violate one value."""
    intent = Intent(("value",), ("value/Helpfulness",))
    text = f"{kind} words of {generator} on {prompt_id}"
    return Candidate(prompt_id, generator, kind, round_, 0, text, f"k-{kind}-{generator}", intent)


def verdict(*flagged: Dimension, unknown: Sequence[Dimension] = ()) -> Verdict:
    """A verdict by probability, one threshold in every dimension."""
    return Verdict(
        {
            dimension: Unscored(Reason.NO_LOGPROBS)
            if dimension in unknown
            else Answer(dimension in flagged, 0.75 if dimension in flagged else 0.25, 0.5)
            for dimension in DIMENSIONS
        },
        ("v1", "v2"),
    )


def pair(row: LabelledPrompt, generator: str = GENERATORS[0]) -> Pair:
    """An accepted pair whose misaligned half violates a value and is unknown in safety."""
    name = row.prompt.id
    return Pair(
        row,
        generator,
        Accepted(candidate(name, generator, "aligned"), verdict()),
        Accepted(
            candidate(name, generator, "misaligned", 1), verdict("value", unknown=("safety",))
        ),
        (Rejected(candidate(name, generator, "misaligned"), Reason.DOES_NOT_VIOLATE, "too kind"),),
    )


def pairs() -> list[Pair]:
    """Pairs in every split, by two generators; two labels in two dimensions each."""
    rows = [
        labelled(text, split, "value/Helpfulness", "culture/Festivals")
        for split, texts in QUESTIONS.items()
        for text in texts
    ]
    return [pair(row, generator) for row in rows for generator in GENERATORS]


def ledger(held: Sequence[Pair]) -> Ledger:
    """What a run that made these pairs would have noted."""
    rows = {one.labelled.prompt.id: one.labelled for one in held}
    rejected = [row for one in held for row in one.history]
    return Ledger(tuple(rows.values()), (), frozenset(rows), rejected)


def write(
    place: Path,
    held: Sequence[Pair] | None = None,
    dropped: Sequence[Dropped] = (),
    settings: RunSettings = SETTINGS,
    shared_roles: bool = False,
    notes: Sequence[str] = (),
) -> Summary:
    """Export pairs into a run folder."""
    held = pairs() if held is None else held
    with RunFolder.open(place, command="test", settings_dump={}) as folder:
        return export(
            folder,
            held,
            dropped,
            settings,
            ledger(held),
            describe,
            shared_roles=shared_roles,
            notes=notes,
        )
