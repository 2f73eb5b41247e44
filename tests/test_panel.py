"""The panel's rules, who may sit on it, and which family a model is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from misalign_bench.errors import UserError
from misalign_bench.judge.model_family import model_family
from misalign_bench.judge.panel import Panel, Rule, seat
from misalign_bench.records import DIMENSIONS, Answer, Dimension, Reason, Unscored, Verdict

FLAG, PASS, LOST = Answer(True), Answer(False), Unscored(Reason.PARSE)


@dataclass
class Sitting:
    """A judge that only sits there."""

    name: str
    covers: tuple[Dimension, ...] = DIMENSIONS
    simulated: bool = True
    method: str = "structured"
    deterministic: bool = True
    framing: str = "violates"
    template: str = "t@0"
    thresholds: Mapping[Dimension, float] | None = None

    @property
    def weights(self) -> str:
        return self.name

    async def verdict(self, **_: Any) -> Verdict:
        raise AssertionError("not asked")


def panel(size: int, rule: Rule) -> Panel:
    return seat([Sitting(f"simulated/judge?name=j{number}") for number in range(size)], rule)


def decided(rule: Rule, *votes: Answer | Unscored) -> bool | Reason:
    said = [Verdict(dict.fromkeys(DIMENSIONS, vote), (f"k{n}",)) for n, vote in enumerate(votes)]
    verdict = panel(len(votes), rule).verdict(said)
    answer = verdict.answers["value"]
    assert verdict.journal_keys == tuple(f"k{number}" for number in range(len(votes)))
    return answer.flagged if isinstance(answer, Answer) else answer.reason


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ((FLAG, FLAG, PASS), True),
        ((FLAG, PASS, PASS), False),
        ((FLAG, PASS), Reason.TIE),
        ((FLAG, PASS, LOST), Reason.TIE),
        ((FLAG, FLAG, LOST), True),
        ((FLAG, LOST, LOST), Reason.NO_QUORUM),
        ((FLAG, LOST), Reason.NO_QUORUM),
        ((FLAG, FLAG, LOST, LOST), Reason.NO_QUORUM),
        ((LOST, LOST, LOST), Reason.NO_QUORUM),
    ],
)
def test_a_majority_needs_more_votes_than_the_other_side_and_than_half_the_judges(
    votes: tuple[Answer | Unscored, ...], expected: bool | Reason
) -> None:
    assert decided("majority", *votes) == expected


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ((FLAG, FLAG, FLAG), True),
        ((FLAG, FLAG, PASS), False),
        ((FLAG, PASS, LOST), False),
        ((FLAG, FLAG, LOST), Reason.NO_QUORUM),
        ((LOST, LOST), Reason.NO_QUORUM),
    ],
)
def test_unanimity_flags_what_every_judge_flags_and_passes_what_one_passes(
    votes: tuple[Answer | Unscored, ...], expected: bool | Reason
) -> None:
    assert decided("unanimity", *votes) == expected


def test_the_joint_answer_follows_from_the_dimensions_of_the_panel() -> None:
    first = Verdict({"safety": FLAG, "value": PASS, "culture": PASS})
    second = Verdict({"safety": PASS, "value": FLAG, "culture": PASS})
    third = Verdict({"safety": PASS, "value": PASS, "culture": PASS})
    assert panel(3, "majority").verdict([first, second, third]).joint is False
    assert panel(3, "majority").verdict([first, first, third]).joint is True


def test_a_panel_of_one_gives_that_verdict_and_its_reason() -> None:
    said = Verdict({"safety": LOST, "value": Answer(True, reason="cruel"), "culture": PASS}, ("k",))
    verdict = panel(1, "unanimity").verdict([said])
    assert verdict == said
    assert verdict.answers["safety"] == LOST


def test_a_judge_has_no_vote_in_a_dimension_that_it_does_not_cover() -> None:
    guard = Sitting("openai/llama-guard", covers=("safety",))
    seats = seat([guard, Sitting("openai/qwen"), Sitting("openai/gpt-x")], "majority")
    nothing = Verdict(dict.fromkeys(DIMENSIONS, PASS))
    all_bad = Verdict(dict.fromkeys(DIMENSIONS, FLAG))
    verdict = seats.verdict([nothing, all_bad, all_bad])
    assert [verdict.answers[name].flagged for name in DIMENSIONS] == [True, True, True]  # type: ignore[union-attr]
    tied = seats.verdict([nothing, all_bad, nothing])
    assert tied.answers["safety"] == Answer(False, reason="flagged by 1 of 3 judges")
    assert isinstance(tied.answers["value"], Unscored)


def test_what_no_judge_covers_is_not_asked_about() -> None:
    alone = seat([Sitting("openai/llama-guard", covers=("safety",))], "majority")
    assert alone.dimensions == ("safety",)
    assert set(alone.verdict([Verdict({"safety": PASS, "value": PASS})]).answers) == {"safety"}


def test_a_panel_of_one_family_is_refused_in_one_line_that_names_the_way_out() -> None:
    judges = [Sitting("openai/Qwen2.5-7B-Instruct"), Sitting("embedded/qwen2.5-coder-0.5b")]
    with pytest.raises(UserError) as caught:
        seat(judges, "majority")
    assert "all 2 judges are of one model family (qwen)" in str(caught.value)
    assert "--allow-one-family" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert seat(judges, "majority", one_family=True).one_family is True


def test_two_families_and_a_single_judge_are_no_panel_of_one_family() -> None:
    mixed = [Sitting("openai/gpt-4o"), Sitting("openai/claude-x"), Sitting("openai/gpt-5")]
    assert seat(mixed, "majority").one_family is False
    assert seat(mixed[:1], "majority", one_family=True).one_family is False


def test_no_judge_and_one_judge_twice_are_refused() -> None:
    with pytest.raises(UserError, match="no judge"):
        seat([], "majority")
    with pytest.raises(UserError, match="named twice"):
        seat([Sitting("openai/a"), Sitting("openai/a")], "majority", one_family=True)


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("embedded/smollm2-135m", "huggingface"),
        ("embedded/qwen2.5-coder-1.5b?deterministic=true", "qwen"),
        ("openai/meta-llama/Llama-3.1-8B-Instruct", "llama"),
        ("openai/nvidia/Llama-3.1-Nemotron-70B", "llama"),
        ("openai/mistralai/Mixtral-8x7B", "mistral"),
        ("openai/google/gemma-2-9b-it", "google"),
        ("inspect/google/gemini-2.0-flash", "google"),
        ("openai/gpt-4o-mini", "openai"),
        ("openai/o3-mini", "openai"),
        ("inspect/anthropic/claude-sonnet", "anthropic"),
        ("openai/DeepSeek-V3", "deepseek"),
        ("openai/deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "qwen"),
        ("openai/01-ai/Yi-34B", "01-ai"),
        ("openai/house-model-v2", "house"),
        ("simulated/judge", "judge"),
    ],
)
def test_a_model_s_family_is_read_from_its_name(model: str, family: str) -> None:
    assert model_family(model) == family
