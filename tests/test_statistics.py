"""The cluster bootstrap: what moves together, when there is no interval, and whether it covers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from misalign_bench.bench.intervals import Method
from misalign_bench.bench.metrics import Rates, Share
from misalign_bench.bench.statistics import DEFAULT_METHOD, Bootstrap
from misalign_bench.records import Score

Array = npt.NDArray[np.int64]


def share(flagged: Array, unscored: Array | None = None, failures: bool = False) -> Share:
    """A share with one answer per item, items 0, 1, 2 ..."""
    lost = np.zeros_like(flagged) if unscored is None else unscored
    rows = np.arange(len(flagged))
    ones = np.ones_like(flagged)
    return Share(rows, flagged, lost, ones, failures, {"parse": int(lost.sum())})


def estimate(
    shares: list[Share],
    cluster: Array,
    seed: int = 0,
    resamples: int = 500,
    method: Method = DEFAULT_METHOD,
) -> list[Score]:
    clusters = int(cluster.max()) + 1
    return Bootstrap(cluster, clusters, resamples, seed, method).scores([], shares)[1]


def answers(size: int, seed: int = 0, probability: float = 0.6) -> Array:
    return (np.random.default_rng(seed).random(size) < probability).astype(np.int64)


def test_a_plain_loop_over_drawn_clusters_finds_the_same_interval() -> None:
    """Some items in each of 60 clusters; the share lives in the later half of them only."""
    cluster = np.sort(np.random.default_rng(3).integers(0, 60, 400))
    rows = np.flatnonzero(cluster >= 30)
    later = replace(share(answers(len(rows))), items=rows)
    [score] = estimate([later], cluster, seed=11, resamples=100, method="percentile")
    values = []
    for drawn in np.random.default_rng(11).integers(60, size=(100, 60)).tolist():
        flagged = [later.flagged[cluster[rows] == one] for one in drawn]
        values.append(np.concatenate(flagged).mean())
    low, high = np.percentile(values, [2.5, 97.5])
    np.testing.assert_allclose([score.low or 0, score.high or 0], [low, high], atol=1e-12)


def test_under_twenty_clusters_there_is_no_interval() -> None:
    [score] = estimate([share(answers(190))], np.arange(190) % 19)
    assert (score.low, score.high) == (None, None)
    assert score.note == "too few for an interval"
    assert score.clusters == 19


def test_twenty_clusters_are_enough() -> None:
    [score] = estimate([share(answers(200))], np.arange(200) % 20)
    assert score.low is not None
    assert score.high is not None
    assert score.note == ""


def test_only_clusters_that_take_part_are_counted() -> None:
    few = replace(share(answers(10)), items=np.arange(10))
    [score] = estimate([few], np.arange(100))
    assert score.clusters == 10
    assert score.note == "too few for an interval"


def test_an_empty_cell_says_so() -> None:
    [score] = estimate([share(np.zeros(0, np.int64))], np.arange(30))
    assert (score.value, score.low, score.high, score.n) == (None, None, None, 0)
    assert score.note == "no items"


def test_a_cell_without_variance_has_no_interval_and_says_so() -> None:
    [score] = estimate([share(np.ones(50, np.int64))], np.arange(50))
    assert (score.value, score.low) == (1.0, None)
    assert score.note == "no variance, no interval"


def test_much_unscored_is_marked() -> None:
    lost = np.zeros(100, np.int64)
    lost[:6] = 1
    marked, unmarked = estimate(
        [share(np.zeros(100, np.int64) + 1 - lost, lost), share(answers(100), lost * 0)],
        np.arange(100),
    )
    assert marked.note == "over 5% unscored"
    assert (marked.n, marked.n_scored, marked.unscored) == (100, 94, {"parse": 6})
    assert unmarked.note == ""


def test_asking_for_no_resamples_gives_no_interval() -> None:
    [score] = estimate([share(answers(100))], np.arange(100), resamples=0)
    assert score.low is None
    assert score.note == "no interval asked for"


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    one, two, other = (estimate([share(answers(300))], np.arange(300), s)[0] for s in (1, 1, 2))
    assert one == two
    assert (one.low, one.high) != (other.low, other.high)


def test_a_share_has_the_same_interval_whatever_is_estimated_beside_it() -> None:
    cluster = np.arange(400) % 100
    first, second = share(answers(400, 1)), share(answers(400, 2))
    alone = estimate([first], cluster)
    together = estimate([second, first], cluster)
    assert alone[0] == together[1]


def test_two_targets_are_resampled_alike() -> None:
    cluster = np.arange(200)
    flagged = answers(200)
    one, two = share(flagged), share(1 - flagged)
    a, b = estimate([one, two], cluster, resamples=501)
    assert a.low is not None
    assert b.high is not None
    np.testing.assert_allclose(a.low, 1 - b.high)


def test_repeating_what_is_in_a_cluster_does_not_narrow_the_interval() -> None:
    flagged = answers(60)
    [once] = estimate([share(flagged)], np.arange(60))
    [often] = estimate([share(np.repeat(flagged, 8))], np.repeat(np.arange(60), 8))
    assert (once.value, once.low, once.high) == (often.value, often.low, often.high)
    assert often.n == 8 * once.n


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_order_of_items_does_not_matter(seed: int) -> None:
    flagged, cluster = answers(120), np.arange(120) // 3
    order = np.random.default_rng(seed).permutation(120)
    shuffled = replace(share(flagged[order]), items=order)
    assert estimate([share(flagged)], cluster) == estimate([shuffled], cluster)


@given(st.integers(0, 2**32 - 1), st.floats(0.15, 0.85), st.integers(25, 80))
@settings(max_examples=40, deadline=None)
def test_the_interval_holds_the_value(seed: int, probability: float, clusters: int) -> None:
    cluster = np.arange(clusters * 4) % clusters
    coverage = share(answers(len(cluster), seed, probability))
    failures = share(answers(len(cluster), seed + 1, 1 - probability), failures=True)
    bootstrap = Bootstrap(cluster, clusters, 200, seed=0)
    [triple], _ = bootstrap.scores([Rates(coverage, failures)])
    for score in triple:
        assert score.value is not None
        assert score.low is not None
        assert score.high is not None
        assert 0 <= score.low <= score.value <= score.high <= 1


def test_the_alignment_score_needs_clusters_on_both_sides() -> None:
    cluster = np.arange(100)
    few = replace(share(answers(10), failures=True), items=np.arange(10))
    [(coverage, _, alignment)], _ = Bootstrap(cluster, 100).scores(
        [Rates(share(answers(100)), few)]
    )
    assert coverage.low is not None
    assert alignment.low is None
    assert alignment.note == "too few for an interval"


def test_a_chunked_resample_is_the_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    flagged, cluster = answers(300), np.arange(300) // 3
    whole = estimate([share(flagged)], cluster)
    monkeypatch.setattr("misalign_bench.bench.statistics._CHUNK_CELLS", 777)
    assert estimate([share(flagged)], cluster) == whole


def test_intervals_cover_the_truth_about_as_often_as_they_claim() -> None:
    """Clusters whose items hang together, as prompts do; 95% intervals of Coverage and AS."""
    draw = np.random.default_rng(7)
    runs, clusters, each = 300, 60, 6
    cluster = np.repeat(np.arange(clusters), each)
    truth = {"coverage": 0.7, "alignment": 2 * 0.7 * 0.8 / 1.5}
    covered = dict.fromkeys(truth, 0)
    for run in range(runs):
        hits = draw.binomial(1, np.repeat(draw.beta(1.4, 0.6, clusters), each))
        alarms = draw.binomial(1, np.repeat(draw.beta(0.4, 1.6, clusters), each))
        cell = Rates(share(hits), share(alarms, failures=True))
        [(coverage, _, alignment)], _ = Bootstrap(cluster, clusters, 400, seed=run).scores([cell])
        for name, score in (("coverage", coverage), ("alignment", alignment)):
            assert score.low is not None
            assert score.high is not None
            covered[name] += score.low <= truth[name] <= score.high
    # Three standard errors of 300 runs are 0.038; the percentile method is a little short.
    assert 0.89 <= covered["coverage"] / runs <= 0.985
    assert 0.89 <= covered["alignment"] / runs <= 0.985


def test_intervals_that_ignore_clusters_would_not_cover() -> None:
    """The same data, every item its own cluster: this is what the unit is for."""
    draw = np.random.default_rng(7)
    covered = 0
    for run in range(100):
        hits = draw.binomial(1, np.repeat(draw.beta(1.4, 0.6, 60), 6))
        [score] = estimate([share(hits)], np.arange(360), seed=run, resamples=300)
        assert score.low is not None
        assert score.high is not None
        covered += score.low <= 0.7 <= score.high
    assert covered < 85
