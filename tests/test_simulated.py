"""Simulated models: deterministic, with the error rates that their parameters say."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from misalign_bench.config_model import ModelSettings
from misalign_bench.errors import UserError
from misalign_bench.journal.store import Journal
from misalign_bench.judge.logprob import OPTIONS, violation
from misalign_bench.judge.structured import read, schema
from misalign_bench.llm.budget import Budget
from misalign_bench.llm.client import Answered, Client
from misalign_bench.llm.model import Reply, Request, Sample, Sampling
from misalign_bench.llm.providers import make_model
from misalign_bench.llm.structured import parse
from misalign_bench.prompts.loader import template
from misalign_bench.records import DIMENSIONS, Answer, Message
from misalign_bench.simhash.index import DuplicateIndex
from misalign_bench.taxonomy.loader import taxonomy

VERDICT = {
    "type": "object",
    "properties": {
        dimension: {
            "type": "object",
            "properties": {
                "violates": {"type": "boolean"},
                "reason": {"type": "string"},
                "severity": {"type": "integer", "minimum": 0, "maximum": 3},
            },
            "required": ["violates", "reason", "severity"],
            "additionalProperties": False,
        }
        for dimension in DIMENSIONS
    },
    "required": list(DIMENSIONS),
    "additionalProperties": False,
}


async def say(model: str, text: str, seed: int = 1, **changes: Any) -> Reply:
    values = {"sampling": Sampling(), "sample": Sample("judge"), **changes}
    request = Request((Message("user", text),), **values)
    reply = await make_model(ModelSettings(model=model)).send(request, seed)
    assert isinstance(reply, Reply)
    return reply


async def test_an_answer_depends_on_parameters_messages_and_seed_only() -> None:
    model, text = "simulated/judge?sensitivity=0.5", "a text [[violates:safety,value,culture]]"
    first = await say(model, text, schema=VERDICT)
    assert await say(model, text, schema=VERDICT) == first
    others = [(await say(model, text, seed, schema=VERDICT)).text for seed in range(2, 12)]
    others += [(await say(f"{model}&name=b", text, schema=VERDICT)).text]
    assert any(other != first.text for other in others)


@pytest.mark.parametrize("dimension", DIMENSIONS)
async def test_a_perfect_judge_says_what_the_mark_says(dimension: str) -> None:
    perfect = "simulated/judge?sensitivity=1&specificity=1"
    reply = await say(perfect, f"no marks, then [[violates:{dimension}]] here", schema=VERDICT)
    verdict = parse(reply.text, VERDICT)
    assert isinstance(verdict, dict)
    assert {name for name in DIMENSIONS if verdict[name]["violates"]} == {dimension}


async def test_a_judge_errs_as_often_as_it_is_told_to() -> None:
    judge, text = "simulated/judge?sensitivity=0.8&specificity=0.6", "[[violates:value]]"
    verdicts = [json.loads((await say(judge, text, n, schema=VERDICT)).text) for n in range(2000)]
    flagged = {name: sum(v[name]["violates"] for v in verdicts) / 2000 for name in DIMENSIONS}
    assert flagged["value"] == pytest.approx(0.8, abs=0.03)
    assert flagged["safety"] == pytest.approx(0.4, abs=0.035)
    assert flagged["culture"] == pytest.approx(0.4, abs=0.035)


@pytest.mark.parametrize(
    ("template", "options", "sign"),
    [
        ("judge_violates@1", ("yes", "no"), 1),
        ("judge_satisfies@1", ("yes", "no"), -1),
        ("judge_few_shot@1", ("supports", "rejects"), -1),
    ],
)
async def test_a_judge_answers_options_in_every_framing(
    template: str, options: tuple[str, str], sign: int
) -> None:
    perfect = "simulated/judge?sensitivity=1&specificity=1"
    for marked in DIMENSIONS:
        for asked in DIMENSIONS:
            text = f"safety, value, culture [[violates:{marked}]] What about {asked}?"
            reply = await say(perfect, text, options=options, template=template)
            assert reply.options is not None
            margin = reply.options[options[0]] - reply.options[options[1]]
            assert (sign * margin > 0) == (asked == marked)
            assert sum(map(math.exp, reply.options.values())) == pytest.approx(1)


async def test_a_generator_is_judged_as_what_it_was_asked_for() -> None:
    for kind, wanted in (("aligned", set()), ("misaligned", {"safety", "culture"})):
        template = f"respond_{kind}@1"
        text = "Mind safety and culture. How do I greet my new neighbours politely?"
        draw = await say("simulated/generator?obey=1", text, template=template)
        perfect = "simulated/judge?sensitivity=1&specificity=1"
        verdict = json.loads((await say(perfect, draw.text, schema=VERDICT)).text)
        assert {name for name in DIMENSIONS if verdict[name]["violates"]} == wanted
        assert "neighbours" in draw.text


async def test_draws_differ_and_sometimes_disobey() -> None:
    texts = [
        (await say("simulated/generator?obey=0.7", "Greet", seed, template="misaligned@1")).text
        for seed in range(400)
    ]
    assert len(set(texts)) == 400
    assert sum("[[violates:]]" in text for text in texts) / 400 == pytest.approx(0.3, abs=0.07)


async def test_an_expander_writes_distinct_prompts_that_keep_their_label() -> None:
    item = {"type": "string"}
    schema = {
        "type": "object",
        "properties": {"prompts": {"type": "array", "items": item, "minItems": 8, "maxItems": 8}},
        "required": ["prompts"],
    }
    text = "Example: how? [[labels:Privacy Violation]]"
    reply = await say("simulated/expander", text, schema=schema)
    prompts = json.loads(reply.text)["prompts"]
    assert len(set(prompts)) == 8
    assert all(prompt.endswith("[[labels:Privacy Violation]]") for prompt in prompts)


async def test_a_classifier_finds_the_marked_domains_in_any_shape_of_answer() -> None:
    domains = ["Privacy violation", "Healthy", "Loyal"]
    table = {
        "type": "object",
        "properties": {name: {"type": "number"} for name in domains},
        "required": domains,
    }
    field = {"domain": {"enum": domains}, "probability": {"type": "number"}}
    row = {"type": "object", "properties": field, "required": list(field)}
    rows = {"type": "object", "properties": {"labels": {"type": "array", "items": row}}}
    text = "Which? [[labels:Privacy Violation|Loyal]]"
    by_name = json.loads((await say("simulated/classifier", text, schema=table)).text)
    listed = json.loads((await say("simulated/classifier", text, schema=rows)).text)
    assert {name for name, p in by_name.items() if p > 0.5} == {"Privacy violation", "Loyal"}
    assert {row["domain"] for row in listed["labels"]} == {"Privacy violation", "Loyal"}
    asked = {"options": ("yes", "no"), "template": "classify_yesno@1"}
    loyal = await say("simulated/classifier", f"{text} Is it about Loyal?", **asked)
    healthy = await say("simulated/classifier", f"{text} Is it about Healthy?", **asked)
    assert loyal.options is not None
    assert healthy.options is not None
    assert loyal.options["yes"] > -0.2 > healthy.options["yes"]


async def test_refusals_filters_and_broken_answers_come_at_their_rates() -> None:
    model = "simulated/judge?refusal=0.2&filtered=0.1&malformed=0.5"
    replies = [await say(model, "[[violates:]]", n, schema=VERDICT) for n in range(1000)]
    statuses = [reply.status for reply in replies]
    broken = [r for r in replies if r.status == "ok" and not isinstance(parse(r.text, {}), dict)]
    assert statuses.count("filtered") == pytest.approx(100, abs=35)
    assert statuses.count("refused") == pytest.approx(180, abs=40)
    assert len(broken) == pytest.approx(360, abs=50)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("simulated/oracle", "judge, generator"),
        ("simulated/judge?sensitvity=1", "unknown parameter 'sensitvity'"),
        ("simulated/judge?sensitivity=1.5", "from 0 to 1"),
        ("simulated/judge?sensitivity=nan", "from 0 to 1"),
    ],
)
def test_a_wrong_parameter_is_named(model: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_model(ModelSettings(model=model))


async def test_simulated_answers_pass_through_journal_and_client(tmp_path: Path) -> None:
    model = make_model(ModelSettings(model="simulated/echo"))
    journal = Journal.open(tmp_path / "journal.sqlite")
    client = Client(model, journal, seed=0, budget=Budget(max_cost=0.0))
    request = Request((Message("user", "hello"),), Sampling(), Sample("target"))
    answer = await client.ask(request)
    await client.close()
    await journal.close()
    assert isinstance(answer, Answered)
    assert (answer.reply.text, answer.reply.cost, model.simulated) == ("hello", 0.0, True)


async def test_the_shipped_templates_and_the_simulated_roles_understand_each_other() -> None:
    domains = {dimension: taxonomy().of(dimension)[0] for dimension in DIMENSIONS}
    perfect = "simulated/judge?sensitivity=1&specificity=1"
    for wanted, domain in domains.items():
        asked = template("respond_misaligned")
        messages = asked.render(prompt="How do I greet people?", domains=[domain])
        draw = await answer_of("simulated/generator?obey=1", messages, template=asked.id)
        assert draw.text.endswith(f"[[violates:{wanted}]]")
        asked = template("judge_structured")
        marks = {"message_mark": "m", "reply_mark": "r", "dimensions": DIMENSIONS}
        messages = asked.render(prompt="How?", response=draw.text, **marks)
        said = await answer_of(perfect, messages, schema=schema(DIMENSIONS), template=asked.id)
        verdict = read(said, DIMENSIONS)
        assert [name for name, said in verdict.items() if flags(said)] == [wanted]
        for framing in ("violates", "satisfies", "few_shot"):
            asked = template(f"judge_{framing}")
            for dimension in DIMENSIONS:
                messages = asked.render(prompt="How?", response=draw.text, dimension=dimension)
                said = await answer_of(perfect, messages, options=OPTIONS, template=asked.id)
                assert said.options is not None
                score = violation(said.options, positive=framing != "violates")
                assert (score > 0.5) == (dimension == wanted)


def flags(answer: object) -> bool:
    return isinstance(answer, Answer) and answer.flagged


async def test_draws_for_one_prompt_are_no_near_duplicates_of_one_another() -> None:
    for number in range(40):
        index = DuplicateIndex(10, None)
        for seed in range(9):
            text = f"How do I greet neighbour {number}?"
            draw = await say("simulated/generator", text, 100 * number + seed)
            assert index.find(draw.text) is None
            index.add_all([draw.text])


async def answer_of(model: str, messages: tuple[Message, ...], **changes: Any) -> Reply:
    request = Request(messages, Sampling(), Sample("judge"), **changes)
    reply = await make_model(ModelSettings(model=model)).send(request, 1)
    assert isinstance(reply, Reply)
    return reply
