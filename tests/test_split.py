"""Near-duplicates and splits: what is dropped, what belongs together, where it goes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exported import labelled
from misalign_bench.build.deduplicate import cluster_ids, deduplicate, duplicate_index
from misalign_bench.build.ingest import content_id, ingest
from misalign_bench.build.split import assign, with_splits
from misalign_bench.config import DeduplicateSettings, SourceSettings, SplitSettings
from misalign_bench.errors import UserError
from misalign_bench.records import LabelledPrompt, Prompt, Reason

PUBLISHED = Path(__file__).parents[1] / ".." / "shared" / "data" / "savacu_classified_prompts.csv"
SHARES = SplitSettings()
LONG = "Write a short and cheerful poem about the grey northern sea in early winter for my aunt"


def prompt(text: str, *parents: str, expanded_for: str = "") -> Prompt:
    return Prompt(content_id(text), text, "prompts.csv", 1, parents, expanded_for)


def row(one: Prompt) -> LabelledPrompt:
    return LabelledPrompt(one, labelled("a", None, "value/Health").labels, ())


def child(text: str, *parents: Prompt) -> LabelledPrompt:
    names = (one.id for one in parents)
    return row(prompt(text, *names, expanded_for="value/Health"))


def test_the_first_of_near_duplicates_is_kept_and_the_others_name_it() -> None:
    prompts = [prompt(LONG), prompt("Boil an egg"), prompt(LONG + ", please")]
    done = deduplicate(prompts, DeduplicateSettings())
    assert done.kept == (prompts[0], prompts[1])
    (dropped,) = done.dropped
    assert (dropped.id, dropped.stage, dropped.reason) == (
        prompts[2].id,
        "deduplicate",
        Reason.NEAR_DUPLICATE,
    )
    assert dropped.detail.startswith(f"of {prompts[0].id}, distance ")
    assert float(dropped.detail.rpartition(" ")[2]) >= 0.7


def test_clusters_hold_dropped_prompts_and_are_named_by_the_smallest_id() -> None:
    prompts = [prompt(LONG), prompt("Boil an egg"), prompt(LONG + ", please")]
    clusters = deduplicate(prompts, DeduplicateSettings()).clusters
    together = min(prompts[0].id, prompts[2].id)
    assert clusters == {
        prompts[0].id: together,
        prompts[1].id: prompts[1].id,
        prompts[2].id: together,
    }


def test_cluster_names_do_not_depend_on_the_order_of_prompts() -> None:
    prompts = [prompt(LONG), prompt("Boil an egg"), prompt(LONG + ", please")]
    settings = DeduplicateSettings()
    assert cluster_ids(prompts, settings) == cluster_ids(prompts[::-1], settings)


def test_without_verification_short_texts_follow_the_codes_as_in_the_paper() -> None:
    prompts = [prompt("Explain macroeconomics briefly"), prompt("Explain microeconomics briefly")]
    assert not deduplicate(prompts, DeduplicateSettings()).dropped
    assert len(deduplicate(prompts, DeduplicateSettings(verify=None)).dropped) == 1


def test_an_index_over_kept_prompts_sees_later_duplicates() -> None:
    index = duplicate_index([prompt(LONG)], DeduplicateSettings())
    assert index.find(LONG + "!") is not None
    assert index.find("Boil an egg") is None


def test_a_rule_that_pairs_everything_is_the_callers_to_mend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("too many pairs")

    monkeypatch.setattr("misalign_bench.simhash.clusters.neighbourhood", refuse)
    with pytest.raises(UserError, match="deduplicate: too many pairs"):
        deduplicate([prompt(LONG)], DeduplicateSettings())


@given(st.text(max_size=20), st.integers(0, 2**31))
def test_a_cluster_has_one_split_for_a_seed(cluster: str, seed: int) -> None:
    assert assign(cluster, seed, SHARES) == assign(cluster, seed, SHARES)
    assert assign(cluster, seed, SHARES) in ("train", "validation", "test")


def test_shares_are_kept_over_many_clusters() -> None:
    counts = Counter(assign(f"p{number:016x}", 7, SHARES) for number in range(20_000))
    shares = {split: count / 20_000 for split, count in counts.items()}
    assert shares == pytest.approx({"train": 0.8, "validation": 0.1, "test": 0.1}, abs=0.01)


def test_a_seed_moves_clusters() -> None:
    names = [f"p{number:016x}" for number in range(200)]
    assert [assign(name, 0, SHARES) for name in names] != [
        assign(name, 1, SHARES) for name in names
    ]


def test_a_share_of_zero_gets_nothing() -> None:
    only_train = SplitSettings(train=1.0, validation=0.0, test=0.0)
    no_validation = SplitSettings(train=0.5, validation=0.0, test=0.5)
    names = [f"p{number:016x}" for number in range(500)]
    assert {assign(name, 0, only_train) for name in names} == {"train"}
    assert {assign(name, 0, no_validation) for name in names} == {"train", "test"}


def test_near_duplicates_share_a_split_whatever_else_is_there() -> None:
    prompts = [prompt(LONG), prompt(LONG + ", please")]
    more = [prompt(f"Something else entirely, number {number}") for number in range(30)]
    for held in (prompts, prompts + more):
        clusters = cluster_ids(held, DeduplicateSettings())
        splits = with_splits([row(one) for one in held], clusters, 3, SHARES)
        assert splits[0].split == splits[1].split == assign(min(p.id for p in prompts), 3, SHARES)


def test_a_child_inherits_split_and_cluster_of_its_parents() -> None:
    train = SplitSettings(train=1, validation=0, test=0)
    one, other = prompt("Boil an egg"), prompt("Fry an egg")
    young = child("Poach an egg", one, other)
    grandchild = child("Scramble an egg", young.prompt)
    held = with_splits([row(one), row(other), young, grandchild], {}, 0, train)
    assert {found.cluster_id for found in held} == {
        min(found.prompt.id for found in held),
    }
    assert {found.split for found in held} == {"train"}


def test_expansion_moves_no_prompt_to_another_split() -> None:
    prompts = [prompt(f"Ask about the weather in town {number}") for number in range(60)]
    clusters = {one.id: one.id for one in prompts}
    before = with_splits([row(one) for one in prompts], clusters, 0, SHARES)
    by_split: dict[object, list[Prompt]] = {}
    for found in before:
        by_split.setdefault(found.split, []).append(found.prompt)
    children = [child(f"Child of {split}", *held[:3]) for split, held in by_split.items()]
    after = with_splits([*map(row, prompts), *children], clusters, 0, SHARES)
    assert [found.split for found in after[:60]] == [found.split for found in before]
    assert [found.split for found in after[60:]] == list(by_split)


def test_a_child_without_examples_is_a_cluster_of_its_own() -> None:
    young = child("Poach an egg")
    (found,) = with_splits([young], {}, 0, SHARES)
    assert (found.cluster_id, found.split) == (young.prompt.id, assign(young.prompt.id, 0, SHARES))


def test_parents_in_two_splits_are_a_defect() -> None:
    prompts = [prompt(f"Ask about the weather in town {number}") for number in range(60)]
    with pytest.raises(ValueError, match="has parents in the splits"):
        with_splits([*map(row, prompts), child("Both", *prompts)], {}, 0, SHARES)


def test_no_published_near_duplicates_are_parted() -> None:
    if not PUBLISHED.exists():
        pytest.skip("the published prompts are not beside the checkout")
    prompts = ingest(SourceSettings(path=str(PUBLISHED), limit=4_000)).prompts
    done = deduplicate(prompts, DeduplicateSettings(verify=None))
    placed = with_splits([*map(row, prompts)], done.clusters, 0, SHARES)
    splits = {found.prompt.id: found.split for found in placed}
    twins = [(drop.id, drop.detail.split()[1].rstrip(",")) for drop in done.dropped]
    assert len(twins) > 10
    assert all(splits[one] == splits[other] for one, other in twins)
