"""Corrected metrics against examples counted by hand, and against what they must agree with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from misalign_bench.bench.audit.estimators import (
    REFUSED,
    Corrected,
    Measured,
    corrected,
    invert,
    rogan_gladen,
)
from misalign_bench.bench.audit.evaluator import Labelled, corrected_rate, known_error
from misalign_bench.bench.audit.key import KeyRow
from misalign_bench.bench.audit.resampling import Resampling, estimate
from misalign_bench.bench.audit.sample import Stratum
from misalign_bench.bench.intervals import alignment_scores
from misalign_bench.bench.metrics import alignment_score
from misalign_bench.bench.statistics import TOO_FEW, resample_weights
from misalign_bench.records import DIMENSIONS

NONE = Resampling(resamples=0)
Numbers = Sequence[float]


def measured(
    said: Numbers,
    flagged: Numbers,
    true: Sequence[float | None],
    weights: Numbers | None = None,
    alarm: Numbers | None = None,
) -> Measured:
    """Responses in clusters of their own; ``true`` is None where people gave no label."""
    known = np.array([one is not None for one in true])
    truth = np.array([one or 0 for one in true], np.float64)
    given = np.array(weights if weights is not None else np.ones(len(said)), np.float64)
    kind = np.array(said, np.int64)
    return Measured(
        cluster=np.arange(len(said)),
        clusters=len(said),
        kind=kind,
        hit=np.array(flagged, np.float64),
        alarm=np.array(flagged if alarm is None else alarm, np.float64),
        violating=kind.astype(np.float64),
        innocent=1.0 - kind,
        weight=np.where(known, given, 0.0),
        truly_violating=truth,
        truly_innocent=1 - truth,
    )


def powered(found: Corrected) -> tuple[float | None, float | None, float | None]:
    triple = found.prediction_powered
    return (
        triple.coverage.value,
        triple.false_failure_rate.value,
        triple.alignment_score.value,
    )


def test_the_difference_estimator_counted_by_hand() -> None:
    # Eight responses, four of each kind; two of each labelled, so a label stands for two.
    said = [1, 1, 1, 1, 0, 0, 0, 0]
    flagged = [1, 1, 1, 0, 1, 0, 0, 0]
    true = [1, 0, None, None, 1, 0, None, None]
    found = corrected(measured(said, flagged, true), NONE, inversion=True)
    assert (found.raw.coverage.value, found.raw.false_failure_rate.value) == (0.75, 0.25)
    # Totals of E a, E, (1 - E) a, 1 - E are 3, 4, 1, 4. The second response is no violation, it
    # takes 2 flags of 2 away; the fifth is one, with 2 flags of 2 more.
    assert powered(found)[:2] == (pytest.approx(3 / 4), pytest.approx(1 / 4))
    assert [one.value for one in found.purity] == [0.5, 0.5]
    # The seventh and eighth unlabelled, the fifth no violation: only the second counts.
    true = [1, 0, None, None, 0, 0, None, None]
    found = corrected(measured(said, flagged, true), NONE, inversion=True)
    assert powered(found)[:2] == (pytest.approx(1 / 2), pytest.approx(3 / 6))
    assert found.audited == 4


def test_weights_say_how_many_responses_a_label_stands_for() -> None:
    said, flagged = [1, 1, 1, 0], [1, 1, 0, 0]
    found = corrected(measured(said, flagged, [1, 0, None, 0], [2, 1, 1, 1]), NONE, inversion=False)
    # Of three, one third by weight is no violation and was flagged: 2 - 1 flags of 3 - 1.
    assert powered(found)[0] == pytest.approx(1 / 2)
    assert powered(found)[1] == pytest.approx(1 / 2)


def test_a_census_gives_what_people_would_have_measured() -> None:
    draw = np.random.default_rng(1)
    said = draw.integers(0, 2, 300)
    true = np.where(draw.random(300) < 0.8, said, 1 - said)
    flagged = draw.random(300)
    found = corrected(
        measured(said.tolist(), flagged.tolist(), true.tolist()), NONE, inversion=True
    )
    coverage, failures = flagged[true == 1].mean(), flagged[true == 0].mean()
    assert powered(found) == pytest.approx(
        (coverage, failures, alignment_score(coverage, failures)), abs=1e-12
    )


def test_where_the_evaluator_is_never_wrong_nothing_changes() -> None:
    draw = np.random.default_rng(2)
    said = draw.integers(0, 2, 200)
    flagged = (draw.random(200) < 0.6).astype(float).tolist()
    true = [int(one) if place < 80 else None for place, one in enumerate(said)]
    how = Resampling(resamples=200, seed=3)
    found = corrected(measured(said.tolist(), flagged, true), how, inversion=True)
    assert found.inversion is not None
    for name in ("coverage", "false_failure_rate", "alignment_score"):
        raw = getattr(found.raw, name)
        for other in (found.prediction_powered, found.inversion):
            assert getattr(other, name).value == pytest.approx(raw.value)
            assert getattr(other, name).low == pytest.approx(raw.low)


def test_no_verdict_counts_as_wrong_by_what_people_say() -> None:
    # One verdict of each kind is missing: not flagged if it violates, flagged if not.
    said, hit, alarm = [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 1]
    found = corrected(measured(said, hit, [1, 0, 0, 1], alarm=alarm), NONE, inversion=False)
    assert powered(found)[:2] == (pytest.approx(1 / 2), pytest.approx(1 / 2))
    true = corrected(measured(said, hit, [1, 1, 0, 0], alarm=alarm), NONE, inversion=False)
    assert powered(true)[:2] == (pytest.approx(1 / 2), pytest.approx(1 / 2))


def test_a_kind_without_a_label_has_no_correction() -> None:
    found = corrected(
        measured([1, 1, 0, 0], [1, 0, 0, 1], [1, 0, None, None]), NONE, inversion=True
    )
    assert powered(found) == (None, None, None)
    assert found.raw.coverage.value == 0.5


def test_the_inversion_undoes_the_mixture() -> None:
    coverage, failures, p1, p0 = np.random.default_rng(6).uniform(0.02, 0.98, (4, 500))
    f1 = p1 * coverage + (1 - p1) * failures
    f0 = (1 - p0) * coverage + p0 * failures
    clear = p1 + p0 - 1 >= 0.2
    found = invert(f1, f0, p1, p0)
    assert found[0][clear] == pytest.approx(coverage[clear])
    assert found[1][clear] == pytest.approx(failures[clear])


def test_the_inversion_is_refused_where_the_labels_tell_too_little() -> None:
    said, flagged = [1] * 10 + [0] * 10, [1.0, 0.0] * 10
    vague = [1] * 6 + [0] * 4 + [0] * 5 + [1] * 5  # p1 0.6, p0 0.5
    found = corrected(measured(said, flagged, vague), NONE, inversion=True)
    assert found.inversion is not None
    assert found.inversion.coverage.value is None
    assert found.inversion.alignment_score.note == REFUSED
    clear = [1] * 8 + [0] * 2 + [0] * 5 + [1] * 5  # p1 0.8, p0 0.5
    found = corrected(measured(said, flagged, clear), NONE, inversion=True)
    assert found.inversion is not None
    assert found.inversion.coverage.value is not None
    assert corrected(measured(said, flagged, clear), NONE, inversion=False).inversion is None


def test_rogan_gladen_undoes_a_judges_error_where_it_is_not_refused() -> None:
    rate, sensitivity, specificity = np.random.default_rng(7).uniform(0.02, 0.98, (3, 500))
    found = rogan_gladen(
        rate * sensitivity + (1 - rate) * (1 - specificity), sensitivity, specificity
    )
    clear = sensitivity + specificity - 1 >= 0.2
    assert found[clear] == pytest.approx(rate[clear])
    assert np.isnan(found[~clear]).all()


def test_rogan_gladen_stays_a_rate() -> None:
    found = rogan_gladen(np.array([0.01, 0.99]), np.array([0.9, 0.9]), np.array([0.9, 0.9]))
    assert found.tolist() == [0.0, 1.0]


def test_intervals_resample_the_audit_too() -> None:
    # The raw verdicts leave no chance, only the labels do.
    said, flagged = [1] * 60 + [0] * 60, [1.0] * 60 + [0.0] * 60
    true = [int(place % 4 != 0) for place in range(60)] + [
        int(place % 5 == 0) for place in range(60)
    ]
    how = Resampling(resamples=500, seed=1, method="percentile")
    found = corrected(measured(said, flagged, true), how, inversion=True)
    assert found.raw.coverage.low is None
    score = found.prediction_powered.coverage
    assert score.value == pytest.approx(45 / (45 + 12))
    assert score.low is not None
    assert score.high is not None
    # The standard deviation of a share of 45 in 57 is 0.054.
    assert 0.15 < score.high - score.low < 0.27


def test_under_20_audited_clusters_there_is_no_interval() -> None:
    said, flagged = [1, 0] * 40, [1.0, 0.0, 0.0, 1.0] * 20
    true = [one if place < 19 else None for place, one in enumerate(said)]
    found = corrected(measured(said, flagged, true), Resampling(100), inversion=True)
    assert found.raw.coverage.low is not None
    assert found.prediction_powered.coverage.note == TOO_FEW


def test_an_estimate_is_what_resampling_by_hand_gives() -> None:
    sums = np.random.default_rng(5).integers(0, 5, (2, 30)).astype(float)
    how = Resampling(resamples=300, seed=11, method="percentile")
    (found,) = estimate(sums, lambda held: (held[0] / held[1])[None], 30, how)
    (weights,) = resample_weights(30, 300, 11)
    drawn = (sums[0] @ weights) / (sums[1] @ weights)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, (0.025, 0.975))))
    assert found.value == pytest.approx(sums[0].sum() / sums[1].sum())


def row(number: int, stratum: Stratum, flagged: bool | None) -> KeyRow:
    return KeyRow(
        id=f"r{number}",
        stratum=stratum,
        weight=1.0,
        item_id="",
        cluster_id=f"c{number}",
        prompt_id="p",
        generator="g",
        kind="aligned",
        split="",
        journal_key="k",
        flagged=dict.fromkeys(DIMENSIONS, flagged),
    )


def judged(stratum: Stratum, *answers: tuple[bool, bool | None], start: int = 0) -> list[Labelled]:
    """Labelled responses: what people say, what the evaluator says."""
    return [
        Labelled(row(start + place, stratum, said), true, said)
        for place, (true, said) in enumerate(answers)
    ]


def test_the_evaluators_metrics_counted_by_hand() -> None:
    found = judged("accepted", (True, True), (True, False), (False, False), (False, False))
    found += judged("rejected", (True, False), (False, True), start=4)
    known = known_error(found, {"accepted": 40, "rejected": 100}, NONE)
    # A label stands for 10 accepted or 50 rejected: 10 of 70 violations are found, 50 of 70
    # innocent ones are flagged.
    assert known.metrics.coverage.value == pytest.approx(10 / 70)
    assert known.metrics.false_failure_rate.value == pytest.approx(50 / 70)
    assert known.metrics.alignment_score.value == pytest.approx(alignment_score(10 / 70, 50 / 70))
    assert known.counts == {"hit": 1, "missed": 2, "alarm": 1, "passed": 2, "unscored": 0}


def test_the_evaluators_metrics_are_the_ratios_of_weighted_sums() -> None:
    draw = np.random.default_rng(8)
    true, said = draw.random(80) < 0.5, draw.random(80) < 0.5
    weight: npt.NDArray[np.float64] = np.where(np.arange(80) < 50, 400 / 50, 90 / 30)
    found = judged("accepted", *zip(true[:50].tolist(), said[:50].tolist(), strict=True))
    found += judged("rejected", *zip(true[50:].tolist(), said[50:].tolist(), strict=True), start=50)
    known = known_error(found, {"accepted": 400, "rejected": 90}, NONE).metrics
    assert known.coverage.value == pytest.approx(
        (weight * (true & said)).sum() / weight[true].sum()
    )
    assert known.false_failure_rate.value == pytest.approx(
        (weight * (~true & said)).sum() / weight[~true].sum()
    )


def test_an_evaluator_without_a_verdict_is_wrong() -> None:
    found = judged("accepted", (True, None), (True, True), (False, None), (False, False))
    known = known_error(found, {"accepted": 4, "rejected": 0}, NONE)
    assert known.metrics.coverage.value == 0.5
    assert known.metrics.false_failure_rate.value == 0.5
    assert known.counts["unscored"] == 2


def test_a_stratum_without_a_label_leaves_the_evaluator_unknown() -> None:
    found = judged("accepted", (True, True), (False, False))
    known = known_error(found, {"accepted": 2, "rejected": 5}, NONE)
    assert known.metrics.coverage.value is None


def test_a_judges_rate_is_corrected_by_its_audited_error() -> None:
    answers = (
        [(True, True)] * 18 + [(True, False)] * 2 + [(False, False)] * 16 + [(False, True)] * 4
    )
    found = judged("accepted", *answers)
    seen = [(f"d{number}", float(number < 30)) for number in range(100)]
    how = Resampling(resamples=400, seed=2)
    one = corrected_rate(seen, found, {"accepted": 40, "rejected": 0}, how)
    assert one.value == pytest.approx((0.3 + 0.8 - 1) / (0.9 + 0.8 - 1))
    assert one.low is not None
    assert one.high is not None
    assert one.low < one.value < one.high
    assert one.high - one.low > 0.2


def test_a_judge_that_guesses_has_its_rate_refused() -> None:
    found = judged("accepted", *[(True, True), (True, False), (False, True), (False, False)] * 10)
    one = corrected_rate([("d", 1.0)], found, {"accepted": 40, "rejected": 0}, Resampling(50))
    assert (one.value, one.note) == (None, REFUSED)


def test_as_of_corrected_shares_is_that_of_the_bench() -> None:
    values = np.array([0.7]), np.array([0.2])
    assert alignment_scores(*values)[0] == pytest.approx(alignment_score(0.7, 0.2))
