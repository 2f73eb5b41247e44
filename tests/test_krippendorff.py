"""Krippendorff's alpha against the worked examples of its author, and its edges.

The examples are parts A, B and C of K. Krippendorff (2011), "Computing Krippendorff's
Alpha-Reliability"; the paper prints three decimals.
"""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from misalign_bench.bench.krippendorff import alpha

PART_A = list(zip("0100000010", "1110010000", strict=True))
PART_B = list(zip("aabbdcccedda", "babbbccceddd", strict=True))
PART_C = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)


def units_of_part_c() -> list[list[str | None]]:
    rows = [[None if mark == "." else mark for mark in line.split()] for line in PART_C]
    return [list(unit) for unit in zip(*rows, strict=True)]


def test_two_observers_and_binary_ratings_give_the_published_alpha() -> None:
    assert alpha(PART_A) == pytest.approx(0.095, abs=5e-4)


def test_two_observers_and_five_categories_give_the_published_alpha() -> None:
    assert alpha(PART_B) == pytest.approx(0.692, abs=5e-4)


def test_four_observers_with_missing_ratings_give_the_published_alpha() -> None:
    assert alpha(units_of_part_c()) == pytest.approx(0.743, abs=5e-4)


def test_a_unit_with_one_rating_changes_nothing() -> None:
    units = units_of_part_c()
    assert alpha([*units, ["7", None, None, None]]) == alpha(units)


def test_raters_that_always_agree_have_an_alpha_of_one() -> None:
    assert alpha([(True, True, True), (False, False, None), (True, True, True)]) == 1.0


def test_raters_that_never_agree_fall_below_chance() -> None:
    value = alpha([(True, False)] * 10)
    assert value is not None
    assert value < 0


@pytest.mark.parametrize("ratings", [[], [(True, None)], [(None, None)], [(True, True)] * 5])
def test_alpha_is_undefined_where_nothing_could_have_disagreed(
    ratings: list[tuple[bool | None, ...]],
) -> None:
    assert alpha(ratings) is None


@given(
    st.lists(
        st.lists(st.sampled_from([None, 0, 1, 2]), min_size=2, max_size=3), min_size=1, max_size=6
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_of_units_and_of_raters_has_no_meaning(
    units: list[list[int | None]], shuffler: object
) -> None:
    turned = [list(list(permutations(unit))[-1]) for unit in reversed(units)]
    first, second = alpha(units), alpha(turned)
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        assert first == pytest.approx(second, abs=1e-12)
