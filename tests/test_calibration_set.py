"""The judges' calibration set: balanced, in twins, and not to be told apart by its style.

Thresholds are fitted on these items (contract, section 4), so a set whose verdict shows in the
length or the punctuation of a response would fit thresholds to that instead.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from itertools import combinations, product
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from misalign_bench.prompts.loader import template
from misalign_bench.taxonomy.loader import taxonomy

PACKAGE = Path(__file__).parents[1] / "src" / "misalign_bench"
DIMENSIONS = ("safety", "value", "culture")
FIELDS = {
    "id",
    "prompt",
    "response",
    "dimension",
    "domain",
    "violates",
    "group",
    "also_violates",
}
BARRED = {
    "Child abuse",
    "Drug abuse/weapons/banned substances",
    "Self-harm",
    "Sexually explicit adult content",
    "Terrorism & organized crime",
}

Item = dict[str, Any]


def read(path: Path) -> list[Item]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


CALIBRATION = read(PACKAGE / "judge" / "calibration.jsonl")


def shots_of_the_template() -> list[Item]:
    """The worked examples as the template renders them."""
    rendered = template("judge_few_shot").render(prompt="p", response="r", dimension="safety")
    asked, answered = rendered[1:-1:2], rendered[2:-1:2]
    questions = {"safe, fair": "safety", "honest, kind": "value", "culture": "culture"}
    items = []
    for number, (question, answer) in enumerate(zip(asked, answered, strict=True)):
        _, prompt, _, response, last = question.content.splitlines()
        dimension = next(name for words, name in questions.items() if words in last)
        items.append(
            {
                "prompt": prompt.removeprefix("> "),
                "response": response.removeprefix("> "),
                "dimension": dimension,
                "domain": "",
                "violates": answer.content == "no",
                "group": f"shot-{number}",
                "also_violates": [],
            }
        )
    return items


FEW_SHOT = shots_of_the_template()
EVERY_ITEM = CALIBRATION + FEW_SHOT


def of(dimension: str, violates: bool, items: Iterable[Item] = CALIBRATION) -> list[Item]:
    return [x for x in items if x["dimension"] == dimension and x["violates"] is violates]


def words(text: str) -> int:
    return len(text.split())


def sentences(text: str) -> int:
    return len(re.findall(r"[.!?](?=\s|$)", text))


def grams(text: str) -> set[str]:
    plain = " ".join(re.findall(r"\w+", text.lower()))
    return {plain[start : start + 4] for start in range(len(plain) - 3)}


def jaccard(one: str, other: str) -> float:
    left, right = grams(one), grams(other)
    return len(left & right) / len(left | right)


def area_under_curve(positive: list[float], negative: list[float]) -> float:
    wins = [(high > low) + 0.5 * (high == low) for high, low in product(positive, negative)]
    return mean(wins)


def prompts_by_group(items: Iterable[Item]) -> dict[str, str]:
    return {item["group"]: item["prompt"] for item in items}


def test_every_item_has_exactly_the_documented_fields() -> None:
    assert all(set(item) == FIELDS for item in CALIBRATION)
    assert all(type(item["violates"]) is bool for item in CALIBRATION)


def test_identifiers_are_unique_over_both_files() -> None:
    assert max(Counter(item["id"] for item in CALIBRATION).values()) == 1


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_each_dimension_has_at_least_44_items_of_either_verdict(dimension: str) -> None:
    aligned, misaligned = of(dimension, False), of(dimension, True)
    assert len(aligned) == len(misaligned) >= 44


def test_every_group_is_one_prompt_with_one_item_of_either_verdict() -> None:
    groups: defaultdict[str, list[Item]] = defaultdict(list)
    for item in CALIBRATION:
        groups[item["group"]].append(item)
    for twins in groups.values():
        assert sorted(item["violates"] for item in twins) == [False, True]
        for field in ("prompt", "dimension", "domain"):
            assert len({item[field] for item in twins}) == 1


def test_every_domain_is_named_in_the_taxonomy() -> None:
    known = {domain.key for domain in taxonomy().domains}
    assert {f"{item['dimension']}/{item['domain']}" for item in CALIBRATION} <= known


def test_no_item_is_about_a_domain_that_the_policy_bars() -> None:
    assert not BARRED & {item["domain"] for item in CALIBRATION}


@pytest.mark.parametrize(("dimension", "least"), [("safety", 9), ("value", 35), ("culture", 28)])
def test_enough_domains_of_each_dimension_are_covered(dimension: str, least: int) -> None:
    assert len({x["domain"] for x in CALIBRATION if x["dimension"] == dimension}) >= least


def test_also_violates_names_other_dimensions_and_only_on_misaligned_items() -> None:
    for item in CALIBRATION:
        others = set(item["also_violates"])
        assert others <= set(DIMENSIONS) - {item["dimension"]}
        assert item["violates"] or not others


def test_prompts_have_8_to_25_words_and_responses_20_to_45() -> None:
    assert all(8 <= words(item["prompt"]) <= 25 for item in CALIBRATION)
    assert all(20 <= words(item["response"]) <= 45 for item in CALIBRATION)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_the_mean_lengths_of_the_verdicts_differ_by_less_than_a_tenth(dimension: str) -> None:
    aligned = mean(words(item["response"]) for item in of(dimension, False))
    misaligned = mean(words(item["response"]) for item in of(dimension, True))
    assert abs(aligned - misaligned) < 0.1 * min(aligned, misaligned)


@pytest.mark.parametrize("dimension", DIMENSIONS)
@pytest.mark.parametrize(
    "measure",
    [words, len, sentences, lambda text: text.count("!"), lambda text: text.count("?")],
    ids=["words", "characters", "sentences", "exclamation marks", "question marks"],
)
def test_no_count_of_style_tells_the_verdict(
    dimension: str, measure: Callable[[str], float]
) -> None:
    aligned = [measure(item["response"]) for item in of(dimension, False)]
    misaligned = [measure(item["response"]) for item in of(dimension, True)]
    area = area_under_curve(misaligned, aligned)
    assert max(area, 1 - area) < 0.6


def test_no_frequent_first_word_belongs_to_one_verdict() -> None:
    first: defaultdict[str, list[bool]] = defaultdict(list)
    for item in CALIBRATION:
        first[re.findall(r"\w+", item["response"])[0].lower()].append(item["violates"])
    frequent = [verdicts for verdicts in first.values() if len(verdicts) >= 6]
    assert frequent
    assert all(0.2 <= mean(verdicts) <= 0.8 for verdicts in frequent)


def test_prompts_of_different_groups_are_not_near_duplicates() -> None:
    prompts = prompts_by_group(EVERY_ITEM).values()
    assert all(jaccard(one, other) < 0.6 for one, other in combinations(prompts, 2))


def test_no_response_is_used_twice() -> None:
    assert max(Counter(item["response"] for item in EVERY_ITEM).values()) == 1


def test_no_prompt_is_close_to_a_prompt_of_the_demo() -> None:
    path = PACKAGE / "configs" / "demo_prompts.jsonl"
    if not path.exists():
        pytest.skip("the demo's prompts are not in this tree")
    demo = [item["prompt"] for item in read(path)]
    pairs = product(prompts_by_group(EVERY_ITEM).values(), demo)
    assert all(jaccard(one, other) < 0.5 for one, other in pairs)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_the_few_shots_show_each_verdict_once_per_dimension(dimension: str) -> None:
    assert [len(of(dimension, verdict, FEW_SHOT)) for verdict in (False, True)] == [1, 1]


def test_the_few_shots_are_short() -> None:
    assert len(FEW_SHOT) == 6
    assert all(words(item["prompt"]) <= 12 for item in FEW_SHOT)
    assert all(words(item["response"]) <= 18 for item in FEW_SHOT)


def test_the_few_shots_are_not_calibration_items() -> None:
    assert not {x["prompt"] for x in FEW_SHOT} & {x["prompt"] for x in CALIBRATION}
