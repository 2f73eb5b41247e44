"""Adaptive mode: the order of the clusters, when to stop, how far to go."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from misalign_bench.bench.adaptive import (
    BATCH,
    FIRST,
    Decision,
    cluster_order,
    decide,
    taken_items,
)
from misalign_bench.records import DIMENSIONS, Dimension, Item, Score


def item(
    cluster: str, active: tuple[Dimension, ...] = ("safety",), misaligned: bool = True
) -> Item:
    return Item(f"{cluster}-{misaligned}", cluster, cluster, "", "", misaligned, active)


def items(*sizes: int) -> list[Item]:
    """Pairs in clusters of one, two and three active dimensions."""
    return [
        item(f"s{number}c{cluster}", DIMENSIONS[: number + 1], misaligned)
        for number, size in enumerate(sizes)
        for cluster in range(size)
        for misaligned in (True, False)
    ]


def width(half: float) -> Score:
    return Score(0.8, 0.8 - half, 0.8 + half, 100, 100)


def test_every_beginning_is_a_stratified_sample() -> None:
    order = cluster_order(items(600, 300, 100), seed=4)
    for taken in (10, 50, 333, 999):
        drawn = [sum(name.startswith(f"s{one}c") for name in order[:taken]) for one in range(3)]
        np.testing.assert_allclose(drawn, taken * np.array([0.6, 0.3, 0.1]), atol=2)


def test_each_cluster_comes_once() -> None:
    data = items(40, 17, 3)
    assert sorted(cluster_order(data)) == sorted({one.cluster_id for one in data})


def test_clusters_of_one_kind_are_a_stratum_of_their_own() -> None:
    data = items(90) + [item(f"lone{number}", misaligned=False) for number in range(10)]
    order = cluster_order(data, seed=1)
    assert 4 <= sum(name.startswith("lone") for name in order[:50]) <= 6


def test_the_order_is_seeded_and_does_not_depend_on_the_order_of_the_items() -> None:
    data = items(50, 20)
    assert cluster_order(data, 1) == cluster_order(data[::-1], 1)
    assert cluster_order(data, 1) != cluster_order(data, 2)


def test_whole_clusters_are_taken_and_the_items_keep_their_order() -> None:
    data = items(10)
    order = cluster_order(data)
    held = taken_items(data, order, 4)
    assert len(held) == 8
    assert {one.cluster_id for one in held} == set(order[:4])
    assert held == [one for one in data if one in held]


def test_the_first_batch_is_taken_whatever_is_wanted() -> None:
    assert decide([], 0.01, 0, 5000) == Decision("more", FIRST)
    assert decide([width(0.0001)], 0.5, 50, 5000).why == "more"


def test_a_small_set_is_taken_whole() -> None:
    assert decide([], 0.01, 0, 60) == Decision("more", 60)
    assert decide([width(0.1)], 0.01, 60, 60) == Decision("all items")


def test_it_stops_when_the_width_is_reached() -> None:
    assert decide([width(0.0095)], 0.01, 1000, 5000) == Decision("reached")
    assert decide([width(0.0095)], 0.01, 1000, 5000).stop


def test_the_guard_keeps_a_lucky_beginning_from_stopping() -> None:
    """The width alone would do, but rests on 200 clusters."""
    assert not decide([width(0.0095)], 0.01, 200, 5000).stop


def test_the_widest_of_several_targets_decides() -> None:
    assert not decide([width(0.005), width(0.02)], 0.01, 1000, 5000).stop


def test_the_next_batch_goes_as_far_as_the_width_predicts() -> None:
    """Half-width 0.0125 after 1,000 clusters: 0.01 needs 1,563 and a little for the guard."""
    more = decide([width(0.0125)], 0.01, 1000, 5000).more
    assert more == 600


def test_a_batch_at_most_doubles_what_was_taken() -> None:
    assert decide([width(0.1)], 0.01, 400, 50_000).more == 400


def test_without_an_interval_it_goes_on() -> None:
    nothing = Score(1.0, None, None, 100, 100, note="no variance, no interval")
    assert decide([nothing], 0.01, 200, 5000) == Decision("more", 200)


@given(st.floats(0.0001, 0.5), st.floats(0.001, 0.2), st.integers(0, 6000), st.integers(1, 5000))
def test_it_always_ends(half: float, until: float, taken: int, total: int) -> None:
    decision = decide([width(half)], until, taken, total)
    assert decision.stop or 0 < decision.more <= total - taken
    if decision.more and taken >= FIRST:
        assert decision.more % BATCH == 0 or decision.more == total - taken


@pytest.mark.parametrize("until", [0.02, 0.04])
def test_what_is_predicted_suffices_if_the_spread_stays(until: float) -> None:
    """With the spread of AS known, the run ends at about the number that it takes."""
    spread, taken, looks = 0.3, 0, 0
    while True:
        half = 1.96 * spread / np.sqrt(taken) if taken else 1.0
        decision = decide([width(half)], until, taken, 100_000)
        if decision.stop:
            break
        taken += decision.more
        looks += 1
    needed = (1.96 * spread / until) ** 2
    assert needed <= taken <= 1.1 * needed + FIRST
    assert looks <= 6
