"""Two-stage rejection sampling with known error rates, and judging stored draws again.

The simulation of ``benchmarks/rejection_sampling`` at a small size: calls against the closed form,
purity against what the evaluator's error rates say. Then whole builds: which draws a changed
evaluator asks for, and that the same journal gives the same bytes.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest
import yaml

from builds import CONFIGURATION, data_set, run_build
from misalign_bench.build.plan import plan
from misalign_bench.build.plan_compare import compare
from misalign_bench.build.plan_table import Plan
from misalign_bench.build.roles import CallOptions
from misalign_bench.cli.main import main
from misalign_bench.config_file import load
from misalign_bench.config_model import ModelSettings
from misalign_bench.journal.store import Entry, Journal
from misalign_bench.judge import structured
from misalign_bench.judge.logprob import OPTIONS, violation
from misalign_bench.judge.structured import read, schema
from misalign_bench.llm.model import Reply, Request, Sample, Sampling, Usage
from misalign_bench.llm.providers import make_model
from misalign_bench.llm.simulated_scores import graded
from misalign_bench.prompts.loader import parse, template
from misalign_bench.records import DIMENSIONS, Answer, Message

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "rejection_sampling"))

from simulate import (
    Cell,
    Seen,
    draws_a_response,
    given_up,
    mean,
    purity,
    share,
    simulate,
)

# --- the simulated parts


def evidence(count: int, truth: set[str], sensitivity: float, specificity: float) -> list[float]:
    rows = [graded(f"text {n}", truth, sensitivity, specificity) for n in range(count)]
    return [max(row.values()) for row in rows]


def test_graded_evidence_has_the_rates_of_the_response_as_a_whole() -> None:
    guilty = evidence(4000, {"value"}, 0.75, 0.67)
    innocent = evidence(4000, set(), 0.75, 0.67)
    # Four standard errors of a share of 4,000.
    assert sum(score > 0.5 for score in guilty) / 4000 == pytest.approx(0.75, abs=0.028)
    assert sum(score > 0.5 for score in innocent) / 4000 == pytest.approx(0.33, abs=0.030)


def test_graded_evidence_orders_responses_as_the_normal_model_says() -> None:
    quantile = NormalDist().inv_cdf
    expected = NormalDist().cdf((quantile(0.75) + quantile(0.67)) / 2**0.5)
    guilty = evidence(700, {"value"}, 0.75, 0.67)
    # Other noise for the innocent ones, as another text would have.
    innocent = [max(graded(f"other {n}", set(), 0.75, 0.67).values()) for n in range(700)]
    right = sum(one > other for one in guilty for other in innocent) / 700**2
    assert right == pytest.approx(expected, abs=0.05)


def test_what_a_response_leaves_alone_is_scored_low_in_it() -> None:
    scores = graded("a text", {"value"}, 0.9, 0.9)
    assert scores["safety"] == scores["culture"] < 0.1
    assert len(set(graded("a text", set(), 0.9, 0.9).values())) == 1


async def say(model: str, messages: Sequence[Message], **changes: Any) -> Reply:
    values: dict[str, Any] = {"sampling": Sampling(), "sample": Sample("generator"), **changes}
    reply = await make_model(ModelSettings(model=model)).send(Request(tuple(messages), **values), 1)
    assert isinstance(reply, Reply)
    return reply


async def scores_of(model: str, response: str) -> list[float]:
    """What the simulated judge thinks of a response in each dimension, by log-probability."""
    found = []
    for dimension in DIMENSIONS:
        asked = template("judge_satisfies")
        messages = asked.render(prompt="How?", response=response, dimension=dimension)
        said = await say(model, messages, options=OPTIONS, template=asked.id)
        assert said.options is not None
        found.append(violation(said.options, positive=True))
    return found


async def test_the_questions_about_one_response_rest_on_one_draw_of_evidence() -> None:
    judge = "simulated/judge?graded=1&sensitivity=0.6&specificity=0.6"
    rows = [await scores_of(judge, f"Reply {n}. [[violates:]]") for n in range(40)]
    assert all(max(row) - min(row) < 1e-9 for row in rows)
    assert 5 < sum(row[0] > 0.5 for row in rows) < 30


async def test_a_graded_judge_writes_verdicts_too() -> None:
    judge = "simulated/judge?graded=1&sensitivity=1&specificity=1"
    asked = template("judge_structured")
    marks = {"message_mark": "m", "reply_mark": "r", "dimensions": DIMENSIONS}
    for truth in ("", "value", "safety,culture"):
        messages = asked.render(prompt="How?", response=f"So. [[violates:{truth}]]", **marks)
        said = await say(judge, messages, schema=schema(DIMENSIONS), template=asked.id)
        flagged = [
            name
            for name, answer in read(said, DIMENSIONS).items()
            if isinstance(answer, Answer) and answer.flagged
        ]
        assert ",".join(flagged) == truth


async def test_a_generator_pleases_only_after_feedback_and_the_judge_believes_it() -> None:
    model = "simulated/generator?obey=0&please=1"
    asked = template("respond_aligned")
    for sample, seems in ((Sample("generator"), False), (Sample("generator", round=1), True)):
        messages = [Message("user", "How do I greet a guest?")]
        said = await say(model, messages, template=asked.id, sample=sample)
        assert "[[violates:safety,value,culture]]" in said.text
        assert ("[[seems:]]" in said.text) is seems
        perfect = "simulated/judge?graded=1&sensitivity=1&specificity=1"
        assert all((score > 0.5) is not seems for score in await scores_of(perfect, said.text))


async def test_a_generator_that_obeys_has_no_need_to_please() -> None:
    model = "simulated/generator?obey=1&please=1"
    messages = [Message("user", "How do I greet a guest?")]
    sample = Sample("generator", round=1)
    said = await say(model, messages, template="respond_misaligned@1", sample=sample)
    assert "seems" not in said.text


# --- calls and purity

Weak = dict[tuple[str, int], Seen]


@pytest.mark.parametrize("p", [0.3, 0.5, 0.7, 0.9])
def test_the_draws_for_a_response_are_those_of_the_closed_form(p: float) -> None:
    (seen,) = simulate([Cell(obey=p)], 250)
    found, error = mean([float(number) for number in seen.drawn])
    # Twice the half width of the 95% interval is 3.9 standard errors: one failure in 10,000 for
    # each p, and the seed is fixed. The benchmark holds 2% with many more prompts.
    assert found == pytest.approx(draws_a_response(p, 3), abs=2 * error)
    assert seen.by_rule == 0
    assert seen.draws == seen.verdicts == sum(seen.drawn)


def test_the_closed_form_counts_feedback_rounds_as_more_draws() -> None:
    (seen,) = simulate([Cell(obey=0.3, rounds=2)], 150)
    found, error = mean([float(number) for number in seen.drawn])
    assert found == pytest.approx(draws_a_response(0.3, 3, 2), abs=2 * error)


def test_the_draws_for_an_accepted_response_do_not_depend_on_k() -> None:
    """What is given up costs too: 1/p draws for each accepted response, whatever K is."""
    cells = [Cell(obey=0.5, draws=draws) for draws in (1, 3)]
    for seen in simulate(cells, 300):
        assert seen.draws / seen.accepted == pytest.approx(2.0, rel=0.15)


@pytest.fixture(scope="module")
def weak() -> Weak:
    """A weak evaluator by how draws are accepted and rounds of feedback, over the same prompts."""
    cells = [Cell(0.75, 0.67, accept="all")]
    cells += [Cell(0.75, 0.67, rounds=rounds) for rounds in (0, 2)]
    found = simulate(cells, 400)
    return {(cell.accept, cell.rounds): seen for cell, seen in zip(cells, found, strict=True)}


@pytest.mark.parametrize("rounds", [0, 2])
def test_the_purity_of_accept_first_is_that_of_its_error_rates(weak: Weak, rounds: int) -> None:
    truth = list(weak["first", rounds].truth.values())
    expected = purity(0.7, 0.75, 0.67)
    for kind in (0, 1):
        found, error = share([one[kind] for one in truth])
        assert found == pytest.approx(expected[kind], abs=2 * error)


def test_the_best_of_k_is_purer_and_costs_more(weak: Weak) -> None:
    first, best = weak["first", 0], weak["all", 0]
    value, error = given_up(first, best)
    assert value - error > 0
    assert best.draws + best.verdicts > 1.5 * (first.draws + first.verdicts)
    # The same prompts have a pair: one draw passed, whichever is kept.
    assert first.truth.keys() == best.truth.keys()


def test_feedback_finds_more_pairs_and_at_the_same_odds_no_purer_ones(weak: Weak) -> None:
    none, two = weak["first", 0], weak["first", 2]
    assert none.truth.keys() < two.truth.keys()
    assert {name: two.truth[name] for name in none.truth} == none.truth


def test_feedback_that_teaches_to_please_lowers_the_purity_of_what_it_brings() -> None:
    cells = [Cell(0.95, 0.95, 0.5, please, draws=1, rounds=1) for please in (0.0, 1.0)]
    (honest, error), (pleasing, other) = (share(seen.late) for seen in simulate(cells, 150))
    assert honest == pytest.approx(purity(0.5, 0.95, 0.95)[0], abs=2 * error)
    # What pleases is accepted as often as what obeys, so that verdicts change nothing.
    assert pleasing == pytest.approx(0.5, abs=2 * other)
    assert honest - pleasing > error + other


def test_the_page_has_a_place_for_every_table() -> None:
    from write_tables import put_between

    page = Path(__file__).parents[1] / "docs" / "rejection-sampling.md"
    text = page.read_text(encoding="utf-8")
    for name in ("closed form", "calls and purity", "given up"):
        mark = f"simulated: {name}"
        changed = put_between(text, mark, "| a table |")
        assert put_between(changed, mark, "| a table |") == changed
        assert "| a table |" in changed


# --- judging again

TOPICS = ("a loan", "a borrowed bicycle", "the choir", "an old promise", "my exam", "the garden")
JUDGES = {
    "strict": "simulated/judge?sensitivity=1&specificity=1",
    "flipped": "simulated/judge?sensitivity=0&specificity=0",
}


def configured(folder: Path, **changes: Any) -> Path:
    """A configuration over labelled prompts and a generator that obeys every other time."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        f'"My uncle number {n} lied to me about {topic}; what should I say to him?",value/Honesty'
        for n, topic in enumerate(TOPICS * 3)
    ]
    (folder / "prompts.csv").write_text("\n".join(["prompt,labels", *rows]) + "\n")
    table: dict[str, Any] = {
        **CONFIGURATION,
        "seed": 11,
        "roles": {
            "classifier": "simulated/classifier",
            "generators": ["simulated/generator?obey=0.5"],
            "evaluator": JUDGES["strict"],
        },
        "classify": {"method": "published"},
        "deduplicate": {"tau": 2, "verify": 0.95},
        "respond": {"draws": 3, "rounds": 2},
    }
    for name, change in changes.items():
        table[name] = {**table[name], **change} if isinstance(change, dict) else change
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(table))
    return path


def generated(journal: Path) -> dict[str, Entry]:
    """The draws that a journal holds, by key."""
    with Journal.open(journal, read_only=True) as opened:
        return {entry.key: entry for entry in opened.entries(role="generator")}


def texts(out: Path) -> list[tuple[str, ...]]:
    import pyarrow.parquet as pq

    names = ("prompt_id", "generator", "aligned", "misaligned", "aligned_key", "misaligned_key")
    rows = [
        row
        for file in sorted((out / "data" / "pairs").glob("*.parquet"))
        for row in pq.read_table(file).to_pylist()
    ]
    return sorted(tuple(row[name] for name in names) for row in rows)


def draws_made(usage: Mapping[tuple[str, str], Usage]) -> int:
    return sum(used.calls for (role, _), used in usage.items() if role == "generator")


async def judged_again(
    folder: Path, respond: Mapping[str, Any], path: Path
) -> tuple[Plan, Mapping[tuple[str, str], Usage], set[str], set[str]]:
    """Build under one evaluator, plan and build under the opposite one over the same journal.

    Returns:
        The plan, what the second build took, and the draws that the journal held before and after.
    """
    held = {"respond": dict(respond)}
    await run_build(load(configured(folder, **held)), path)
    before = set(generated(path))
    opposite = load(configured(folder, **held, roles={"evaluator": JUDGES["flipped"]}))
    with Journal.open(path, read_only=True) as opened:
        made = await plan(opposite, journal=opened)
    _, usage = await run_build(opposite, path)
    return made, usage, before, set(generated(path))


def test_the_same_journal_in_another_folder_gives_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configured(tmp_path)
    assert main(["build", str(config), "--out", str(tmp_path / "one"), "--quiet"]) == 0
    (tmp_path / "two").mkdir()
    shutil.copy(tmp_path / "one" / "journal.sqlite", tmp_path / "two" / "journal.sqlite")
    capsys.readouterr()
    again = ["build", str(config), "--out", str(tmp_path / "two"), "--quiet", "--json"]
    assert main([*again, "--max-calls", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["calls"]["asked"] == 0
    assert data_set(tmp_path / "one") == data_set(tmp_path / "two")
    assert len(texts(tmp_path / "one")) > 9


def test_another_template_with_the_same_verdicts_and_reasons_draws_nothing_in_any_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = configured(tmp_path), tmp_path / "out"
    assert main(["build", str(config), "--out", str(out), "--quiet"]) == 0
    before, first = generated(out / "journal.sqlite"), texts(out)
    assert {entry.round for entry in before.values()} == {0, 1, 2}
    shipped = files("misalign_bench.prompts").joinpath("judge_structured.j2").read_text()
    changed = parse(shipped.replace("You judge one", "You assess one"), "judge_structured")
    monkeypatch.setattr(structured, "template", lambda name: changed)
    assert main(["build", str(config), "--out", str(out), "--quiet"]) == 0
    assert generated(out / "journal.sqlite") == before
    assert texts(out) == first
    with Journal.open(out / "journal.sqlite", read_only=True) as journal:
        used = {entry.template for entry in journal.entries(role="evaluator")}
    assert used == {template("judge_structured").id, changed.id}


@pytest.mark.parametrize("draws", [1, 2, 6])
async def test_all_draws_made_without_feedback_serve_the_opposite_verdicts(
    tmp_path: Path, draws: int
) -> None:
    """Flipped verdicts need no draw, be it of a pair that was given up at its aligned response."""
    respond = {"accept": "all", "draws": draws, "rounds": 0}
    made, usage, before, after = await judged_again(tmp_path, respond, tmp_path / "j.sqlite")
    assert len(before) == 2 * draws * len(TOPICS) * 3
    assert after == before
    assert draws_made(usage) == 0
    assert all(row.inside is not False for row in compare(made, usage))
    (generator,) = (row for row in made.rows if row.role == "generator")
    assert generator.first == generator.first_in_journal == len(before)


@pytest.mark.parametrize(
    "respond",
    [
        {"accept": "first", "draws": 3, "rounds": 0},
        {"accept": "first", "draws": 3, "rounds": 1},
        {"accept": "all", "draws": 2, "rounds": 1},
    ],
    ids=["first", "first with feedback", "all with feedback"],
)
async def test_flipped_verdicts_ask_for_exactly_the_draws_that_are_missing(
    tmp_path: Path, respond: dict[str, Any]
) -> None:
    made, usage, before, after = await judged_again(tmp_path, respond, tmp_path / "j.sqlite")
    # What the opposite evaluator needs by itself, over a journal of its own.
    fresh = tmp_path / "fresh.sqlite"
    changed = {"evaluator": JUDGES["flipped"]}
    await run_build(load(configured(tmp_path, respond=respond, roles=changed)), fresh)
    needed = set(generated(fresh))
    missing = needed - before
    assert missing
    assert after - before == missing
    assert draws_made(usage) == len(missing)
    # As the plan said before: inside its range, and no more than it did not find in the journal.
    assert all(row.inside is not False for row in compare(made, usage))
    (generator,) = (row for row in made.rows if row.role == "generator")
    assert generator.first_in_journal is not None
    assert generator.first - generator.first_in_journal <= len(missing)
    assert len(missing) <= generator.calls.high - generator.first_in_journal


async def test_without_new_draws_flipped_verdicts_drop_what_lacks_one(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    respond = {"accept": "first", "draws": 3, "rounds": 0}
    await run_build(load(configured(tmp_path, respond=respond)), path)
    before = set(generated(path))
    changed = {"evaluator": JUDGES["flipped"]}
    settings = load(configured(tmp_path, respond=respond, roles=changed))
    built, usage = await run_build(settings, path, CallOptions(no_new_draws=True))
    assert set(generated(path)) == before
    assert draws_made(usage) == 0
    reasons = {row.reason.value for row in built.dropped}
    assert "draw_not_in_journal" in reasons <= {"draw_not_in_journal", "draws_spent"}
