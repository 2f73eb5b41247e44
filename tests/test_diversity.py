"""How varied added prompts are: the measures by hand, by brute force, and domain by domain."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exported import labelled
from misalign_bench.build.diversity import (
    distinct,
    diversity,
    diversity_by_domain,
    in_families,
    mean_distance,
    opening,
    skeleton,
)
from misalign_bench.records import LabelledPrompt

HONESTY, FESTIVALS = "value/Honesty", "culture/Festivals"
FILLED = [
    f"How do I tell my {who} about the {what}?"
    for who in ("boss", "aunt")
    for what in ("noise", "debt")
]
VARIED = [
    "My sister hides her debts. Should I speak to our parents?",
    "What may I wear to a Hindu wedding in Leeds?",
    "Rewrite this apology so that it sounds sincere.",
]
TEXTS = st.lists(st.text("ab c", max_size=12), max_size=6)


def embedded(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """A direction for each text, by its own words."""
    rows = []
    for text in texts:
        chance = np.random.default_rng(len(text))
        row = chance.normal(size=8)
        rows.append(row / np.linalg.norm(row))
    return np.array(rows, dtype=np.float32)


def added(text: str, domain: str) -> LabelledPrompt:
    one = labelled(text, "train", domain)
    return replace(one, prompt=replace(one.prompt, expanded_for=domain))


# --- distinct-n


@given(TEXTS, st.integers(1, 3))
def test_distinct_n_is_the_share_of_different_grams(texts: list[str], n: int) -> None:
    grams = [
        tuple(words[start : start + n])
        for words in (text.split() for text in texts)
        for start in range(len(words) - n + 1)
    ]
    assert distinct(texts, n) == (len(set(grams)) / len(grams) if grams else None)


def test_case_and_punctuation_make_no_word_different() -> None:
    assert distinct(["So? SO! so."], 1) == pytest.approx(1 / 3)
    assert distinct(["don't", "DON’T"], 1) == 0.5


def test_texts_that_repeat_one_form_are_less_distinct() -> None:
    assert (distinct(FILLED, 2) or 0) < (distinct(VARIED, 2) or 0) == 1.0


# --- distance


@given(st.integers(2, 9), st.integers(0, 99))
def test_the_mean_distance_is_that_over_all_pairs(count: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(count, 5))
    vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    expected = np.mean([1 - float(one @ other) for one, other in combinations(vectors, 2)])
    assert mean_distance(vectors) == pytest.approx(expected, abs=1e-5)


def test_equal_texts_have_no_distance_and_opposite_ones_two() -> None:
    one = np.array([1.0, 0.0], dtype=np.float32)
    assert mean_distance(np.array([one, one])) == pytest.approx(0)
    assert mean_distance(np.array([one, -one])) == pytest.approx(2)


def test_one_text_has_no_distance_to_another() -> None:
    assert mean_distance(np.ones((1, 4), dtype=np.float32)) is None
    assert diversity(["Is it so?"], embedded).distance is None


# --- families


def test_prompts_of_one_form_are_a_family_whatever_fills_it() -> None:
    assert len({skeleton(text) for text in FILLED}) == 1
    assert len({skeleton(text) for text in VARIED}) == len(VARIED)
    assert diversity(FILLED).same_skeleton == diversity(FILLED).same_opening == 1.0
    assert diversity(VARIED).same_skeleton == diversity(VARIED).same_opening == 0.0
    assert (diversity(FILLED).largest_family, diversity(VARIED).largest_family) == (4, 1)


def test_an_opening_may_be_shared_by_prompts_of_other_forms() -> None:
    texts = ["How do I greet a priest?", "How do I say no, and when?"]
    assert opening(texts[0]) == opening(texts[1]) == "how do i"
    assert diversity(texts).same_opening == 1.0
    assert diversity(texts).same_skeleton == 0.0


@given(st.lists(st.sampled_from("abcde"), max_size=12))
def test_a_member_counts_if_another_has_its_form(forms: list[str]) -> None:
    shared = sum(forms.count(form) > 1 for form in forms)
    assert in_families(forms) == (shared / len(forms) if forms else 0.0)


def test_no_prompts_are_no_family() -> None:
    held = diversity([], embedded)
    assert (held.prompts, held.distinct_1, held.distance, held.largest_family) == (0, None, None, 0)


# --- by domain


def test_a_domain_is_measured_by_what_was_written_for_it() -> None:
    before = [labelled(text, "train", HONESTY, FESTIVALS) for text in VARIED]
    new = [added(text, HONESTY) for text in FILLED] + [added("May I dance there too?", FESTIVALS)]
    rows = diversity_by_domain([*before, *new], embedded)
    assert [row.domain for row in rows] == [HONESTY, FESTIVALS]
    assert [row.added.prompts for row in rows] == [4, 1]
    # Compared with as many of those that were there, or with all where there are fewer.
    assert [row.before.prompts for row in rows if row.before] == [3, 1]
    assert rows[0].added == diversity(FILLED, embedded)


def test_a_domain_that_had_no_prompt_has_nothing_to_be_compared_with() -> None:
    (row,) = diversity_by_domain([added(FILLED[0], HONESTY)])
    assert row.before is None
    assert json.loads(json.dumps(row.as_table(), allow_nan=False))["before"] is None


def test_without_expansion_there_is_nothing_to_measure() -> None:
    assert diversity_by_domain([labelled(VARIED[0], "train", HONESTY)], embedded) == ()


def test_the_comparison_depends_on_the_seed_alone() -> None:
    before = [labelled(f"{text} {number}", "train", HONESTY) for text in VARIED for number in "12"]
    held = [*before, *(added(text, HONESTY) for text in FILLED[:2])]
    again = [*held[: len(before)], *held[len(before) :]]
    assert diversity_by_domain(held, seed=1) == diversity_by_domain(again, seed=1)
    samples = {diversity_by_domain(held, seed=seed)[0].before for seed in range(9)}
    assert len(samples) > 1
