"""Near-duplicate removal on the 20,148 published prompts: golden counts, planted edits, splits."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from misalign_bench.build.deduplicate import deduplicate
from misalign_bench.build.ingest import content_id
from misalign_bench.build.split import with_splits
from misalign_bench.config import DeduplicateSettings, SplitSettings
from misalign_bench.records import LabelledPrompt, Prompt
from misalign_bench.simhash.clusters import keep_first
from misalign_bench.simhash.fingerprint import fingerprint, normalise
from misalign_bench.simhash.pairs import near_pairs
from misalign_bench.simhash.verify import jaccard, verify_pairs
from script import load_script

PROJECT = Path(__file__).parents[1]
PUBLISHED = PROJECT / ".." / "shared" / "data" / "savacu_classified_prompts.csv"
EDITS = PROJECT / "benchmarks" / "simhash" / "edits.py"

pytestmark = pytest.mark.skipif(
    not PUBLISHED.exists(),
    reason="the published prompts (../shared/data/savacu_classified_prompts.csv) are not here",
)


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        return [row["prompt"] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def edits() -> Any:
    if not EDITS.exists():
        pytest.skip("the planted edits (benchmarks/simhash/edits.py) are not here")
    return load_script(EDITS)


def test_codes_alone_drop_552_and_verification_leaves_319(prompts: list[str]) -> None:
    alone = keep_first(prompts, 10, None, short_words=0)
    verified = keep_first(prompts, 10, 0.7, short_words=0)
    assert len(prompts) == 20_148
    assert (len(alone.dropped), len(verified.dropped)) == (552, 319)
    assert all(drop.distance <= 10 for drop in alone.dropped)
    assert all(drop.jaccard >= 0.7 for drop in verified.dropped)


def test_short_texts_by_equality_leave_308_drops(prompts: list[str]) -> None:
    default = keep_first(prompts)
    assert len(default.dropped) == 308
    assert default.by_reason == {"identical": 192, "near": 116}


def test_a_tenth_of_the_prompts_lose_what_the_plain_double_loop_drops(prompts: list[str]) -> None:
    texts = prompts[::10]
    codes = [int(code) for code in fingerprint(texts)]
    kept: list[int] = []
    for k, text in enumerate(texts):
        near = (of for of in kept if bin(codes[k] ^ codes[of]).count("1") <= 10)
        if not any(jaccard(text, texts[of]) >= 0.7 for of in near):
            kept.append(k)
    assert keep_first(texts, 10, 0.7, short_words=0).kept == kept
    assert len(kept) < len(texts)


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        ("case and punctuation", 0.97),
        ("one word swapped", 0.74),
        ("one word inserted", 0.87),
        ("one typo", 0.90),
        ("placeholder filled", 0.50),
    ],
)
def test_verification_keeps_the_recall_of_planted_edits_within_four_points(
    kind: str, least: float, prompts: list[str], edits: ModuleType
) -> None:
    long = [text for text in prompts if len(normalise(text).split()) >= 8]
    originals, changed = edits.edited(long, kind, 2000)
    apart = fingerprint(originals) ^ fingerprint(changed)
    alone = np.array([bin(bits).count("1") <= 10 for bits in apart.tolist()])
    confirmed = [jaccard(a, b) >= 0.7 for a, b in zip(originals, changed, strict=True)]
    verified = alone & np.array(confirmed)
    assert len(originals) >= 400
    assert alone.mean() >= least
    assert verified.mean() >= alone.mean() - 0.04


@pytest.mark.parametrize(("verify", "least_pairs"), [(None, 600), (0.7, 100)])
def test_no_two_duplicates_are_in_different_splits(
    verify: float | None, least_pairs: int, prompts: list[str]
) -> None:
    rows = _distinct(prompts)
    clusters = deduplicate(rows, DeduplicateSettings(tau=10, verify=verify)).clusters
    split = {
        row.prompt.id: row.split
        for row in with_splits(
            [LabelledPrompt(prompt, (), ()) for prompt in rows], clusters, 0, SplitSettings()
        )
    }
    texts = [prompt.text for prompt in rows]
    pairs = near_pairs(fingerprint(texts), 10)
    near = np.ones(len(pairs.i), dtype=bool)
    if verify is not None:
        short = np.array([len(normalise(text).split()) < 8 for text in texts])
        near = verify_pairs(texts, pairs.i, pairs.j, verify) & ~short[pairs.i] & ~short[pairs.j]
    duplicates = list(zip(pairs.i[near].tolist(), pairs.j[near].tolist(), strict=True))
    crossing = [(i, j) for i, j in duplicates if split[rows[i].id] != split[rows[j].id]]
    assert set(split.values()) == {"train", "validation", "test"}
    assert len(duplicates) > least_pairs
    assert crossing == []


def test_no_cluster_is_in_two_splits_after_duplicates_were_dropped(prompts: list[str]) -> None:
    done = deduplicate(_distinct(prompts), DeduplicateSettings())
    splits = defaultdict(set)
    labelled = [LabelledPrompt(prompt, (), ()) for prompt in done.kept]
    for row in with_splits(labelled, done.clusters, 0, SplitSettings()):
        splits[done.clusters[row.prompt.id]].add(row.split)
    assert all(len(found) == 1 for found in splits.values())


def _distinct(texts: Sequence[str]) -> list[Prompt]:
    prompts = {content_id(text): text for text in reversed(texts)}
    return [
        Prompt(identity, text, "published", row)
        for row, (identity, text) in enumerate(reversed(prompts.items()), start=1)
    ]
