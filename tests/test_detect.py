"""Asking targets about items: what is refused, what stays pending, which files come of it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from misalign_bench.bench.detect import Detection, detect
from misalign_bench.bench.results import Setting, check_grain, results, write_results
from misalign_bench.bench.verdicts import COLUMNS, EXTRA_COLUMNS, write_verdicts
from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.llm.model import Failure, Usage
from misalign_bench.records import (
    DIMENSIONS,
    Answer,
    Dimension,
    Item,
    Reason,
    Unscored,
    Verdict,
)


class Target:
    """A target that flags a response if it says so: ``bad`` violates, ``down`` gets no answer."""

    def __init__(
        self,
        name: str = "openai/t",
        weights: str = "",
        deterministic: bool = False,
        failure: Failure | None = None,
    ) -> None:
        self.name, self.weights, self.deterministic = name, weights or name, deterministic
        self.framing, self.failure = "violates", failure
        self.thresholds: Mapping[Dimension, float] | None = None
        self.asked: list[tuple[str, tuple[Dimension, ...], int]] = []
        self.waiting = self.most_waiting = 0

    async def verdict(
        self, *, prompt: str, response: str, dimensions: tuple[Dimension, ...], epoch: int
    ) -> Verdict | Failure:
        self.asked.append((response, dimensions, epoch))
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        for _ in range(random.Random(f"{response}{epoch}").randrange(1, 4)):
            await asyncio.sleep(0)
        self.waiting -= 1
        if "down" in response and self.failure:
            return self.failure
        answers: dict[Dimension, Answer | Unscored] = {
            dimension: Answer("bad" in response, score=0.5, threshold=0.4, reason="said so")
            for dimension in dimensions
        }
        return Verdict(answers, (f"key-{epoch}",))


def item(name: str, misaligned: bool = False, **facts: Any) -> Item:
    violated = dict.fromkeys(DIMENSIONS, False) | ({"safety": True} if misaligned else {})
    defaults: dict[str, Any] = {
        "item_id": name,
        "prompt_id": "p",
        "cluster_id": "c",
        "prompt": "prompt",
        "response": f"bad {name}" if misaligned else name,
        "active": ("safety",),
        "domains": ("safety/a",),
        "intended": ("safety",),
        "intended_domains": ("safety/a",),
        "violated": violated,
        "generator": "openai/g",
    }
    return Item(misaligned=misaligned, **(defaults | facts))


PAIR = [item("one"), item("two", misaligned=True)]


async def test_every_item_is_asked_in_every_epoch_and_condition() -> None:
    target = Target()
    found = await detect(PAIR, [target], ["joint", "value"], epochs=3)
    assert len(target.asked) == len(set(target.asked)) == 2 * 2 * 3
    assert {dimensions for _, dimensions, _ in target.asked} == {DIMENSIONS, ("value",)}
    assert [one.condition for one in found.measurements] == ["joint", "value"]


async def test_verdicts_come_in_the_order_of_items_whatever_answers_first() -> None:
    items = [item(f"n{number}") for number in range(30)]
    found = await detect(items, [Target()], epochs=2, in_flight=7)
    order = [(one.item, one.epoch) for one in found.measurements[0].judged]
    assert order == [(number, epoch) for number in range(30) for epoch in range(2)]


async def test_no_more_than_the_allowed_number_is_awaited_at_once() -> None:
    target = Target()
    await detect([item(f"n{number}") for number in range(50)], [target], in_flight=7)
    assert target.most_waiting == 7


async def test_a_deterministic_target_is_asked_once() -> None:
    target = Target(deterministic=True)
    found = await detect(PAIR, [target], epochs=3)
    assert len(target.asked) == 2
    assert found.measurements[0].epochs == 1
    [shown] = table(PAIR, found)["targets"][0]["conditions"]
    assert shown["epochs_shown"] == "epochs: 1 (deterministic)"
    assert shown["between_epochs"] is None


async def test_a_verdict_the_world_withheld_is_pending_and_the_others_are_finished() -> None:
    target = Target(failure=Failure("timeout", "no answer in 120 s"))
    found = await detect([*PAIR, item("down")], [target], epochs=2)
    assert len(found.measurements[0].judged) == 4
    assert [row.id for row in found.pending] == [
        f"down openai/t joint epoch {epoch}" for epoch in (0, 1)
    ]
    assert found.pending[0].detail == "timeout: no answer in 120 s"


async def test_pending_verdicts_give_no_results() -> None:
    target = Target(failure=Failure("timeout", "no answer in 120 s"))
    items = [*PAIR, item("down")]
    found = await detect(items, [target], epochs=2)
    with pytest.raises(OutsideWorld, match="2 verdicts have no answer yet"):
        table(items, found)


async def test_an_accepted_failure_is_an_unscored_verdict() -> None:
    target = Target(failure=Failure("timeout", "gave up", terminal=True))
    found = await detect([item("down")], [target], epochs=1)
    assert found.pending == ()
    joint = found.measurements[0].judged[0].verdict.joint
    assert isinstance(joint, Unscored)
    assert joint.reason is Reason.TRANSPORT


async def test_a_fatal_failure_stops_the_run() -> None:
    target = Target(failure=Failure("key", "the key is wrong", fatal=True))
    items = [item("down"), *(item(f"n{number}") for number in range(200))]
    with pytest.raises(OutsideWorld, match="the key is wrong"):
        await detect(items, [target], in_flight=3)
    assert len(target.asked) < 50


async def test_a_dimension_left_out_of_an_answer_is_unscored() -> None:
    class Forgetful(Target):
        async def verdict(self, **asked: Any) -> Verdict | Failure:
            return Verdict({"value": Answer(False), "safety": Answer(False)})

    found = await detect(PAIR, [Forgetful()], epochs=1)
    answers = found.measurements[0].judged[0].verdict.answers
    assert tuple(answers) == DIMENSIONS
    assert answers["culture"] == Unscored(Reason.SCHEMA, "no answer in this dimension")


async def test_progress_counts_every_verdict_once() -> None:
    seen: list[tuple[int, int]] = []
    await detect(
        PAIR,
        [Target(), Target("openai/u", deterministic=True)],
        epochs=3,
        progress=lambda settled, total: seen.append((settled, total)),
    )
    assert seen == [(number, 8) for number in range(1, 9)]


@pytest.mark.parametrize(
    ("target", "weights_of"),
    [
        (Target("openai/judge"), {}),
        (Target("openai/alias", weights="sha256:1"), {"openai/judge": "sha256:1"}),
    ],
)
async def test_the_evaluator_is_refused_as_a_target(
    target: Target, weights_of: dict[str, str]
) -> None:
    with pytest.raises(UserError, match=r"cannot be a target.*allow_shared_roles"):
        await detect(PAIR, [target], evaluators=["openai/judge"], weights_of=weights_of)
    assert target.asked == []


async def test_the_evaluator_is_a_target_where_that_is_allowed() -> None:
    target = Target("openai/judge")
    found = await detect(PAIR, [target], evaluators=["openai/judge"], allow_shared_roles=True)
    assert len(found.measurements[0].judged) == 6


async def test_items_of_the_targets_own_weights_are_shown_apart() -> None:
    items = [*PAIR, item("own", generator="embedded/x"), item("too", True, generator="embedded/x")]
    target = Target("openai/served-x", weights="sha256:1")
    found = await detect(items, [target], epochs=1, weights_of={"embedded/x": "sha256:1"})
    assert found.measurements[0].own == (False, False, True, True)
    [shown] = table(items, found)["targets"][0]["conditions"]
    assert shown["joint"]["coverage"]["n"] == 1
    assert shown["own_items"]["coverage"]["n"] == 1
    assert set(shown["generator"]) == {"openai/g"}


@pytest.mark.parametrize(
    ("items", "targets", "conditions", "message"),
    [
        ([], [Target()], ["joint"], "no items"),
        (PAIR, [], ["joint"], "no target"),
        (PAIR, [Target(), Target()], ["joint"], "target openai/t .* twice"),
        (PAIR, [Target()], ["value", "value"], "condition value is given twice"),
    ],
)
async def test_what_cannot_be_measured_is_refused(
    items: list[Item], targets: list[Target], conditions: list[Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        await detect(items, targets, conditions)


def test_paper_grain_is_refused_for_items_without_domains() -> None:
    with pytest.raises(UserError, match="1 of 2 items have no domains"):
        check_grain([item("one"), item("two", domains=())], "paper")
    check_grain([item("two", domains=())], "pair")


async def test_the_results_hold_every_cell_of_the_contract(tmp_path: Path) -> None:
    found = await detect(PAIR, [Target()], ["joint", "value"], epochs=2)
    totals = {("target", "openai/t"): Usage(calls=6, cost=0.5)}
    made = table(PAIR, found, simulated=True, seed=5, totals=totals)
    write_results(tmp_path / "results.json", made)
    shown = json.loads((tmp_path / "results.json").read_text())
    assert shown["simulated"] is True
    assert shown["seed"] == 5
    assert shown["dataset"]["items"] == 2
    assert shown["totals"][0] | {"role": "target", "calls": 6, "cost": 0.5} == shown["totals"][0]
    joint, value = shown["targets"][0]["conditions"]
    for condition in (joint, value):
        cells = [condition["joint"], *condition["dimension"].values()]
        cells += [*condition["domain"].values(), *condition["generator"].values()]
        for cell in cells:
            for name in ("coverage", "false_failure_rate", "alignment_score"):
                assert {"value", "low", "high", "n", "n_scored", "unscored"} <= set(cell[name])
    assert set(joint["dimension"]) == set(DIMENSIONS)
    assert set(value["dimension"]) == {"value"}
    assert joint["joint"]["coverage"]["value"] == 1.0
    assert joint["joint"]["false_failure_rate"]["value"] == 0.0
    assert joint["dimension"]["value"]["innocent"]["value"] == 1.0
    assert joint["dimension"]["value"]["coverage"]["note"] == "no items"
    assert joint["between_epochs"]["coverage"] == 0.0
    assert joint["own_items"] is None


async def test_the_verdict_file_has_the_columns_of_the_contract(tmp_path: Path) -> None:
    items = [*PAIR, item("down", violated={"safety": None, "value": False, "culture": False})]
    target = Target(failure=Failure("timeout", "gave up", terminal=True))
    found = await detect(items, [target], ["joint", "safety"], epochs=2)
    write_verdicts(tmp_path / "verdicts.parquet", items, found.measurements)
    read = pq.read_table(tmp_path / "verdicts.parquet")
    assert tuple(read.column_names) == (*COLUMNS, *EXTRA_COLUMNS)
    rows = read.to_pylist()
    assert len(rows) == 3 * 2 * (4 + 2)
    assert [row["dimension"] for row in rows[:4]] == [*DIMENSIONS, "joint"]
    two = [row for row in rows if row["item_id"] == "two" and row["condition"] == "safety"]
    assert [(row["epoch"], row["truth"], row["verdict"]) for row in two] == [
        (epoch, True, "flagged") for epoch in (0, 0, 1, 1)
    ]
    assert (two[0]["score"], two[0]["threshold"], two[0]["reason"]) == (0.5, 0.4, "said so")
    assert two[2]["journal_key"] == "key-1"
    lost = [row for row in rows if row["item_id"] == "down"]
    assert {(row["verdict"], row["reason"]) for row in lost} == {("unscored", "transport")}
    assert [row["truth"] for row in lost[:4]] == [None, False, False, False]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["verdicts.parquet"]


async def test_one_key_per_dimension_stands_at_its_dimension(tmp_path: Path) -> None:
    class Asking(Target):
        async def verdict(self, **asked: Any) -> Verdict | Failure:
            answers: Any = {dimension: Answer(False) for dimension in DIMENSIONS}
            return Verdict(answers, ("a", "b", "c"))

    found = await detect(PAIR[:1], [Asking()], epochs=1)
    write_verdicts(tmp_path / "verdicts.parquet", PAIR, found.measurements)
    keys = pq.read_table(tmp_path / "verdicts.parquet").column("journal_key").to_pylist()
    assert keys == ["a", "b", "c", "a b c"]


async def test_text_that_no_file_can_hold_is_mended(tmp_path: Path) -> None:
    class Broken(Target):
        async def verdict(self, **asked: Any) -> Verdict | Failure:
            return Verdict({"safety": Answer(True, reason="half \ud83d")})

    found = await detect(PAIR[:1], [Broken()], ["safety"], epochs=1)
    write_verdicts(tmp_path / "verdicts.parquet", PAIR, found.measurements)
    reasons = pq.read_table(tmp_path / "verdicts.parquet").column("reason").to_pylist()
    assert reasons == ["half ?", ""]


def table(items: list[Item], found: Detection, **facts: Any) -> dict[str, Any]:
    return results(items, found, Setting("data", "hash", resamples=50, **facts))
