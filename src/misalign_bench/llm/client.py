"""The one way to ask a model: replay, single flight, budget, limits, retries, journal.

A request whose key is in the journal is replayed; otherwise it is sent, and its answer is stored
durably before it is used (contract, section 1). What is used is always what the store holds: the
first write under a key wins. An answer under way is finished and stored even when the row that
asked for it is cancelled, because it is paid for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.journal.store import Attempt, Journal
from misalign_bench.llm.budget import Budget
from misalign_bench.llm.calls import (
    Answered,
    Call,
    Keyed,
    Ledger,
    answer_entry,
    failure_entry,
    failure_key,
    failure_of,
    keyed,
    reply_of,
)
from misalign_bench.llm.limits import Limiter, Outcome
from misalign_bench.llm.model import Failure, Model, Reply, Request, Role, Usage
from misalign_bench.llm.retry import Backoff
from misalign_bench.llm.secrets import conceal, redact

__all__ = ["Answered", "Call", "Client"]

_OVERLOADED = ("rate_limited", "timeout")
_BROKEN = ("unavailable", "unreachable", "server_error", "connection_lost")
_TRIES_TO_REACH = 3
_ROWS_BEFORE_GIVING_UP = 50
_RESUME = "What is answered is kept; then run the same command again."
_MENDS = {
    "unauthorized": "Set a key that may use this model.",
    "quota": "Raise the provider's quota, or wait until it is renewed.",
    "unknown_model": "Mend the model's name or the base URL.",
    "redirected": "Give the address that it points to as the base URL.",
    "certificate": "Mend the certificate, or the http:// or https:// of the base URL.",
    "unreachable": "Start the server, or mend the base URL.",
}


class Client:
    """Asks one model on behalf of one run.

    Args:
        seed: the run's seed; each request's own seed derives from it.
        budget: shared by all clients of the run.
        retries: attempts after the first for failures that may pass.
        deadline: seconds for one attempt.
        accept_failures: store what cannot be answered as a terminal failure instead of leaving the
            row pending.
        retry_failed: ask again where a terminal failure is stored.
        no_new: make no draw that the journal lacks (``--no-new-draws``).
        same_model: a changed base URL or served model is the same model.
        on_call: hears of every ask, replays included.
    """

    def __init__(
        self,
        model: Model,
        journal: Journal,
        *,
        seed: int,
        budget: Budget,
        retries: int = 5,
        deadline: float = 120.0,
        accept_failures: bool = False,
        retry_failed: bool = False,
        no_new: bool = False,
        same_model: bool = False,
        backoff: Backoff | None = None,
        on_call: Callable[[Call], None] | None = None,
    ) -> None:
        self.model = model
        self._journal = journal
        self._seed = seed
        self._budget = budget
        self._retries = retries
        self._deadline = deadline
        self._accept_failures = accept_failures
        self._retry_failed = retry_failed
        self._no_new = no_new
        self._same_model = same_model
        self._backoff = backoff or Backoff()
        self._ledger = Ledger(model.name, on_call)
        # A provider that gains from more calls than it starts with says so by this attribute.
        cap = int(getattr(model, "concurrency_cap", model.concurrency))
        self.limiter = Limiter(model.concurrency, cap)
        self._in_flight: dict[str, asyncio.Task[Answered | Failure]] = {}
        self._sending: set[str] = set()
        self._served: set[str] = set()
        self._stopped: UserError | None = None
        self._closing = False
        self._reached = False
        self._unanswered = 0

    async def ask(self, request: Request) -> Answered | Failure:
        """The answer to a request, replayed or asked for.

        Returns:
            The reply as stored, or a failure: ``terminal`` ones are for good, with any other the
            row is pending.

        Raises:
            BudgetSpent: the call does not fit into the budget.
            OutsideWorld: the server cannot be reached or refuses the key or the model, or the
                journal cannot be written. Nothing new is started after that.
            UserError: another model answers under this name than before in this journal.
        """
        asked = keyed(request, self.model.identity, self._seed)
        key, role = asked.key, asked.role
        if (entry := self._journal.get(key)) is not None:
            self._ledger.replayed(entry, role)
            return Answered(reply_of(entry), key, replayed=True)
        if not self._retry_failed and (entry := self._journal.get(failure_key(key))) is not None:
            self._ledger.failed(key, role, entry.status)
            return failure_of(entry)
        if self._no_new and role == "generator":
            return Failure("draw_not_in_journal", "--no-new-draws", passing=False, terminal=True)
        self._raise_if_stopped()
        task = self._in_flight.get(key)
        if task is None:
            return await asyncio.shield(self._launch(asked))
        answer = await asyncio.shield(task)
        if isinstance(answer, Failure):
            return answer
        self._ledger.shared(role)
        return replace(answer, replayed=True)

    def usage(self) -> dict[tuple[Role, str], Usage]:
        """Totals of this run for each (role, model); tokens and cost without replays."""
        return self._ledger.totals()

    async def close(self) -> None:
        """Let calls under way finish and be stored, start no others, release the model."""
        self._closing = True
        tasks = list(self._in_flight.items())
        for key, task in tasks:
            if key not in self._sending:
                task.cancel()
        await asyncio.gather(*(task for _, task in tasks), return_exceptions=True)
        await self.model.close()

    def _launch(self, asked: Keyed) -> asyncio.Task[Answered | Failure]:
        """The call as a task of its own, which the end of the row that asked does not end."""

        def landed(done: asyncio.Task[Answered | Failure]) -> None:
            del self._in_flight[asked.key]
            if not done.cancelled():
                done.exception()  # retrieved here too, since the row that asked may be gone

        task = asyncio.get_running_loop().create_task(self._call(asked))
        self._in_flight[asked.key] = task
        task.add_done_callback(landed)
        return task

    async def _call(self, asked: Keyed) -> Answered | Failure:
        """Attempts until there is an answer, no sense in another, or none left."""
        attempt = 0
        try:
            while True:
                outcome = await self._attempt(asked)
                if isinstance(outcome, Answered):
                    return outcome
                self._stop_if_hopeless(outcome, attempt)
                if not outcome.passing or attempt >= self._retries or self._closing:
                    return await self._give_up(asked, outcome)
                await asyncio.sleep(self._backoff.delay(attempt, outcome.retry_after))
                attempt += 1
        except UserError as error:
            self._stopped = self._stopped or error
            raise

    async def _attempt(self, asked: Keyed) -> Answered | Failure:
        """Send once, under limiter and budget; store what came."""
        outcome: Outcome = "other"
        started = await self.limiter.acquire()
        try:
            self._raise_if_stopped()
            await self._budget.admit(self.model.name)
            self._sending.add(asked.key)
            said = await self._send(asked)
            latency = asyncio.get_running_loop().time() - started
            if isinstance(said, Reply):
                outcome = "answered"
            else:
                self.limiter.pause(self._backoff.asked(said.retry_after))
                if said.kind in _OVERLOADED:
                    outcome = "overloaded"
                elif said.kind in _BROKEN:
                    outcome = "failed"
        finally:
            self.limiter.release(outcome, started, stored=False)
            if outcome != "answered":
                self._sending.discard(asked.key)
        if isinstance(said, Failure):
            return await self._failed(asked, said, latency)
        try:
            return await self._store(asked, said, latency)
        finally:
            self.limiter.stored()
            self._sending.discard(asked.key)

    async def _send(self, asked: Keyed) -> Reply | Failure:
        """One attempt within its deadline, booked in the budget however it ends."""
        cost: float | None = None
        try:
            call = self.model.send(asked.request, asked.seed)
            said = await asyncio.wait_for(call, self._deadline)
            cost = said.cost if isinstance(said, Reply) else 0.0
        except asyncio.TimeoutError:
            return Failure("timeout", f"no answer within {self._deadline:g} s")
        finally:
            self._budget.settle(self.model.name, cost)
        return said

    async def _store(self, asked: Keyed, reply: Reply, latency: float) -> Answered:
        """Make the answer durable; what counts from then on is what the journal holds."""
        self._reached, self._unanswered = True, 0
        served = conceal(reply.served)
        if self.model.endpoint and served not in self._served:
            identity, endpoint = self.model.identity, self.model.endpoint
            self._journal.watch_endpoint(identity, endpoint, served, self._same_model)
            self._served.add(served)
        reply = replace(reply, text=conceal(reply.text), served=served)
        made = answer_entry(self.model, asked, reply, latency)
        held = await self._journal.put(made)
        self._ledger.answered(made, asked.role, latency)
        return Answered(reply_of(held), asked.key, replayed=False)

    async def _failed(self, asked: Keyed, failure: Failure, latency: float) -> Failure:
        """Record an attempt without an answer, its detail free of secrets."""
        kind, detail = failure.kind, redact(failure.detail)
        self._reached = self._reached or kind != "unreachable"
        self._ledger.attempted(kind, asked.role, latency)
        status = int(detail[5:8]) if detail[:5] == "HTTP " and detail[5:8].isdigit() else None
        now, name = time.time(), self.model.name
        await self._journal.attempt(
            Attempt(asked.key, name, asked.role, now, kind, detail, latency, status)
        )
        return replace(failure, detail=detail)

    async def _give_up(self, asked: Keyed, failure: Failure) -> Failure:
        """The row waits for another run, or is closed for good if the user says so."""
        self._ledger.failed(asked.key, asked.role, failure.kind)
        if self._closing:
            return failure
        if self._accept_failures:
            return failure_of(await self._journal.put(failure_entry(self.model, asked, failure)))
        self._unanswered += 1
        if self._unanswered >= _ROWS_BEFORE_GIVING_UP:
            raise self._hopeless(f"{self._unanswered} requests in a row failed", failure)
        return failure

    def _stop_if_hopeless(self, failure: Failure, attempt: int) -> None:
        """Stop the run where no retry and no other row can have better luck."""
        tried = attempt + 1 >= min(_TRIES_TO_REACH, self._retries + 1)
        if failure.fatal:
            raise self._hopeless("no use in going on", failure)
        if failure.kind == "unreachable" and not self._reached and tried:
            raise self._hopeless("the server cannot be reached", failure)

    def _hopeless(self, what: str, failure: Failure) -> OutsideWorld:
        place = f" at {self.model.endpoint}" if self.model.endpoint else ""
        said = f"{failure.kind}: {failure.detail}"
        mend = f"{_MENDS.get(failure.kind, 'See to the server.')} {_RESUME}"
        return OutsideWorld(f"{self.model.name}{place}: {what} ({said})", mend=mend)

    def _raise_if_stopped(self) -> None:
        # A fresh one each time: one exception raised in many tasks piles up their tracebacks.
        if self._stopped is not None:
            raise type(self._stopped)(self._stopped.what, self._stopped.where, self._stopped.mend)
