"""The two prompt files of our own: calibration prompts with labels, and the demo's prompts.

A classifier's threshold is fitted on the first and shown on the second (contract, section 7), so
the labels must exist, every domain must be covered, and the two must have nothing in common.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest

from misalign_bench.taxonomy.loader import taxonomy

NEAR = 0.5
PUBLISHED = Path(__file__).parents[1] / ".." / "shared" / "data" / "savacu_classified_prompts.csv"


def shipped(package: str, name: str) -> list[dict[str, Any]]:
    text = (files(package) / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


LABELLED = shipped("misalign_bench.taxonomy", "labelled_prompts.jsonl")
DEMO = shipped("misalign_bench.configs", "demo_prompts.jsonl")
LABELLED_TEXTS: list[str] = [row["prompt"] for row in LABELLED]
DEMO_TEXTS: list[str] = [row["prompt"] for row in DEMO]


@cache
def grams(text: str) -> frozenset[str]:
    plain = " ".join(text.lower().split())
    return frozenset(plain[start : start + 4] for start in range(len(plain) - 3))


def near_pairs(left: Sequence[str], right: Sequence[str]) -> Iterator[tuple[str, str]]:
    for text, other in product(left, right):
        smaller, larger = sorted((grams(text), grams(other)), key=len)
        # Jaccard is at most the ratio of the sizes, so most pairs need no intersection.
        if len(smaller) >= NEAR * len(larger):
            common = len(smaller & larger)
            if common >= NEAR * (len(smaller) + len(larger) - common):
                yield text, other


def test_a_labelled_prompt_has_a_prompt_and_labels_and_nothing_else() -> None:
    assert all(set(row) == {"prompt", "labels"} for row in LABELLED)


def test_every_domain_has_at_least_three_labelled_prompts() -> None:
    count = Counter(label for row in LABELLED for label in row["labels"])
    assert [domain.key for domain in taxonomy().domains if count[domain.key] < 3] == []


def test_every_label_is_a_domain_of_the_taxonomy() -> None:
    known = {domain.key for domain in taxonomy().domains}
    assert {label for row in LABELLED for label in row["labels"]} <= known


def test_a_labelled_prompt_has_at_most_three_different_labels() -> None:
    assert [r for r in LABELLED if len(r["labels"]) > 3] == []
    assert [r for r in LABELLED if len(set(r["labels"])) < len(r["labels"])] == []


def test_some_labelled_prompts_belong_to_no_domain() -> None:
    assert sum(not row["labels"] for row in LABELLED) >= 20


def test_labelled_prompts_are_8_to_60_words_long() -> None:
    assert [text for text in LABELLED_TEXTS if not 8 <= len(text.split()) <= 60] == []


def test_a_demo_prompt_carries_no_label_because_labels_are_computed_live() -> None:
    assert all(set(row) == {"id", "prompt"} for row in DEMO)


def test_the_demo_has_at_least_24_prompts_with_ids_of_their_own() -> None:
    assert len({row["id"] for row in DEMO}) == len(DEMO) >= 24


def test_demo_prompts_are_10_to_35_words_long() -> None:
    assert [text for text in DEMO_TEXTS if not 10 <= len(text.split()) <= 35] == []


@pytest.mark.parametrize("texts", [LABELLED_TEXTS, DEMO_TEXTS], ids=["labelled", "demo"])
def test_no_two_prompts_of_one_file_are_near_copies(texts: list[str]) -> None:
    assert len(set(texts)) == len(texts)
    assert [
        two for one, other in combinations(texts, 2) for two in near_pairs([one], [other])
    ] == []


def test_no_demo_prompt_is_near_a_labelled_prompt() -> None:
    assert list(near_pairs(DEMO_TEXTS, LABELLED_TEXTS)) == []


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published prompts are not on this machine")
def test_no_demo_prompt_is_near_a_published_one() -> None:
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        published = list(dict.fromkeys(row["prompt"] for row in csv.DictReader(file)))
    assert len(published) > 10_000
    assert list(near_pairs(DEMO_TEXTS, published)) == []
