"""The join by bands, compiled and in NumPy, and what is built on it, against plain references."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from misalign_bench.simhash import clusters, fast, neighbours
from misalign_bench.simhash.bands import KERNEL, NUMPY, Band, Plan, brute_force, plan
from misalign_bench.simhash.clusters import cluster, keep_first
from misalign_bench.simhash.pairs import Pairs, TooManyPairs, near_pairs, stream_near_pairs
from misalign_bench.simhash.verify import Similarities

MASK = (1 << 64) - 1
NUMBA = fast.numba() is not None
PATHS = ["numpy", pytest.param("kernels", marks=pytest.mark.skipif(not NUMBA, reason="no Numba"))]


@contextmanager
def on(path: str) -> Iterator[None]:
    """Send inputs of every size to the kernels, or none."""
    with patch.object(fast, "WORTH_IT", 0 if path == "kernels" else 1 << 60):
        yield


@st.composite
def plans(draw: st.DrawFn, tau: int) -> Plan:
    """Draw any plan that misses no pair: bands of any widths, radii that sum to tau + 1 - bands."""
    bands = draw(st.integers(1, min(tau + 1, 12)))
    if bands < 5:
        widths = {1: [0], 2: [0, 0], 3: [0, 0, 0], 4: [16, 16, 16, 16]}[bands]
    else:
        widths = [1] * bands
        for _ in range(64 - bands):
            widths[
                draw(st.integers(0, bands - 1)) if max(widths) < 14 else widths.index(min(widths))
            ] += 1
    if not any(widths):
        return brute_force(tau)
    radii = [0] * bands
    for _ in range(tau + 1 - bands):
        radii[draw(st.integers(0, bands - 1))] += 1
    return tuple(map(Band, [sum(widths[:k]) for k in range(bands)], widths, radii))


@st.composite
def clustered_codes(draw: st.DrawFn) -> list[int]:
    seed, size = draw(st.integers(0, 1 << 20)), draw(st.integers(0, 60))
    flips, centres = draw(st.integers(0, 20)), draw(st.integers(1, 20))
    source = random.Random(seed)
    origins = [source.getrandbits(64) for _ in range(centres)]
    codes = []
    for _ in range(size):
        code = source.choice(origins)
        for _ in range(source.randint(0, flips)):
            code ^= 1 << source.randrange(64)
        codes.append(code)
    return codes


def listed(pairs: Pairs) -> list[tuple[int, int, int]]:
    return list(zip(*(column.tolist() for column in pairs), strict=True))


def expected(codes: list[int], tau: int) -> list[tuple[int, int, int]]:
    """Near pairs by two loops: between first positions, and of each copy with its first."""
    first = {code: codes.index(code) for code in codes}
    found = []
    for i, a in enumerate(codes):
        for j in range(i + 1, len(codes)):
            distance = bin(a ^ codes[j]).count("1")
            firsts = first[a] == i and (first[codes[j]] == j or distance == 0)
            if distance <= tau and firsts:
                found.append((i, j, distance))
    return found


def planted(size: int, seed: int) -> np.ndarray:
    """Return random codes, some of which are others with a few bits flipped."""
    source = np.random.default_rng(seed)
    codes = source.integers(0, 2**64, size, dtype=np.uint64)
    third = size // 3
    flips = np.uint64(1) << source.integers(0, 64, (third, 9), dtype=np.uint64)
    flips[np.arange(9) >= source.integers(1, 10, third)[:, None]] = 0
    codes[third : 2 * third] = codes[:third] ^ np.bitwise_or.reduce(flips, axis=1)
    source.shuffle(codes)
    return codes


@pytest.mark.parametrize("path", PATHS)
@settings(deadline=None)
@given(st.data())
def test_any_plan_finds_what_brute_force_finds(path: str, data: st.DataObject) -> None:
    codes = data.draw(clustered_codes())
    tau = data.draw(st.integers(0, 14))
    bands = data.draw(plans(tau))
    with on(path):
        assert listed(near_pairs(np.array(codes, np.uint64), tau, bands=bands)) == expected(
            codes, tau
        )


@pytest.mark.parametrize("path", PATHS)
@settings(deadline=None)
@given(clustered_codes(), st.integers(0, 32), st.sampled_from([10, 10_000, 1_000_000]))
def test_any_tau_and_size_has_an_exact_plan(
    path: str, codes: list[int], tau: int, planned_for: int
) -> None:
    with on(path):
        bands = plan(planned_for, tau, KERNEL if path == "kernels" else NUMPY)
        found = near_pairs(np.array(codes, np.uint64), tau, bands=bands)
    assert listed(found) == expected(codes, tau)


@pytest.mark.parametrize("prices", [KERNEL, NUMPY])
@pytest.mark.parametrize("size", [0, 1, 20_000, 200_000, 1_000_000, 10_000_000])
def test_every_plan_keeps_the_pigeonhole_principle(size: int, prices: object) -> None:
    for tau in range(33):
        bands = plan(size, tau, prices)
        assert sum(band.radius + 1 for band in bands) == tau + 1
        assert sum(band.width for band in bands) in (0, 64)
        assert [band.shift for band in bands] == [
            sum(band.width for band in bands[:k]) for k in range(len(bands))
        ]


def test_plans_use_five_bands_up_to_a_million_and_four_above() -> None:
    assert len(plan(1_000_000, 10)) == 5
    assert len(plan(10_000_000, 10)) == 4


def test_a_band_lists_each_difference_once() -> None:
    masks = Band(3, 7, 2).masks()
    assert sorted(masks) == [mask for mask in range(128) if bin(mask).count("1") <= 2]
    assert len(masks) == Band(3, 7, 2).neighbours


@pytest.mark.skipif(not NUMBA, reason="no Numba")
@pytest.mark.parametrize("tau", [1, 3, 10, 13, 24])
def test_kernels_and_numpy_find_the_same_planted_pairs(tau: int) -> None:
    codes = planted(12_000, tau)
    with on("numpy"):
        plain = near_pairs(codes, tau, bands=brute_force(tau))
        banded = near_pairs(codes, tau)
    with on("kernels"):
        kernels = [near_pairs(codes, tau), near_pairs(codes, tau, bands=brute_force(tau))]
    assert len(plain.i) > 100
    for other in (banded, *kernels):
        assert all(np.array_equal(a, b) for a, b in zip(plain, other, strict=True))


@pytest.mark.parametrize("path", PATHS)
def test_more_pairs_than_a_buffer_holds_are_all_found(path: str) -> None:
    codes = np.random.default_rng(5).permutation(np.arange(1500, dtype=np.uint64))
    bands = (Band(0, 8, 5), Band(8, 20, 1), Band(28, 18, 1), Band(46, 18, 0))
    with on(path):
        for chosen in (bands, brute_force(10)):
            pairs = near_pairs(codes, 10, bands=chosen)
            differences = codes[pairs.i] ^ codes[pairs.j]
            counted = [bin(value).count("1") for value in differences.tolist()]
            assert counted == pairs.distance.tolist()
            unlike = sum(bin(a ^ b).count("1") > 10 for a in range(1500) for b in range(a))
            assert len(pairs.i) == len(set(zip(pairs.i.tolist(), pairs.j.tolist(), strict=True)))
            assert len(pairs.i) == 1500 * 1499 // 2 - unlike


@pytest.mark.parametrize("path", PATHS)
def test_a_stream_brings_the_same_pairs_in_bounded_blocks(path: str) -> None:
    codes = planted(3000, 8)
    codes[1000:1500] = codes[0]
    with on(path):
        blocks = list(stream_near_pairs(codes, 20))
        together = near_pairs(codes, 20)
    assert max(len(block.i) for block in blocks) <= 1 << 18
    assert sorted(pair for block in blocks for pair in listed(block)) == listed(together)


@pytest.mark.parametrize("path", PATHS)
def test_a_stream_can_be_left_early(path: str) -> None:
    with on(path):
        stream = stream_near_pairs(np.arange(4096, dtype=np.uint64), 12)
        first = next(stream)
        stream.close()
    assert len(first.i) > 0


@pytest.mark.parametrize("path", PATHS)
def test_codes_that_are_all_near_are_refused_at_the_limit(path: str) -> None:
    codes = np.arange(1 << 13, dtype=np.uint64)
    with on(path), pytest.raises(TooManyPairs, match="smaller tau"):
        near_pairs(codes, 13, limit=1_000_000)


@pytest.mark.skipif(not NUMBA, reason="no Numba")
def test_half_a_million_codes_are_joined_in_little_memory() -> None:
    near_pairs(planted(20_000, 1), 10)  # compiles
    codes = planted(500_000, 2)
    tracemalloc.start()
    try:
        pairs = near_pairs(codes, 10)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    result = sum(column.nbytes for column in pairs)
    assert len(pairs.i) > 100_000
    assert held < 32e6 + 3 * result


TEXT = "please write a short poem about the cold ocean in winter for my small class today"
WORDS = TEXT.split()


def variants(count: int, seed: int) -> list[str]:
    """Return texts of one template and its edits, many near each other, some equal."""
    source = random.Random(seed)
    texts = []
    for _ in range(count):
        words = [*WORDS[: source.randint(9, 16)], *source.choices(WORDS, k=source.randint(0, 3))]
        words[source.randrange(len(words))] = source.choice([*WORDS, "new", "X", "tale"])
        texts.append(" ".join(words))
    return texts


@pytest.mark.parametrize("verify", [None, 0.0, 0.7, 0.9])
@pytest.mark.parametrize("tau", [0, 10, 20])
def test_batches_and_crowds_change_no_decision(tau: int, verify: float | None) -> None:
    texts = variants(250, tau)
    for features in ("char-4", "word-1"):
        whole = keep_first(texts, tau, verify, features=features)
        for limit, crowded in ((1, 8), (50, 1), (1 << 18, 0)):
            with (
                patch.object(clusters, "_CANDIDATES", limit),
                patch.object(neighbours, "CROWDED", crowded),
            ):
                assert keep_first(texts, tau, verify, features=features) == whole


@pytest.mark.skipif(not NUMBA, reason="no Numba")
def test_kernels_and_numpy_drop_the_same_texts() -> None:
    texts = variants(1500, 3)
    done = []
    for path in ("numpy", "kernels"):
        with on(path):
            done.append((keep_first(texts, 10), cluster(texts, 10).labels.tolist()))
    assert done[0] == done[1]
    assert done[0][0].by_reason["near"] > 100


def test_a_report_of_clusters_counts_every_join() -> None:
    texts = variants(300, 4)
    loose, verified = cluster(texts, 10, None), cluster(texts, 10, 0.9)
    for found in (loose, verified):
        joins = len(texts) - len(set(found.labels.tolist()))
        assert sum(found.by_distance.values()) == sum(found.by_reason.values()) == joins
    apart = len(set(verified.labels.tolist())) - len(set(loose.labels.tolist()))
    assert verified.verified_out == apart > 0
    assert loose.verified_out == 0


def test_the_order_of_texts_changes_no_report_of_clusters() -> None:
    texts = variants(120, 6)
    there = cluster(texts, 12, 0.8)
    back = cluster(texts[::-1], 12, 0.8)
    assert there.by_distance == back.by_distance
    assert (there.by_reason, there.verified_out) == (back.by_reason, back.verified_out)


def test_a_crowd_of_texts_with_one_code_costs_no_square_without_verification() -> None:
    texts = [f"{' '.join(order)}" for order in _orders(3000)]
    asked = []
    with patch.object(Similarities, "one", lambda _, a, b: asked.append((a, b)) or 0.5):
        done = keep_first(texts, 10, None, features="word-1", short_words=0)
    assert done.kept == [0]
    assert len(asked) <= len(texts)


def _orders(count: int) -> list[list[str]]:
    source = random.Random(9)
    orders = {tuple(source.sample(WORDS, len(WORDS))) for _ in range(count)}
    return [list(order) for order in sorted(orders)]


def test_too_many_texts_to_verify_are_refused() -> None:
    texts = [" ".join(order) for order in _orders(40)]
    with (
        patch("misalign_bench.simhash.components.MAX_PAIRS", 100),
        pytest.raises(TooManyPairs, match="verified"),
    ):
        cluster(texts, 10, 0.7, features="word-1")
