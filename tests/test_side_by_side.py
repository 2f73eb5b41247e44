"""Several targets of several kinds in one command, each asked in its own way, at the same time."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from misalign_bench.bench.detect import detect
from misalign_bench.build import roles
from misalign_bench.cli.main import main
from misalign_bench.config import BenchSettings
from misalign_bench.config_model import ModelSettings
from misalign_bench.llm.model import Capabilities, Reply, Request
from misalign_bench.records import Answer, Dimension, Item, Verdict
from misalign_bench.report.page import render
from misalign_bench.report.runs import read_runs
from scripted import Scripted
from split_items import Row, pair, write_items

WIRES = Capabilities(wires=("chat", "completion", "classify", "pooling"))
ITEMS = [Item(f"i{n}", "p", "c", "prompt", "r", bool(n % 2)) for n in range(6)]


class Present:
    """How many targets have a question under way, and the most that had at once."""

    def __init__(self) -> None:
        self.now: set[str] = set()
        self.most = 0


class Target:
    """A target that takes a few turns of the loop to answer."""

    deterministic = True
    framing = "violates"
    thresholds: Mapping[Dimension, float] | None = None

    def __init__(self, name: str, present: Present) -> None:
        self.name = self.weights = name
        self._present, self._waiting = present, 0

    async def verdict(
        self, *, prompt: str, response: str, dimensions: tuple[Dimension, ...], epoch: int
    ) -> Verdict:
        self._waiting += 1
        self._present.now.add(self.name)
        self._present.most = max(self._present.most, len(self._present.now))
        for _ in range(3):
            await asyncio.sleep(0)
        self._waiting -= 1
        if not self._waiting:
            self._present.now.discard(self.name)
        return Verdict({dimension: Answer(flagged=False) for dimension in dimensions})


async def most_at_once(*names: str) -> int:
    present = Present()
    targets = [Target(name, present) for name in names]
    found = await detect(ITEMS, targets, ["joint", "safety"])  # type: ignore[arg-type]
    named = [(one.target, one.condition) for one in found.measurements]
    assert named == [(name, condition) for name in names for condition in ("joint", "safety")]
    assert all(len(one.judged) == len(ITEMS) for one in found.measurements)
    return present.most


async def test_targets_on_servers_are_asked_side_by_side() -> None:
    assert await most_at_once("openai/a", "openai/b", "inspect/c") == 3


async def test_models_in_this_process_take_turns() -> None:
    assert await most_at_once("embedded/a", "embedded/b", "embedded/c") == 1
    assert await most_at_once("embedded/a", "openai/b", "embedded/c") == 2


def test_a_target_may_be_asked_in_a_way_of_its_own() -> None:
    targets = ["openai/chat", {"model": "openai/base", "method": "completion"}]
    settings = BenchSettings.model_validate({"targets": targets, "judge": {"method": "logprob"}})
    assert [settings.judge_of(one).method for one in settings.targets] == ["logprob", "completion"]


def answer(request: Request) -> Reply:
    """Every kind of model sees that a response is bad if it says so."""
    bad = "bad" in request.messages[-1].content
    if request.wire == "classify":
        return Reply("-1.0" if bad else "1.0", cost=0.0)
    yes, no = math.log(0.1 if bad else 0.9), math.log(0.9 if bad else 0.1)
    return Reply("yes", options={"yes": yes, "no": no}, cost=0.0)


def test_one_command_benches_chat_base_and_reward_models_by_category(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Scripted] = {}

    def make(settings: ModelSettings) -> Scripted:
        held = Scripted(answer, settings.model, capabilities=WIRES)
        return made.setdefault(settings.model, held)

    monkeypatch.setattr(roles, "make_model", make)
    rows: list[Row] = []
    for number in range(50):
        for split in ("validation", "test"):
            rows += pair(number, split, "fine", "bad")
    data = write_items(tmp_path / "items.jsonl", rows)
    targets = [
        {"model": "openai/chat", "category": "general", "method": "logprob"},
        {"model": "openai/base", "category": "open-weight", "method": "completion"},
        {"model": "openai/reward", "category": "fine-tuned", "method": "reward"},
    ]
    config = {
        "source": {"path": "prompts.csv"},
        "roles": {
            "classifier": "embedded/minilm",
            "generators": ["openai/generator"],
            "evaluator": "openai/e",
        },
        "bench": {"targets": targets, "judge": {"threshold": 0.5}, "resamples": 100},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    out = tmp_path / "run"
    command = ["bench", str(data), "--config", str(tmp_path / "run.yaml"), "--out", str(out)]
    assert main([*command, "--quiet"]) == 0
    found = json.loads((out / "results.json").read_text())["targets"]
    shown = {one["name"]: (one["category"], one["method"]) for one in found}
    assert shown == {one["model"]: (one["category"], one["method"]) for one in targets}
    for one in found:
        (block,) = one["conditions"]
        assert block["joint"]["alignment_score"]["value"] == 1.0
    wires = {name: {request.wire for request in model.requests} for name, model in made.items()}
    assert wires == {
        "openai/chat": {"chat"},
        "openai/base": {"completion"},
        "openai/reward": {"classify"},
    }
    page = render(read_runs([out]))
    for category in ("general", "open-weight", "fine-tuned"):
        assert category in page
