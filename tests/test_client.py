"""The client against a real server on loopback and a real journal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from loopback import Fault, Loopback, completion, text_answer
from misalign_bench.config import BudgetSettings
from misalign_bench.config_model import ModelSettings, PriceSettings
from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.journal.store import Entry, Journal
from misalign_bench.llm.budget import Budget, BudgetSpent
from misalign_bench.llm.client import Answered, Call, Client
from misalign_bench.llm.limits import Limiter
from misalign_bench.llm.model import Failure, Request, Role, Sample, Sampling
from misalign_bench.llm.openai import OpenAIModel
from misalign_bench.llm.retry import Backoff, parse_retry_after
from misalign_bench.records import Message
from scripted import Scripted, asking

SECRET = "planted-secret-5d1c"
QUICK = Backoff(base=0.001, cap=0.01)


def ask_for(text: str, *, role: Role = "generator", index: int = 0) -> Request:
    return Request((Message("user", text),), Sampling(), Sample(role, index=index), template="t@1")


@pytest.fixture(autouse=True)
def no_proxy_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


Open = Callable[..., Any]


@pytest.fixture
def journal_path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@asynccontextmanager
async def opened(
    path: Path, server: Loopback, *, name: str = "openai/m", **changes: Any
) -> AsyncIterator[Client]:
    table = {"model": name, "base_url": server.url, **changes.pop("settings", {})}
    model = OpenAIModel(ModelSettings(**table))
    journal = Journal.open(path)
    values = {"seed": 7, "budget": Budget(), "retries": 3, "deadline": 5.0, "backoff": QUICK}
    client = Client(model, journal, **{**values, **changes})
    try:
        yield client
    finally:
        await client.close()
        await journal.close()


async def attempts(path: Path) -> list[Any]:
    with Journal.open(path, read_only=True) as journal:
        return list(journal.attempts())


async def test_an_answer_is_replayed_without_a_call(journal_path: Path) -> None:
    async with Loopback() as server:
        async with opened(journal_path, server) as client:
            first = await client.ask(ask_for("hello"))
        async with opened(journal_path, server) as client:
            second = await client.ask(ask_for("hello"))
            usage = client.usage()["generator", "openai/m"]
    assert isinstance(first, Answered)
    assert isinstance(second, Answered)
    assert (first.replayed, second.replayed, server.calls) == (False, True, 1)
    assert first.reply == second.reply
    assert (usage.calls, usage.replayed) == (0, 1)


async def test_no_more_is_asked_than_the_disk_keeps_up_with(
    journal_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill costs at most twice the calls that may be under way."""
    model = Scripted(lambda _: "an answer")
    model.concurrency = 3
    async with asking(journal_path, model) as (client,):
        store, ready = client._journal.put, asyncio.Event()

        async def slow(entry: Entry) -> Entry:
            await ready.wait()
            return await store(entry)

        monkeypatch.setattr(client._journal, "put", slow)
        rows = [asyncio.ensure_future(client.ask(ask_for("hello", index=n))) for n in range(20)]
        await asyncio.sleep(0.1)
        waiting = len(model.requests)
        ready.set()
        answers = await asyncio.gather(*rows)
    assert waiting == 6
    assert all(isinstance(one, Answered) for one in answers)
    assert (len(model.requests), model.most_in_flight) == (20, 3)


async def test_the_request_carries_31_bits_that_depend_on_run_seed_and_sample(
    journal_path: Path,
) -> None:
    async with Loopback() as server:
        async with opened(journal_path, server) as client:
            await asyncio.gather(*(client.ask(ask_for("hello", index=n)) for n in range(3)))
        async with opened(journal_path, server, seed=8) as client:
            await client.ask(ask_for("hello"))
    seeds = [body["seed"] for body in server.bodies]
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**31 for seed in seeds)


async def test_two_equal_requests_in_flight_are_one_call(journal_path: Path) -> None:
    async with Loopback(delay=0.05) as server, opened(journal_path, server) as client:
        answers = await asyncio.gather(*(client.ask(ask_for("hello")) for _ in range(20)))
    assert server.calls == 1
    assert len({answer.reply.text for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1


async def test_the_answer_of_the_journal_wins_over_the_local_one(journal_path: Path) -> None:
    def by_time(body: dict[str, Any]) -> str:
        return f"answer number {server.calls}"

    async with (
        Loopback(by_time, delay=0.05) as server,
        opened(journal_path, server) as one,
        opened(journal_path, server) as other,
    ):
        answers = await asyncio.gather(one.ask(ask_for("hello")), other.ask(ask_for("hello")))
    assert server.calls == 2
    assert answers[0].reply.text == answers[1].reply.text


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(429, {"error": {"message": "slow down"}}), "rate_limited"),
        (Fault(500, "oops"), "server_error"),
        (Fault(503), "unavailable"),
        (Fault(drop=True), "connection_lost"),
        (Fault(200, '{"choices": [{"mess'), "not_json"),
        (Fault(200, {"choices": []}), "empty_choices"),
        (Fault(200, completion(None)), "no_content"),
        (Fault(200, [1]), "wrong_shape"),
        (Fault(200, {"choices": [7]}), "wrong_shape"),
        (Fault(200, {"error": {"message": "upstream"}}), "server_error"),
    ],
)
async def test_a_passing_failure_is_retried_and_recorded_as_an_attempt(
    journal_path: Path, fault: Fault, kind: str
) -> None:
    async with Loopback(faults=[fault]) as server, opened(journal_path, server) as client:
        answer = await client.ask(ask_for("hello"))
        usage = client.usage()["generator", "openai/m"]
    assert isinstance(answer, Answered)
    assert server.calls == 2
    assert (usage.calls, usage.attempts, usage.errors) == (1, 2, {kind: 1})
    assert [attempt.kind for attempt in await attempts(journal_path)] == [kind]


async def test_the_http_status_is_kept_with_the_attempt(journal_path: Path) -> None:
    async with (
        Loopback(faults=[Fault(502, "bad gateway")]) as server,
        opened(journal_path, server) as client,
    ):
        await client.ask(ask_for("hello"))
    (attempt,) = await attempts(journal_path)
    assert (attempt.status, attempt.detail) == (502, "HTTP 502: bad gateway")


@pytest.mark.parametrize("header", [lambda: "1", lambda: formatdate(time.time() + 2, usegmt=True)])
async def test_retry_after_is_honoured_as_seconds_and_as_a_date(
    journal_path: Path, header: Callable[[], str]
) -> None:
    fault = Fault(429, "slow down", {"Retry-After": header()})
    async with Loopback(faults=[fault]) as server, opened(journal_path, server) as client:
        await client.ask(ask_for("hello"))
    assert server.times[1] - server.times[0] >= 0.9


async def test_retry_after_holds_back_the_other_calls_too(journal_path: Path) -> None:
    fault = Fault(429, "slow down", {"Retry-After": "0.5"})
    async with (
        Loopback(faults=[fault]) as server,
        opened(journal_path, server, settings={"concurrency": 1}) as client,
    ):
        await asyncio.gather(*(client.ask(ask_for(f"hello {n}")) for n in range(3)))
    assert server.times[1] - server.times[0] >= 0.45


def test_retry_after_is_capped() -> None:
    assert Backoff(retry_after_cap=120).asked(parse_retry_after("86400")) == 120


def test_backoff_grows_and_is_capped() -> None:
    backoff = Backoff(base=1, cap=8)
    longest = [max(backoff.delay(attempt) for _ in range(300)) for attempt in (0, 1, 2, 9)]
    assert all(low <= high for low, high in zip(longest, [1, 2, 4, 8], strict=True))
    assert longest[0] < longest[1] < longest[2] < longest[3]


async def test_spent_retries_leave_the_row_pending_and_the_next_run_asks_again(
    journal_path: Path,
) -> None:
    async with Loopback(faults=[Fault(500)] * 4) as server:
        async with opened(journal_path, server) as client:
            failure = await client.ask(ask_for("hello"))
        async with opened(journal_path, server) as client:
            answer = await client.ask(ask_for("hello"))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.passing, failure.terminal) == ("server_error", True, False)
    assert isinstance(answer, Answered)
    assert server.calls == 5


async def test_an_accepted_failure_is_replayed_until_it_is_retried(journal_path: Path) -> None:
    async with Loopback(faults=[Fault(500)] * 4) as server:
        async with opened(journal_path, server, accept_failures=True) as client:
            accepted = await client.ask(ask_for("hello"))
        async with opened(journal_path, server) as client:
            replayed = await client.ask(ask_for("hello"))
        assert server.calls == 4
        async with opened(journal_path, server, retry_failed=True) as client:
            answer = await client.ask(ask_for("hello"))
        async with opened(journal_path, server) as client:
            again = await client.ask(ask_for("hello"))
    assert isinstance(accepted, Failure)
    assert accepted.terminal
    assert replayed == accepted
    assert isinstance(answer, Answered)
    assert isinstance(again, Answered)
    assert again.reply == answer.reply
    assert server.calls == 5


async def test_a_rejected_request_is_not_retried(journal_path: Path) -> None:
    fault = Fault(400, {"error": {"message": "messages must alternate"}})
    async with Loopback(faults=[fault]) as server, opened(journal_path, server) as client:
        failure = await client.ask(ask_for("hello"))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.passing, server.calls) == ("rejected", False, 1)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault(400, {"error": {"code": "content_filter", "message": "no"}}), "filtered"),
        (Fault(400, {"error": {"code": "context_length_exceeded", "message": "no"}}), "length"),
        (Fault(200, completion("", finish="content_filter")), "filtered"),
        (Fault(200, completion(None, refusal="I will not")), "refused"),
        (Fault(200, completion("half an ans", finish="length")), "length"),
    ],
)
async def test_a_providers_final_word_is_an_answer_with_its_own_status(
    journal_path: Path, fault: Fault, status: str
) -> None:
    async with Loopback(faults=[fault]) as server:
        async with opened(journal_path, server) as client:
            first = await client.ask(ask_for("hello"))
        async with opened(journal_path, server) as client:
            second = await client.ask(ask_for("hello"))
    assert first.reply.status == second.reply.status == status
    assert server.calls == 1


async def test_a_wrong_key_stops_the_run_in_one_line_without_the_key(journal_path: Path) -> None:
    async with Loopback(key="another") as server, opened(journal_path, server) as client:
        with pytest.raises(OutsideWorld) as stop:
            await client.ask(ask_for("hello"))
        with pytest.raises(OutsideWorld):
            await client.ask(ask_for("hello again"))
    line = str(stop.value)
    assert "openai/m" in line
    assert server.url in line
    assert "OPENAI_API_KEY" in line
    assert SECRET not in line
    assert server.calls == 1


async def test_an_unknown_model_stops_the_run(journal_path: Path) -> None:
    async with Loopback(models=["other"]) as server, opened(journal_path, server) as client:
        with pytest.raises(OutsideWorld, match=r"openai/m at .*unknown_model"):
            await client.ask(ask_for("hello"))
    assert server.calls == 1


async def test_a_server_that_is_not_there_stops_the_run_after_a_few_tries(
    journal_path: Path,
) -> None:
    async with Loopback() as server:
        pass
    async with opened(journal_path, server, retries=50) as client:
        with pytest.raises(OutsideWorld, match="cannot be reached"):
            await client.ask(ask_for("hello"))
    assert len(await attempts(journal_path)) == 3


async def test_a_server_that_goes_away_leaves_rows_pending(journal_path: Path) -> None:
    async with (
        Loopback() as server,
        opened(journal_path, server, retries=1) as client,
    ):
        await client.ask(ask_for("hello"))
        await server.__aexit__()
        failure = await client.ask(ask_for("are you there?"))
    assert isinstance(failure, Failure)
    assert failure.passing


async def test_a_server_that_answers_nothing_any_more_stops_the_run(journal_path: Path) -> None:
    async with (
        Loopback(fault_for=lambda body: Fault(500)) as server,
        opened(journal_path, server, retries=0) as client,
    ):
        asks = [client.ask(ask_for(f"hello {n}")) for n in range(80)]
        outcomes = await asyncio.gather(*asks, return_exceptions=True)
    assert any(isinstance(outcome, OutsideWorld) for outcome in outcomes)
    assert sum(isinstance(outcome, Failure) for outcome in outcomes) == 49


async def test_a_slow_answer_meets_the_deadline(journal_path: Path) -> None:
    async with (
        Loopback(faults=[Fault(delay=5)]) as server,
        opened(journal_path, server, deadline=0.2) as client,
    ):
        answer = await client.ask(ask_for("hello"))
    assert isinstance(answer, Answered)
    assert [attempt.kind for attempt in await attempts(journal_path)] == ["timeout"]


async def test_max_calls_stops_the_run_and_what_is_in_flight_is_kept(journal_path: Path) -> None:
    async with Loopback(delay=0.02) as server:
        async with opened(journal_path, server, budget=Budget(max_calls=10)) as client:
            asks = [client.ask(ask_for(f"hello {n}")) for n in range(30)]
            outcomes = await asyncio.gather(*asks, return_exceptions=True)
        assert server.calls == 10
        with Journal.open(journal_path, read_only=True) as journal:
            assert journal.count() == 10
        async with opened(journal_path, server) as client:
            for n in range(30):
                assert isinstance(await client.ask(ask_for(f"hello {n}")), Answered)
    assert sum(isinstance(outcome, BudgetSpent) for outcome in outcomes) == 20
    assert server.calls == 30


async def test_max_cost_is_not_overshot_once_a_price_is_seen(journal_path: Path) -> None:
    price = PriceSettings(input=1000.0, output=1000.0)  # 11 cents a call
    budget = Budget(max_cost=1.0)
    async with (
        Loopback(delay=0.01) as server,
        opened(journal_path, server, budget=budget, settings={"price": price}) as client,
    ):
        await client.ask(ask_for("first"))
        asks = [client.ask(ask_for(f"hello {n}")) for n in range(30)]
        outcomes = await asyncio.gather(*asks, return_exceptions=True)
    assert sum(isinstance(outcome, BudgetSpent) for outcome in outcomes) == 22
    assert 0.98 < budget.cost <= 1.0


def test_max_cost_with_an_unknown_price_refuses_to_start() -> None:
    unknown = ModelSettings(model="openai/m@http://127.0.0.1:1/v1")
    with pytest.raises(UserError, match="price of openai/m is unknown"):
        Budget.start(BudgetSettings(max_cost=1.0), [unknown])
    assert Budget.start(BudgetSettings(max_cost=1.0, max_calls=5), [unknown]).max_calls == 5


def test_a_budget_of_nothing_lets_free_models_run() -> None:
    free = ModelSettings(model="simulated/echo")
    priced = ModelSettings(model="openai/gpt-4o-mini")
    assert Budget.start(BudgetSettings(max_cost=0), [free]).max_cost == 0
    with pytest.raises(UserError, match="costs money"):
        Budget.start(BudgetSettings(max_cost=0), [priced])


async def test_no_new_draws_are_made_when_they_are_not_wanted(journal_path: Path) -> None:
    async with Loopback() as server, opened(journal_path, server, no_new=True) as client:
        draw = await client.ask(ask_for("hello"))
        verdict = await client.ask(ask_for("hello", role="evaluator"))
    assert isinstance(draw, Failure)
    assert (draw.kind, draw.terminal) == ("draw_not_in_journal", True)
    assert isinstance(verdict, Answered)
    assert server.calls == 1


async def test_another_endpoint_behind_one_name_stops_the_run(journal_path: Path) -> None:
    async with Loopback() as one, Loopback() as other:
        async with opened(journal_path, one) as client:
            await client.ask(ask_for("hello"))
        async with opened(journal_path, other) as client:
            with pytest.raises(UserError, match="revision"):
                await client.ask(ask_for("another"))
        async with opened(journal_path, other, same_model=True) as client:
            answer = await client.ask(ask_for("another"))
    assert isinstance(answer, Answered)


async def test_another_served_model_behind_one_endpoint_stops_the_run(journal_path: Path) -> None:
    async with Loopback() as server, opened(journal_path, server) as client:
        await client.ask(ask_for("hello"))
        server.answer = lambda body: {**completion("x"), "system_fingerprint": "fp_2"}
        with pytest.raises(UserError, match="same_model"):
            await client.ask(ask_for("another"))
        with Journal.open(journal_path, read_only=True) as journal:
            assert journal.count() == 1


async def test_a_planted_secret_is_in_no_byte_that_is_written(journal_path: Path) -> None:
    def leak(body: dict[str, Any]) -> dict[str, Any]:
        return {**completion(f"your key is {SECRET}"), "system_fingerprint": SECRET}

    echoes = [
        Fault(500, {"error": {"message": "x" * 290 + SECRET}}),
        Fault(500, f"Authorization: Bearer {SECRET}"),
        Fault(429, f"key={SECRET} sk-live-0123456789abcdef"),
    ]
    heard: list[Call] = []
    async with (
        Loopback(leak, faults=echoes) as server,
        opened(journal_path, server, on_call=heard.append) as client,
    ):
        answer = await client.ask(ask_for("what is my key?"))
    assert server.headers[0]["Authorization"] == f"Bearer {SECRET}"
    assert answer.reply.text == "your key is [redacted]"
    with Journal.open(journal_path, read_only=True) as journal:
        held = [str(entry) for entry in journal.entries()] + [str(a) for a in journal.attempts()]
    assert len(held) == 4
    assert not any(SECRET[:12] in text or "sk-live" in text for text in held)
    assert SECRET not in str(heard)
    for file in journal_path.parent.iterdir():
        assert SECRET.encode() not in file.read_bytes()


async def test_a_row_that_is_cancelled_loses_no_paid_answer(journal_path: Path) -> None:
    async with Loopback(delay=0.2) as server:
        async with opened(journal_path, server) as client:
            row = asyncio.create_task(client.ask(ask_for("hello")))
            while not server.calls:
                await asyncio.sleep(0.01)
            row.cancel()
        async with opened(journal_path, server) as client:
            answer = await client.ask(ask_for("hello"))
    assert answer.replayed
    assert server.calls == 1


async def test_closing_starts_nothing_that_still_waits(journal_path: Path) -> None:
    async with Loopback(delay=0.2) as server:
        async with opened(journal_path, server, settings={"concurrency": 2}) as client:
            rows = [asyncio.create_task(client.ask(ask_for(f"hello {n}"))) for n in range(10)]
            while not server.calls:
                await asyncio.sleep(0.01)
        await asyncio.gather(*rows, return_exceptions=True)
    assert server.calls == 2


async def test_concurrency_halves_once_for_a_burst_and_grows_again(journal_path: Path) -> None:
    async with (
        Loopback(faults=[Fault(429)] * 8, delay=0.01) as server,
        opened(journal_path, server, settings={"concurrency": 8}) as client,
    ):
        asks = [client.ask(ask_for(f"hello {n}")) for n in range(8)]
        await asyncio.gather(*asks)
        # 8 -> 4 at the burst; the retries that follow may have earned one slot back.
        assert client.limiter.limit in (4, 5)
        await asyncio.gather(*(client.ask(ask_for(f"again {n}")) for n in range(60)))
        assert client.limiter.limit == 8


async def test_concurrency_never_exceeds_what_the_user_set(journal_path: Path) -> None:
    async with (
        Loopback(delay=0.01) as server,
        opened(journal_path, server, settings={"concurrency": 3}) as client,
    ):
        await asyncio.gather(*(client.ask(ask_for(f"hello {n}")) for n in range(40)))
    assert server.most_in_flight == 3


async def test_a_second_burst_after_the_cool_down_halves_again() -> None:
    limiter = Limiter(8, 8, cool_down=0.0)
    for expected in (4, 2, 1, 1):
        limiter.release("overloaded", await limiter.acquire())
        assert limiter.limit == expected


async def test_a_cancelled_waiter_gives_its_slot_back() -> None:
    limiter = Limiter(1, 1)
    started = await limiter.acquire()
    waiting = [asyncio.create_task(limiter.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    limiter.release("answered", started)  # the first waiter is chosen, and cancelled as it wakes
    waiting[0].cancel()
    waiting[1].cancel()
    await asyncio.wait_for(waiting[2], 1)
    assert waiting[0].cancelled()


async def test_on_call_hears_of_calls_replays_and_failures(journal_path: Path) -> None:
    heard: list[Call] = []
    async with (
        Loopback(faults=[Fault(400, "no")]) as server,
        opened(journal_path, server, on_call=heard.append) as client,
    ):
        await client.ask(ask_for("bad"))
        await client.ask(ask_for("good"))
        await client.ask(ask_for("good"))
    assert [(call.error, call.replayed) for call in heard] == [
        ("rejected", False),
        ("", False),
        ("", True),
    ]


async def test_the_journal_shows_what_was_asked_and_said(journal_path: Path) -> None:
    async with Loopback() as server, opened(journal_path, server) as client:
        answer = await client.ask(ask_for("hello", index=2))
        with Journal.open(journal_path, read_only=True) as journal:
            (entry,) = journal.entries()
    assert entry.key == answer.key
    assert entry.request["messages"] == [["user", "hello"]]
    assert entry.request["seed"] == server.bodies[0]["seed"]
    assert entry.response["text"] == text_answer(server.bodies[0])
    assert (entry.role, entry.template, entry.index, entry.input_tokens, entry.cached_tokens) == (
        "generator",
        "t@1",
        2,
        100,
        40,
    )
