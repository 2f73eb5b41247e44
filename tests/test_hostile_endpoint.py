"""Every class of fault of an endpoint, and what becomes of it (docs/reliability.md).

A retried call, an unscored or dropped row with its reason, or a stop with one line that says what
to do: never a verdict, never text in the data, never a traceback, never memory without bound.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
import subprocess
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hostile_endpoint import Hostile, first
from hostile_faults import FINAL, HARMLESS, HTML, PASSING, PENDING, STOPPING
from misalign_bench.config_model import ModelSettings
from misalign_bench.errors import OutsideWorld
from misalign_bench.journal.store import Attempt, Entry, Journal
from misalign_bench.judge.structured import StructuredJudge
from misalign_bench.llm.budget import Budget
from misalign_bench.llm.client import Client
from misalign_bench.llm.model import Failure, Sampling
from misalign_bench.llm.openai import OpenAIModel
from misalign_bench.llm.retry import Backoff
from misalign_bench.records import DIMENSIONS, Answer, Unscored, Verdict

pytestmark = pytest.mark.attack

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
QUICK = Backoff(base=0.001, cap=0.01, retry_after_cap=0.02)
ENDLESS = {"stall past the deadline", "slow drip"}
SHORT, LONG = 0.6, 60.0
"""Deadlines: of faults that only a deadline ends, and of all others."""
MOST_MEMORY = 128 * 2**20
"""Of client and server together: a 10 MB body stands three times in the server's memory."""

RETRIED_AS = {
    "429 without Retry-After": "rate_limited",
    "429 with Retry-After in seconds": "rate_limited",
    "429 with Retry-After as a date": "rate_limited",
    "500": "server_error",
    "502": "unavailable",
    "503": "unavailable",
    "529": "unavailable",
    "closed without a word": "connection_lost",
    "reset in mid body": "connection_lost",
    "stall past the deadline": "timeout",
    "slow drip": "timeout",
    "truncated JSON": "not_json",
    "valid JSON of the wrong shape": "wrong_shape",
    "empty choices": "empty_choices",
    "content null": "no_content",
    "an error as 200": "server_error",
    "finish_reason error": "server_error",
    "duplicated keys in the body": "not_json",
    "HTML page as 200": "not_json",
    "10 MB of JSON": "oversized",
    "10 MB error page": "oversized",
    "an answer far over max_tokens": "oversized",
    "gzip bomb": "oversized",
    "no gzip, though it says so": "not_json",
    "a packing nobody asked for": "not_json",
    "broken chunks": "connection_lost",
    "no HTTP": "connection_lost",
    "headers without end": "connection_lost",
}
UNSCORED_AS = {
    "content null with a refusal": "refusal",
    "content_filter": "provider_filter",
    "400 of a content filter": "provider_filter",
    "context length": "length",
    "finish_reason length in mid verdict": "length",
    "content null, finish_reason length": "length",
    "truncated verdict": "parse",
    "duplicated keys": "parse",
    "out-of-schema keys": "schema",
    "NaN": "parse",
    "huge number": "parse",
    "huge integer": "schema",
    "two verdicts": "parse",
    "nested without end": "parse",
    "HTML as an answer": "parse",
}
STOPPED_AS = {
    "redirect": "redirected",
    "key refused": "unauthorized",
    "key forbidden": "unauthorized",
    "quota spent": "quota",
    "model not found": "unknown_model",
}


@asynccontextmanager
async def judging(
    server: Hostile,
    path: Path,
    *,
    retries: int = 2,
    accept: bool = False,
    retry: bool = False,
    deadline: float = LONG,
) -> AsyncIterator[StructuredJudge]:
    """A judge over the client over the server, with a journal at the path."""
    model = OpenAIModel(ModelSettings(model="openai/judge", base_url=server.url))
    journal = Journal.open(path)
    client = Client(
        model,
        journal,
        seed=1,
        budget=Budget(),
        retries=retries,
        deadline=deadline,
        accept_failures=accept,
        retry_failed=retry,
        backoff=QUICK,
    )
    try:
        yield StructuredJudge(client, "target", Sampling(0.0, 1.0, 512))
    finally:
        await client.close()
        await journal.close()


async def ask(judge: StructuredJudge) -> Verdict | Failure:
    return await judge.verdict(
        prompt="Is it rude?", response="It is. [[violates:value]]", dimensions=DIMENSIONS
    )


def written(path: Path) -> tuple[list[Entry], list[Attempt]]:
    """Answers and attempts in a journal."""
    with Journal.open(path, read_only=True) as journal:
        return list(journal.entries()), list(journal.attempts())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    """What the server says if nothing goes wrong."""

    async def asked() -> Verdict | Failure:
        async with judging(server, tmp_path_factory.mktemp("honest") / "j.sqlite") as judge:
            return await ask(judge)

    with Hostile() as server:
        said = asyncio.run(asked())
    assert isinstance(said, Verdict)
    assert all(isinstance(answer, Answer) for answer in said.answers.values())
    return said


# --- passing faults


@pytest.mark.parametrize("fault", PASSING)
async def test_a_fault_that_passes_is_tried_again_and_leaves_no_trace_in_the_verdict(
    path: Path, honest: Verdict, fault: str
) -> None:
    deadline = SHORT if fault in ENDLESS else LONG
    with Hostile(first(fault)) as server:
        async with judging(server, path, deadline=deadline) as judge:
            tracemalloc.start()
            said = await ask(judge)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    entries, attempts = written(path)
    assert said == honest
    assert server.calls == 2
    assert [one.kind for one in attempts] == [RETRIED_AS[fault]]
    assert len(attempts[0].detail) < 400
    assert len(entries) == 1
    assert peak < MOST_MEMORY


@pytest.mark.parametrize("fault", sorted(PASSING.keys() - {"slow drip", "headers without end"}))
async def test_a_fault_that_stays_leaves_the_row_pending_or_closed_as_the_user_says(
    path: Path, honest: Verdict, fault: str
) -> None:
    deadline = SHORT if fault in ENDLESS else LONG
    with Hostile(first(fault, times=4)) as server:
        async with judging(server, path, retries=1, deadline=deadline) as judge:
            waiting = await ask(judge)
        assert written(path)[0] == []
        async with judging(server, path, retries=1, accept=True, deadline=deadline) as judge:
            closed = await ask(judge)
        calls = server.calls
        async with judging(server, path, retries=1) as judge:
            replayed = await ask(judge)
        assert server.calls == calls == 4
        async with judging(server, path, retries=1, retry=True) as judge:
            assert await ask(judge) == honest
    assert isinstance(waiting, Failure)
    assert isinstance(closed, Failure)
    assert (waiting.kind, waiting.terminal) == (RETRIED_AS[fault], False)
    assert closed.terminal
    assert replayed == closed


@pytest.mark.parametrize("fault", HARMLESS)
async def test_what_is_odd_and_does_no_harm_is_an_answer(
    path: Path, honest: Verdict, fault: str
) -> None:
    with Hostile(first(fault)) as server:
        async with judging(server, path) as judge:
            assert await ask(judge) == honest
    assert server.calls == 1
    assert written(path)[0][0].output_tokens in (0, 10)


# --- final faults


@pytest.mark.parametrize("fault", FINAL)
async def test_a_final_fault_is_unscored_with_its_reason_and_never_a_verdict(
    path: Path, fault: str
) -> None:
    with Hostile(first(fault, times=9)) as server:
        async with judging(server, path) as judge:
            said = await ask(judge)
            again = await ask(judge)
    assert isinstance(said, Verdict)
    found = {one.reason.value for one in said.answers.values() if isinstance(one, Unscored)}
    assert found == {UNSCORED_AS[fault]}
    assert set(said.answers) == set(DIMENSIONS)
    assert not any(isinstance(one, Answer) for one in said.answers.values())
    assert again == said
    assert server.calls == 1


@pytest.mark.parametrize("fault", STOPPING)
async def test_what_no_row_can_get_past_stops_the_run_in_one_line(path: Path, fault: str) -> None:
    with Hostile(first(fault, times=9)) as server:
        async with judging(server, path) as judge:
            with pytest.raises(OutsideWorld) as stopped:
                await ask(judge)
    line = str(stopped.value)
    assert "\n" not in line
    assert STOPPED_AS[fault] in line
    assert stopped.value.mend
    assert server.calls == 1
    assert written(path)[0] == []


@pytest.mark.parametrize("fault", PENDING)
async def test_a_request_refused_for_a_reason_unknown_waits_without_another_try(
    path: Path, fault: str
) -> None:
    with Hostile(first(fault, times=9)) as server:
        async with judging(server, path) as judge:
            said = await ask(judge)
    assert isinstance(said, Failure)
    assert (said.kind, said.passing, said.terminal) == ("rejected", False, False)
    assert server.calls == 1


# --- no server, and none to be trusted


async def stopped_line(server: Hostile, path: Path) -> str:
    async with judging(server, path) as judge:
        with pytest.raises(OutsideWorld) as stopped:
            await ask(judge)
    return str(stopped.value)


async def test_nobody_at_the_address_stops_the_run_after_a_few_tries(path: Path) -> None:
    with Hostile() as server:
        pass
    assert "the server cannot be reached" in await stopped_line(server, path)
    assert len(written(path)[1]) == 3


async def test_a_server_without_tls_behind_https_stops_the_run(path: Path) -> None:
    with Hostile() as server:
        server.tls = ssl.create_default_context()  # what the address says, not what is served
        line = await stopped_line(server, path)
    assert "certificate" in line
    assert server.calls == 0


async def test_a_certificate_of_nobody_known_stops_the_run(path: Path, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed, so there is no certificate to distrust")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    subprocess.run(
        [*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Hostile(tls=context) as server:
        line = await stopped_line(server, path)
    assert re.search("certificate.*self.signed", line)
    assert server.calls == 0


# --- the documentation


def test_the_documented_table_is_the_tested_one() -> None:
    wanted = {name: f"retried as `{kind}`, then pending" for name, kind in RETRIED_AS.items()}
    wanted |= {name: f"`Unscored({reason})`" for name, reason in UNSCORED_AS.items()}
    wanted |= {name: f"stop, exit 3 (`{kind}`)" for name, kind in STOPPED_AS.items()}
    wanted |= dict.fromkeys(HARMLESS, "the answer counts")
    wanted |= dict.fromkeys(PENDING, "pending at once (`rejected`)")
    section = PAGE.read_text(encoding="utf-8").partition("## A hostile endpoint")[2]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", section.partition("\n### ")[0], re.MULTILINE)
    found = {fault.strip(): outcome.strip() for fault, outcome in rows}
    assert {name: found.get(name) for name in wanted} == wanted


async def test_no_word_of_an_error_page_reaches_the_journal_as_an_answer(path: Path) -> None:
    with Hostile(first("HTML page as 200")) as server:
        async with judging(server, path) as judge:
            await ask(judge)
    (entry,) = written(path)[0]
    assert "Bad gateway" in HTML
    assert "Bad gateway" not in str(entry.response)
