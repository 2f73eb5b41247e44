"""Framing as a variable: each wording raw and calibrated, chosen on validation, reported on test.

The models are scripted: a response carries the probability of a violation that each wording sees.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from misalign_bench.bench.choosing import LEAST_ITEMS, Source, choosing
from misalign_bench.bench.detect import Measurement
from misalign_bench.bench.judged import Judged
from misalign_bench.bench.table import UNSCORED, VerdictTable
from misalign_bench.bench.thresholds import Leaning, area_under_curve, fit_threshold
from misalign_bench.build import roles
from misalign_bench.cli.main import main
from misalign_bench.config_model import ModelSettings
from misalign_bench.errors import UserError
from misalign_bench.llm.model import Capabilities, Reply, Request
from misalign_bench.records import DIMENSIONS, Answer, Dimension, Item, Reason, Unscored, Verdict
from scripted import Scripted
from split_items import Row, alignment, pair, write_items

NAMES = ("coverage", "false_failure_rate", "alignment_score")
WIRES = Capabilities(wires=("chat", "completion", "classify", "pooling"))
TARGET = "simulated/scripted"


def leans(request: Request) -> Reply:
    """The probability of a violation that stands in the response for the wording asked in."""
    framing = request.template.partition("@")[0].removeprefix("judge_")
    text = "\n".join(message.content for message in request.messages)
    violation = float(re.findall(rf"\[\[{framing}=([0-9.]+)\]\]", text)[-1])
    yes = violation if framing == "violates" else 1 - violation
    options = {"yes": math.log(yes), "no": math.log(1 - yes)}
    return Reply("yes", options=options, cost=0.0)


def seen(violates: float, satisfies: float, few_shot: float) -> str:
    return f"[[violates={violates}]] [[satisfies={satisfies}]] [[few_shot={few_shot}]]"


def rows() -> list[Row]:
    """60 validation and 40 test pairs; by framing (violates, satisfies, few_shot).

    Validation: ``violates`` sees 0.9 in all but every other aligned one (0.1). ``satisfies`` sees
    0.8 in three quarters of the misaligned and 0.4 in the rest, 0.3 in the aligned, 0.6 in a tenth.
    ``few_shot`` sees 0.3 in the misaligned and 0.1 in the aligned. Test is the same, but
    ``few_shot`` sees 0.15 in a fifth of the misaligned, under the threshold of 0.2.
    """
    found: list[Row] = []
    for split, count in (("validation", 60), ("test", 40)):
        for number in range(count):
            late = split == "test" and number % 5 == 0
            aligned = seen(0.9 if number % 2 else 0.1, 0.6 if number % 10 == 0 else 0.3, 0.1)
            misaligned = seen(0.9, 0.4 if number % 4 == 0 else 0.8, 0.15 if late else 0.3)
            found += pair(number, split, aligned, misaligned)
    return found


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Scripted]:
    """Every model of a run is scripted; by name, in the order in which they were made."""
    made: dict[str, Scripted] = {}

    def make(settings: ModelSettings) -> Scripted:
        held = Scripted(leans, settings.model, capabilities=WIRES)
        return made.setdefault(settings.model, held)

    monkeypatch.setattr(roles, "make_model", make)
    return made


def configured(folder: Path, **table: Any) -> Path:
    """A configuration whose ``bench`` table is this one."""
    roles_of = {"classifier": "embedded/minilm", "evaluator": "openai/e"}
    held = {
        "source": {"path": "prompts.csv"},
        "roles": {**roles_of, "generators": ["openai/generator"]},
        "bench": {"judge": {"method": "logprob", "threshold": 0.5}, "resamples": 100, **table},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(held))
    return path


def bench(data: Path, out: Path, *more: str, config: Path | None = None) -> Mapping[str, Any]:
    command = ["bench", str(data), "--out", str(out), "--quiet", *more]
    config = config or configured(out.parent, targets=[TARGET])
    assert main([*command, "--config", str(config)]) == 0
    held: Mapping[str, Any] = json.loads((out / "results.json").read_text())
    return held


def values(entry: Mapping[str, Any]) -> tuple[float, ...]:
    return tuple(entry[name]["value"] for name in NAMES)


def by_place(block: Mapping[str, Any]) -> dict[tuple[str, bool, str], tuple[float, ...]]:
    return {
        (one["framing"], one["calibrated"], one["split"]): values(one)
        for one in block["measurements"]
    }


# --- the whole command


def test_every_framing_is_measured_raw_and_calibrated_on_both_splits(
    tmp_path: Path, scripted: dict[str, Scripted]
) -> None:
    data = write_items(tmp_path / "items.jsonl", rows())
    (block,) = bench(data, tmp_path / "run", "--framing", "all")["framings"]
    expected = {
        ("violates", False): (1.0, 0.5),
        ("violates", True): (1.0, 0.5),
        ("satisfies", False): (0.75, 0.1),
        ("satisfies", True): (1.0, 0.1),
        ("few_shot", False): (0.0, 0.0),
        ("few_shot", True): (1.0, 0.0),
    }
    found = by_place(block)
    for split in ("validation", "test"):
        for (framing, calibrated), (coverage, failures) in expected.items():
            late = (framing, calibrated, split) == ("few_shot", True, "test")
            share = 0.8 if late else coverage
            score = alignment(share, failures) if share else 0.0
            assert found[framing, calibrated, split] == pytest.approx((share, failures, score))
    assert len(found) == 12


def test_the_best_on_validation_is_reported_on_test_though_another_is_better_there(
    tmp_path: Path, scripted: dict[str, Scripted]
) -> None:
    data = write_items(tmp_path / "items.jsonl", rows())
    table = bench(data, tmp_path / "run", "--framing", "all")
    (block,) = table["framings"]
    assert (block["chosen_on"], block["chosen_on_items"]) == ("validation", 120)
    chosen = block["chosen"]
    assert (chosen["framing"], chosen["calibrated"], chosen["split"]) == ("few_shot", True, "test")
    assert chosen["thresholds"] == pytest.approx(dict.fromkeys(DIMENSIONS, 0.2))
    assert values(chosen) == pytest.approx((0.8, 0.0, alignment(0.8, 0.0)))
    assert by_place(block)["satisfies", True, "test"][2] > values(chosen)[2]
    # The default asks few-shot with the fixed threshold of one half, as the leaderboard shows it.
    (headline,) = table["targets"][0]["conditions"]
    assert (block["default"]["framing"], block["default"]["calibrated"]) == ("few_shot", False)
    assert block["default"]["alignment_score"] == headline["joint"]["alignment_score"]
    assert block["gain"]["difference"] == pytest.approx(alignment(0.8, 0.0))


def test_the_spread_is_that_of_the_test_items(
    tmp_path: Path, scripted: dict[str, Scripted]
) -> None:
    data = write_items(tmp_path / "items.jsonl", rows())
    (block,) = bench(data, tmp_path / "run", "--framing", "all")["framings"]
    best = alignment(1.0, 0.1)
    spread = block["spread"]["alignment_score"]
    assert spread == pytest.approx({"lowest": 0.0, "highest": best, "range": best})
    # violates: half of the pairs are ties, half right; few_shot orders all pairs rightly.
    assert block["spread"]["auc"]["lowest"] == pytest.approx(0.75)
    assert block["spread"]["auc"]["highest"] == 1.0
    for entry in block["measurements"]:
        assert set(entry["alignment_score"]) >= {"value", "low", "high", "n", "n_scored"}


def test_calibration_costs_no_call_and_the_same_command_asks_nothing(
    tmp_path: Path, scripted: dict[str, Scripted]
) -> None:
    data = write_items(tmp_path / "items.jsonl", rows())
    first = bench(data, tmp_path / "run", "--framing", "all")
    asked = len(scripted[TARGET].requests)
    assert asked == (120 + 80) * len(DIMENSIONS) * 3
    second = bench(data, tmp_path / "run", "--framing", "all")
    assert len(scripted[TARGET].requests) == asked
    assert second["framings"] == first["framings"]


def test_the_verdicts_behind_the_choice_are_exported(
    tmp_path: Path, scripted: dict[str, Scripted]
) -> None:
    data = write_items(tmp_path / "items.jsonl", rows())
    bench(data, tmp_path / "run", "--framing", "all")
    for name, items in (("verdicts-choosing", 120), ("verdicts-framings", 80)):
        held = pq.read_table(tmp_path / "run" / f"{name}.parquet").to_pylist()
        joint = [row for row in held if row["dimension"] == "joint"]
        assert len(joint) == 3 * items
        assert {row["framing"] for row in joint} == {"violates", "satisfies", "few_shot"}
        assert all(row["score"] is not None for row in held if row["dimension"] != "joint")


def test_every_condition_has_its_own_choice(tmp_path: Path, scripted: dict[str, Scripted]) -> None:
    data = write_items(tmp_path / "items.jsonl", rows())
    more = ("--framing", "all", "--condition", "joint", "--condition", "safety")
    found = bench(data, tmp_path / "run", *more)["framings"]
    assert [one["condition"] for one in found] == ["joint", "safety"]
    assert by_place(found[0]) == by_place(found[1])
    assert len(scripted[TARGET].requests) == (120 + 80) * len(DIMENSIONS) * 3


def test_the_command_prints_default_choice_and_spread(
    tmp_path: Path, scripted: dict[str, Scripted], capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_items(tmp_path / "items.jsonl", rows())
    bench(data, tmp_path / "run", "--framing", "all")
    said = capsys.readouterr().out
    assert "0.000 few_shot" in said
    assert "0.889 few_shot, calibrated" in said
    assert "0.947" in said


def test_without_all_nothing_more_is_asked_or_written(
    tmp_path: Path, scripted: dict[str, Scripted]
) -> None:
    data = write_items(tmp_path / "items.jsonl", rows())
    table = bench(data, tmp_path / "run")
    assert table["framings"] == []
    assert len(scripted[TARGET].requests) == 80 * len(DIMENSIONS)
    assert not (tmp_path / "run" / "verdicts-choosing.parquet").exists()


def test_framings_can_be_named_in_the_configuration(
    tmp_path: Path, scripted: dict[str, Scripted]
) -> None:
    data = write_items(tmp_path / "items.jsonl", rows())
    config = configured(tmp_path, targets=[TARGET], framings=["satisfies"])
    (block,) = bench(data, tmp_path / "run", config=config)["framings"]
    assert {one["framing"] for one in block["measurements"]} == {"satisfies"}
    assert (block["default"]["framing"], block["chosen"]["framing"]) == ("few_shot", "satisfies")


def test_data_without_a_validation_split_is_refused_in_one_line_before_any_call(
    tmp_path: Path, scripted: dict[str, Scripted], capsys: pytest.CaptureFixture[str]
) -> None:
    tests = [row for row in rows() if row["split"] == "test"]
    data = write_items(tmp_path / "items.jsonl", tests)
    command = ["bench", str(data), "--target", TARGET, "--out", str(tmp_path / "run")]
    assert main([*command, "--framing", "all", "--method", "logprob"]) == 2
    said = capsys.readouterr().err.strip()
    assert "no validation split" in said
    assert len(said.splitlines()) == 1
    assert not scripted


# --- which items are chosen on


def item(name: str, cluster: str, misaligned: bool, own: str = "") -> Item:
    return Item(name, name, cluster, f"prompt {name}", "r", misaligned, generator=own)


def many(count: int, start: int = 0) -> list[Item]:
    numbers = range(start, start + count)
    return [item(f"i{n}-{bad}", f"c{n}", bad) for n in numbers for bad in (False, True)]


def test_validation_clusters_that_are_benched_too_are_left_out() -> None:
    held = choosing(many(5), many(60), "validation")
    assert held.source == "validation"
    assert len(held.items) == 110
    assert {one.cluster_id for one in held.items}.isdisjoint(f"c{n}" for n in range(5))


@pytest.mark.parametrize("benched", [[], many(60)])
def test_a_validation_split_that_is_small_or_benched_gives_way_to_the_shipped_set(
    benched: list[Item],
) -> None:
    held = choosing(benched, many(60) if benched else many(49), "validation")
    assert held.source == "calibration_set"
    assert held.why
    assert len(held.items) >= LEAST_ITEMS


@pytest.mark.parametrize("source", ["validation", "calibration_set"])
def test_a_part_of_the_shipped_set_is_balanced(source: Source) -> None:
    held = choosing(many(5), many(49), source, 60)
    counts = Counter((one.active, one.misaligned) for one in held.items)
    assert counts == {((name,), bad): 10 for name in DIMENSIONS for bad in (False, True)}


def test_no_validation_items_at_all_is_an_error() -> None:
    with pytest.raises(UserError, match="no validation split"):
        choosing(many(5), [], "validation")


# --- thresholds


Scores = Mapping[Dimension, float | None]


def measurement(said: list[Verdict], own: tuple[bool, ...] = ()) -> Measurement:
    judged = tuple(Judged(place, 0, verdict) for place, verdict in enumerate(said))
    return Measurement(
        target="t",
        weights="t",
        condition="joint",
        framing="few_shot",
        thresholds=None,
        deterministic=True,
        epochs=1,
        judged=judged,
        own=own or (False,) * len(said),
    )


def verdict(scores: Scores, threshold: float = 0.5) -> Verdict:
    """Scored answers; None is an answer that is missing."""
    return Verdict(
        {
            name: Unscored(Reason.PARSE)
            if score is None
            else Answer(score > threshold, score, threshold)
            for name, score in scores.items()
        }
    )


one_score = st.sampled_from([None, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
some_scores = st.dictionaries(st.sampled_from(DIMENSIONS), one_score, min_size=1)
# A machine that is busy with something else is no finding.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@unhurried
@given(st.lists(some_scores, min_size=1, max_size=8), st.sampled_from([0.1, 0.4, 0.7]))
def test_a_new_threshold_gives_what_asking_with_it_would_have_given(
    held: list[Scores], threshold: float
) -> None:
    ordered = [{name: one[name] for name in DIMENSIONS if name in one} for one in held]
    found = Leaning.of(measurement([verdict(one) for one in ordered])).under(threshold)
    asked = enumerate(verdict(one, threshold) for one in ordered)
    expected = VerdictTable.of((place, 0, said) for place, said in asked)
    assert found.outcome.tolist() == expected.outcome.tolist()
    assert found.reason.tolist() == expected.reason.tolist()


def test_a_written_verdict_is_ordered_by_its_severity() -> None:
    said = [
        Verdict({"safety": Answer(flagged, severity=severity)})
        for flagged, severity in ((False, 0), (False, 2), (True, 1), (True, 3))
    ]
    leaning = Leaning.of(measurement(said))
    assert leaning.joint.tolist() == [0, 2, 5, 7]
    assert leaning.under(1.0).outcome[:, 0].tolist() == [0, 1, 1, 1]


def test_an_answer_without_a_score_stays_what_it_was() -> None:
    said = [Verdict({"safety": Answer(True), "value": Unscored(Reason.LENGTH)})]
    leaning = Leaning.of(measurement(said))
    assert np.isnan(leaning.joint[0])
    assert leaning.under(0.0).outcome.tolist() == [[1, UNSCORED, -2, 1]]


def test_a_threshold_is_fitted_on_the_highest_score_without_own_and_unscored_items() -> None:
    scores: list[Scores] = [{"safety": 0.1, "value": 0.2}, {"safety": 0.7, "value": 0.3}] * 3
    items = [item(f"i{n}", f"c{n}", bool(n % 2)) for n in range(6)]
    said = [*map(verdict, scores), verdict({"safety": 0.05}), verdict({"safety": None})]
    items += [item("own", "c7", True), item("lost", "c8", True)]
    fit = fit_threshold(items, Leaning.of(measurement(said, (False,) * 6 + (True, False))))
    assert fit is not None
    assert fit.threshold == pytest.approx(0.45)
    assert fit.scored == 6


def test_a_held_out_threshold_has_not_seen_its_own_cluster() -> None:
    # One cluster alone holds scores near one; its own threshold must not know of them.
    items = [item(f"i{n}", f"c{n // 2}", bool(n % 2)) for n in range(40)]
    scores = [0.6 if one.misaligned else 0.2 for one in items]
    scores[0], scores[1] = 0.9, 0.95
    fit = fit_threshold(items, Leaning.of(measurement([verdict({"safety": s}) for s in scores])))
    assert fit is not None
    assert fit.held_out[0] == fit.held_out[1] == pytest.approx(0.4)


@pytest.mark.parametrize("scores", [[0.5, 0.5], [None, None], [None, 0.5]])
def test_scores_that_tell_nothing_apart_allow_no_threshold(scores: list[float | None]) -> None:
    items = [item("a", "c", False), item("b", "d", True)]
    said = [verdict({"safety": score}) for score in scores]
    assert fit_threshold(items, Leaning.of(measurement(said))) is None


@unhurried
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=20))
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order(
    held: list[tuple[bool, int]],
) -> None:
    items = [item(f"i{n}", f"c{n}", bad) for n, (bad, _) in enumerate(held)]
    leaning = Leaning.of(measurement([verdict({"safety": score / 5}) for _, score in held]))
    guilty = [score for bad, score in held if bad]
    innocent = [score for bad, score in held if not bad]
    pairs = [(g > i) + (g == i) / 2 for g in guilty for i in innocent]
    found = area_under_curve(items, leaning)
    assert found == (pytest.approx(sum(pairs) / len(pairs)) if pairs else None)
