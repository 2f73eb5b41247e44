"""The table of all pairs of targets, from verdicts on the same items."""

from __future__ import annotations

import json

import numpy as np
import pytest

from misalign_bench.bench.comparisons import Comparison, comparisons
from misalign_bench.bench.detectable_difference import clusters_needed
from misalign_bench.bench.metrics import Metrics, metrics
from misalign_bench.bench.permutation import holm
from misalign_bench.bench.table import ItemTable, VerdictTable
from misalign_bench.records import Answer, Item, Verdict

PROMPTS = 120
DOMAINS = ("safety/one", "safety/two", "safety/three", "safety/rare")


def items() -> list[Item]:
    """A pair for each prompt, in one of three domains; ten prompts in a fourth besides."""
    rows = []
    for prompt in range(PROMPTS):
        domains = (DOMAINS[prompt % 3], *(DOMAINS[3:] if prompt < 10 else ()))
        for misaligned in (True, False):
            rows.append(
                Item(
                    item_id=f"{prompt}-{misaligned}",
                    prompt_id=f"p{prompt}",
                    cluster_id=f"c{prompt:03d}",
                    prompt="",
                    response="",
                    misaligned=misaligned,
                    active=("safety",),
                    intended=("safety",),
                    intended_domains=domains,
                    violated={"safety": misaligned},
                    domains=domains,
                    generator="writer" if prompt % 4 else "other",
                )
            )
    return rows


def measured(seed: int, coverage: float, failures: float, own: str = "") -> Metrics:
    draw, held = np.random.default_rng(seed), items()
    said = [
        (row, 0, Verdict({"safety": Answer(bool(draw.random() < rate))}))
        for row, item in enumerate(held)
        for rate in [coverage if item.misaligned else failures]
    ]
    mine = np.array([item.generator == own for item in held])
    return metrics(ItemTable.of(held), VerdictTable.of(said), mine)


@pytest.fixture(scope="module")
def found() -> list[Comparison]:
    table = ItemTable.of(items())
    targets = {
        "good": measured(1, 0.95, 0.05),
        "bad": measured(2, 0.5, 0.5),
        "like bad": measured(3, 0.5, 0.5, own="other"),
    }
    return comparisons(table.cluster, table.clusters, targets, resamples=400, permutations=1999)


def test_every_two_targets_are_compared_once(found: list[Comparison]) -> None:
    names = [(one.first, one.second) for one in found]
    assert names == [("good", "bad"), ("good", "like bad"), ("bad", "like bad")]


def test_a_great_difference_is_found_and_its_interval_leaves_out_zero(
    found: list[Comparison],
) -> None:
    great = found[0]
    assert great.joint[2].p == 1 / 2000
    assert great.alignment_score.value == pytest.approx(great.joint[2].difference)
    assert great.alignment_score.low is not None
    assert great.alignment_score.low > 0


def test_none_is_found_where_there_is_none(found: list[Comparison]) -> None:
    assert (found[2].joint[2].p or 0) > 0.05


def test_the_detectable_difference_is_2_8_standard_errors(found: list[Comparison]) -> None:
    for one in found:
        error = one.alignment_score.standard_error
        assert error is not None
        assert one.detectable == pytest.approx(2.8016 * error, rel=1e-4)


def test_own_items_of_either_target_are_left_out(found: list[Comparison]) -> None:
    assert [one.alignment_score.clusters for one in found] == [120, 90, 90]


def test_holm_runs_over_the_pairs_and_over_the_domains_of_a_pair(found: list[Comparison]) -> None:
    joint = [one.joint[2].p or 0 for one in found]
    assert [one.p_holm for one in found] == holm(joint)
    domains = found[0].domains.values()
    assert [corrected for _, corrected in domains] == holm([test.p or 0 for test, _ in domains])


def test_a_domain_with_few_clusters_is_not_tested(found: list[Comparison]) -> None:
    assert list(found[0].domains) == sorted(DOMAINS[:3])


def test_the_table_is_json_without_gaps(found: list[Comparison]) -> None:
    table = json.loads(json.dumps(found[0].as_table(), allow_nan=False))
    assert {"first", "second", "coverage", "false_failure_rate", "domain"} <= table.keys()
    assert table["alignment_score"]["detectable_difference"] == found[0].detectable
    assert table["domain"]["safety/one"].keys() == {"difference", "p", "p_holm"}


def test_one_target_alone_has_no_comparison() -> None:
    table = ItemTable.of(items())
    assert comparisons(table.cluster, table.clusters, {"good": measured(1, 0.9, 0.1)}) == []


def test_half_the_difference_needs_four_times_the_clusters() -> None:
    assert clusters_needed(500, detectable=0.04, wanted=0.02) == 2000
